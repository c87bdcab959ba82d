// Products of F32, F16 and BF16 weights: tiles of M rows x G groups of 16 outputs.
namespace octavo {
namespace OCTAVO_ISA {

template <Format F> struct FloatKernel {
  static constexpr int wide_groups = 2;
  // Bytes of one step (one input; BF16: a pair) of a group.
  static constexpr size_t step_bytes = F == Format::F16 ? 32 : 64;

  static constexpr int unrolled_steps = 8;
  // Steps between two fetches of what comes next: few lines at a time, or the loads of the products wait behind them.
  static constexpr int fetch_steps = 4;
  // Tiles of fewer rows only read, in long runs that the processor follows by itself.
  static constexpr int min_fetch_rows = 8;
  OCTAVO_INLINE int64_t num_fetches(const Matrix& w) { return (w.steps + fetch_steps - 1) / fetch_steps; }

  template <int M, int G>
  OCTAVO_INLINE void tile(const Matrix& w, int64_t group, const uint8_t* const (&rows)[M], Ahead ahead,
                          Vf (&acc)[M][G]) {
    const uint8_t* at[G];
    unroll<G>(OCTAVO_LAMBDA(g_) {
      constexpr int g = decltype(g_)::value;
      at[g] = w.data + size_t(group + g) * w.group_step;
    });
    clear(acc);
    int64_t j = 0;
    for (; j + unrolled_steps <= w.steps; j += unrolled_steps) {
      unroll<unrolled_steps>(OCTAVO_LAMBDA(i_) {
        constexpr int i = decltype(i_)::value;
        if constexpr (i % fetch_steps == 0) Ahead::fetch(ahead);
        add_step<M, G, i>(at, rows, j, acc);
      });
      unroll<G>(OCTAVO_LAMBDA(g_) { at[decltype(g_)::value] += unrolled_steps * step_bytes; });
    }
    for (; j < w.steps; j++) {
      add_step<M, G, 0>(at, rows, j, acc);
      unroll<G>(OCTAVO_LAMBDA(g_) { at[decltype(g_)::value] += step_bytes; });
    }
  }

  // Step j + i; `at` is at step j.
  template <int M, int G, int i>
  OCTAVO_INLINE void add_step(const uint8_t* const (&at)[G], const uint8_t* const (&rows)[M], int64_t j,
                              Vf (&acc)[M][G]) {
    if constexpr (F == Format::BF16) {
      Vb line[G];
      unroll<G>(OCTAVO_LAMBDA(g_) { constexpr int g = decltype(g_)::value; line[g] = b_load(at[g] + i * step_bytes); });
      unroll<M>(OCTAVO_LAMBDA(m_) {
        constexpr int m = decltype(m_)::value;
        add_pair<M, G, m>(line, rows[m] + 4 * (j + i), acc);
      });
    } else {
      Vf w[G];
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        if constexpr (F == Format::F32) w[g] = f_load(reinterpret_cast<const float*>(at[g] + i * step_bytes));
        else w[g] = f_from_f16(at[g] + i * step_bytes);
      });
      unroll<M>(OCTAVO_LAMBDA(m_) {
        constexpr int m = decltype(m_)::value;
        const Vf x = f_set1(reinterpret_cast<const float*>(rows[m])[j + i]);
        unroll<G>(OCTAVO_LAMBDA(g_) {
          constexpr int g = decltype(g_)::value;
          acc[m][g] = f_fma(w[g], x, acc[m][g]);
        });
      });
    }
  }

  template <int M, int G, int m>
  OCTAVO_INLINE void add_pair(const Vb (&line)[G], const uint8_t* pair, Vf (&acc)[M][G]) {
    uint32_t bits;
    std::memcpy(&bits, pair, 4);
    if constexpr (has_native_bf16) {
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        acc[m][g] = f_dot_bf16(acc[m][g], line[g], int32_t(bits));
      });
    } else {
      const Vf even = f_set1(bits_to_float(bits << 16)), odd = f_set1(bits_to_float(bits & 0xffff0000));
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        acc[m][g] = f_fma(f_bf16_odd(line[g]), odd, f_fma(f_bf16_even(line[g]), even, acc[m][g]));
      });
    }
  }
};

}  // namespace OCTAVO_ISA
}  // namespace octavo
