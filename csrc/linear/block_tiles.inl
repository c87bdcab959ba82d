// Products of block formats with q8 activations: tiles of M rows x G groups of 16 outputs.
namespace octavo {
namespace OCTAVO_ISA {

struct GroupAt {
  const uint8_t* quants;
  const uint8_t* scales;
};

// The part of the int32 start that removes the offset of unsigned values: -offset * sum of the block or its half.
template <class C> OCTAVO_INLINE Vi start_of_block(const ActBlock& x) {
  if constexpr (C::offset == 0) return i_zero();
  else if constexpr (C::offset == 128) return i_set1(x.offset);
  else if constexpr (C::offset == 16) return i_sar<3>(i_set1(x.offset));
  else { static_assert(C::offset == 8); return i_sar<4>(i_set1(x.offset)); }
}

OCTAVO_INLINE Vi both_halves(const ActBlock& x) {
  int32_t pair;
  std::memcpy(&pair, x.halves, 4);
  return i_set1(pair);
}

template <class C, int half> OCTAVO_INLINE Vi start_of_half(const ActBlock& x) {
  if constexpr (C::offset == 0) return i_zero();
  else if constexpr (C::offset == 32) return i_set1(x.half_offsets[half]);
  else { static_assert(C::offset == 4); return i_sar<3>(i_set1(x.half_offsets[half])); }
}

}  // namespace OCTAVO_ISA
}  // namespace octavo

#include "row_pairs.inl"

namespace octavo {
namespace OCTAVO_ISA {

// acc[m][g] += block. Formats with one scale per 32 inputs.
template <class C, int M, int G>
OCTAVO_INLINE void add_block(const GroupAt (&at)[G], const Scales (&scales)[G], const ActBlock* const (&x)[M],
                             Vf (&acc)[M][G]) {
  Vi dot[M][G];
  unroll<M>(OCTAVO_LAMBDA(m_) {
    constexpr int m = decltype(m_)::value;
    const Vi start = start_of_block<C>(*x[m]);
    unroll<G>(OCTAVO_LAMBDA(g_) { dot[m][decltype(g_)::value] = start; });
  });
  if constexpr (has_row_pairs && M % 2 == 0) add_row_pairs<C, 0, 8>(at, x, dot);
  else unroll<8>(OCTAVO_LAMBDA(k_) {
    constexpr int k = decltype(k_)::value;
    Vb line[G];
    unroll<G>(OCTAVO_LAMBDA(g_) { constexpr int g = decltype(g_)::value; line[g] = C::template line<k>(at[g].quants); });
    unroll<M>(OCTAVO_LAMBDA(m_) {
      constexpr int m = decltype(m_)::value;
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        dot[m][g] = dot4<C::full>(dot[m][g], line[g], x[m]->values + 4 * k);
      });
    });
  });
  unroll<M>(OCTAVO_LAMBDA(m_) {
    constexpr int m = decltype(m_)::value;
    const Vf x_scale = f_set1(x[m]->scale);
    unroll<G>(OCTAVO_LAMBDA(g_) {
      constexpr int g = decltype(g_)::value;
      acc[m][g] = f_fma(f_mul(scales[g].scale, x_scale), f_from_i(dot[m][g]), acc[m][g]);
      if constexpr (C::scaling == Scaling::minimum)
        acc[m][g] = f_fma(scales[g].min, f_set1(x[m]->weighted_sum), acc[m][g]);
    });
  });
}

// acc[m][g] += block. Formats with one scale per 16 inputs.
template <class C, int M, int G>
OCTAVO_INLINE void add_halves(const GroupAt (&at)[G], const Scales (&scales)[G], const ActBlock* const (&x)[M],
                              Vf (&acc)[M][G]) {
  Vi total[M][G];
  unroll<2>(OCTAVO_LAMBDA(h_) {
    constexpr int half = decltype(h_)::value;
    Vi dot[M][G];
    unroll<M>(OCTAVO_LAMBDA(m_) {
      constexpr int m = decltype(m_)::value;
      const Vi start = start_of_half<C, half>(*x[m]);
      unroll<G>(OCTAVO_LAMBDA(g_) { dot[m][decltype(g_)::value] = start; });
    });
    if constexpr (has_row_pairs && M % 2 == 0) add_row_pairs<C, 4 * half, 4>(at, x, dot);
    else unroll<4>(OCTAVO_LAMBDA(k_) {
      constexpr int k = 4 * half + decltype(k_)::value;
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        const Vb line = C::template line<k>(at[g].quants);
        unroll<M>(OCTAVO_LAMBDA(m_) {
          constexpr int m = decltype(m_)::value;
          dot[m][g] = dot4<C::full>(dot[m][g], line, x[m]->values + 4 * k);
        });
      });
    });
    unroll<M>(OCTAVO_LAMBDA(m_) {
      constexpr int m = decltype(m_)::value;
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        if constexpr (half == 0) total[m][g] = i_mul(scales[g].first, dot[m][g]);
        else total[m][g] = i_add(total[m][g], i_mul(scales[g].second, dot[m][g]));
      });
    });
  });
  unroll<M>(OCTAVO_LAMBDA(m_) {
    constexpr int m = decltype(m_)::value;
    const Vf x_scale = f_set1(x[m]->scale);
    unroll<G>(OCTAVO_LAMBDA(g_) {
      constexpr int g = decltype(g_)::value;
      acc[m][g] = f_fma(f_mul(scales[g].scale, x_scale), f_from_i(total[m][g]), acc[m][g]);
      if constexpr (C::scaling == Scaling::halves_minimum)
        acc[m][g] = f_fma(f_mul(scales[g].min, x_scale), f_from_i(i_madd16(both_halves(*x[m]), scales[g].minima)),
                          acc[m][g]);
    });
  });
}

