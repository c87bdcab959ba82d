// Dot products of two rows at a time, where the processor multiplies 2 x 8 by 8 x 2 bytes in one instruction (aarch64
// with i8mm). The sums are exact, so they equal those of single rows.
namespace octavo {
namespace OCTAVO_ISA {

#if defined(__ARM_FEATURE_MATMUL_INT8)

constexpr bool has_row_pairs = true;

// Lines k and k + 1 as eight pairs of outputs, each output with its 8 inputs side by side.
OCTAVO_INLINE void pair_outputs(const Vb& low, const Vb& high, int8x16_t (&w)[8]) {
  const auto zip = [](uint8x16_t a, uint8x16_t b, int8x16_t& first, int8x16_t& second) __attribute__((always_inline)) {
    const int32x4_t x = vreinterpretq_s32_u8(a), y = vreinterpretq_s32_u8(b);
    first = vreinterpretq_s8_s32(vzip1q_s32(x, y));
    second = vreinterpretq_s8_s32(vzip2q_s32(x, y));
  };
  zip(low.a, high.a, w[0], w[1]);
  zip(low.b, high.b, w[2], w[3]);
  zip(low.c, high.c, w[4], w[5]);
  zip(low.d, high.d, w[6], w[7]);
}

// A register holds two outputs of the first row, then of the second: to one register for each row.
OCTAVO_INLINE void add_pair_sums(const int32x4_t (&sums)[8], Vi& first, Vi& second) {
  const auto add = [](int32x4_t a, int32x4_t b, int32x4_t& one, int32x4_t& other) __attribute__((always_inline)) {
    const int64x2_t x = vreinterpretq_s64_s32(a), y = vreinterpretq_s64_s32(b);
    one = vaddq_s32(one, vreinterpretq_s32_s64(vzip1q_s64(x, y)));
    other = vaddq_s32(other, vreinterpretq_s32_s64(vzip2q_s64(x, y)));
  };
  add(sums[0], sums[1], first.a, second.a);
  add(sums[2], sums[3], first.b, second.b);
  add(sums[4], sums[5], first.c, second.c);
  add(sums[6], sums[7], first.d, second.d);
}

// dot[m][g] += lines First .. First + Count of a block, for an even number of rows.
template <class C, int First, int Count, int M, int G>
OCTAVO_INLINE void add_row_pairs(const GroupAt (&at)[G], const ActBlock* const (&x)[M], Vi (&dot)[M][G]) {
  static_assert(M % 2 == 0 && Count % 2 == 0);
  int32x4_t sums[M / 2][G][8];
  unroll<M / 2>(OCTAVO_LAMBDA(p_) {
    unroll<G>(OCTAVO_LAMBDA(g_) {
      unroll<8>(OCTAVO_LAMBDA(i_) {
        sums[decltype(p_)::value][decltype(g_)::value][decltype(i_)::value] = vdupq_n_s32(0);
      });
    });
  });
  unroll<Count / 2>(OCTAVO_LAMBDA(j_) {
    constexpr int k = First + 2 * decltype(j_)::value;
    unroll<G>(OCTAVO_LAMBDA(g_) {
      constexpr int g = decltype(g_)::value;
      int8x16_t w[8];
      pair_outputs(C::template line<k>(at[g].quants), C::template line<k + 1>(at[g].quants), w);
      unroll<M / 2>(OCTAVO_LAMBDA(p_) {
        constexpr int p = decltype(p_)::value;
        const int8x16_t rows = vcombine_s8(vld1_s8(x[2 * p]->values + 4 * k), vld1_s8(x[2 * p + 1]->values + 4 * k));
        unroll<8>(OCTAVO_LAMBDA(i_) {
          constexpr int i = decltype(i_)::value;
          sums[p][g][i] = vmmlaq_s32(sums[p][g][i], rows, w[i]);
        });
      });
    });
  });
  unroll<M / 2>(OCTAVO_LAMBDA(p_) {
    constexpr int p = decltype(p_)::value;
    unroll<G>(OCTAVO_LAMBDA(g_) {
      constexpr int g = decltype(g_)::value;
      add_pair_sums(sums[p][g], dot[2 * p][g], dot[2 * p + 1][g]);
    });
  });
}

#else

constexpr bool has_row_pairs = false;

#endif

}  // namespace OCTAVO_ISA
}  // namespace octavo