// The whole of K for M rows and G groups that lie group_step bytes apart.
template <class C, int M, int G>
OCTAVO_INLINE void block_tile(const uint8_t* group, size_t group_step, size_t quant_area, int64_t blocks,
                              const uint8_t* const (&rows)[M], Ahead ahead, Vf (&acc)[M][G]) {
  GroupAt at[G];
  const ActBlock* x[M];
  unroll<G>(OCTAVO_LAMBDA(g_) {
    constexpr int g = decltype(g_)::value;
    at[g].quants = group + size_t(g) * group_step;
    at[g].scales = at[g].quants + quant_area;
  });
  unroll<M>(OCTAVO_LAMBDA(m_) {
    constexpr int m = decltype(m_)::value;
    x[m] = reinterpret_cast<const ActBlock*>(rows[m]);
  });
  clear(acc);
  for (int64_t s = 0; s < blocks / C::per_super; s++) {
    typename C::Super super[G];
    unroll<G>(OCTAVO_LAMBDA(g_) { constexpr int g = decltype(g_)::value; C::Super::decode(super[g], at[g].scales); });
#pragma GCC unroll 1
    for (int b = 0; b < C::per_super; b++) {
      Scales scales[G];
      Ahead::fetch(ahead);
      unroll<G>(OCTAVO_LAMBDA(g_) {
        constexpr int g = decltype(g_)::value;
        scales[g] = C::scales(super[g], at[g].scales, b);
      });
      if constexpr (C::scaling == Scaling::plain || C::scaling == Scaling::minimum)
        add_block<C, M, G>(at, scales, x, acc);
      else
        add_halves<C, M, G>(at, scales, x, acc);
      unroll<G>(OCTAVO_LAMBDA(g_) { at[decltype(g_)::value].quants += C::quant_bytes; });
      unroll<M>(OCTAVO_LAMBDA(m_) { x[decltype(m_)::value]++; });
    }
    unroll<G>(OCTAVO_LAMBDA(g_) { at[decltype(g_)::value].scales += C::scale_bytes; });
  }
}

// One group in the format C to a panel: lines, then scales.
template <class C>
static __attribute__((noinline)) void unpack_panel(const uint8_t* group, size_t quant_area, int64_t blocks,
                                                   uint8_t* panel) {
  using Panel = PanelCodec<C::scaling, C::offset>;
  const uint8_t* quants = group;
  const uint8_t* scales = group + quant_area;
  uint8_t* lines = panel;
  uint8_t* fields = panel + size_t(blocks) * Panel::quant_bytes;
  for (int64_t s = 0; s < blocks / C::per_super; s++, scales += C::scale_bytes) {
    typename C::Super super;
    C::Super::decode(super, scales);
    for (int b = 0; b < C::per_super; b++) {
      unroll<8>(OCTAVO_LAMBDA(k_) {
        constexpr int k = decltype(k_)::value;
        b_store(lines + 64 * k, C::template line<k>(quants));
      });
      Panel::store_scales(fields, C::scales(super, scales, b));
      quants += C::quant_bytes;
      lines += Panel::quant_bytes;
      fields += Panel::scale_bytes;
    }
  }
}

// Where the kernels read a weight: the groups themselves, or panels of some of them.
template <class C> struct BlockKernel {
  // Groups of a tile of 8 rows. Two streams of memory beat one; formats that unpack need the registers instead.
  static constexpr int wide_groups = C::full ? 2 : 1;
  static constexpr int min_fetch_rows = 1;
  OCTAVO_INLINE int64_t num_fetches(const Matrix& w) { return w.steps; }
  template <int M, int G>
  OCTAVO_INLINE void tile(const Matrix& w, int64_t group, const uint8_t* const (&rows)[M], Ahead ahead,
                          Vf (&acc)[M][G]) {
    block_tile<C, M, G>(w.data + size_t(group) * w.group_step, w.group_step, w.quant_area, w.steps, rows, ahead, acc);
  }
};

}  // namespace OCTAVO_ISA
}  // namespace octavo
