// More vectors of the level avx512, beside isa/simd_avx512.h. Meaning of the names: vec_portable.h.
#pragma once

#include "../isa/simd_avx512.h"

namespace octavo {
namespace OCTAVO_ISA {

using Vm = __mmask16;

OCTAVO_INLINE Vf f_div(Vf a, Vf b) { return _mm512_div_ps(a, b); }
OCTAVO_INLINE Vf f_max(Vf a, Vf b) { return _mm512_max_ps(a, b); }
OCTAVO_INLINE Vf f_min(Vf a, Vf b) { return _mm512_min_ps(a, b); }
OCTAVO_INLINE Vi f_bits(Vf a) { return _mm512_castps_si512(a); }
OCTAVO_INLINE Vf i_floats(Vi a) { return _mm512_castsi512_ps(a); }

OCTAVO_INLINE Vm m_first(int n) { return Vm(n >= 16 ? 0xffffu : (1u << n) - 1); }
OCTAVO_INLINE Vm m_and(Vm a, Vm b) { return Vm(a & b); }
OCTAVO_INLINE uint32_t m_bits(Vm m) { return m; }
OCTAVO_INLINE Vm m_ge(Vf a, Vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GE_OQ); }
OCTAVO_INLINE Vm m_gt(Vf a, Vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
OCTAVO_INLINE Vm m_eq(Vf a, Vf b) { return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ); }
OCTAVO_INLINE Vf f_select(Vm m, Vf a, Vf b) { return _mm512_mask_blend_ps(m, b, a); }

OCTAVO_INLINE Vf f_load_first(const float* p, int n) { return _mm512_maskz_loadu_ps(m_first(n), p); }
OCTAVO_INLINE void f_store_first(float* p, int n, Vf a) { _mm512_mask_storeu_ps(p, m_first(n), a); }

OCTAVO_INLINE float f_sum(Vf a) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
OCTAVO_INLINE float f_largest(Vf a) {
  const __m256 eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));
  __m128 m = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  m = _mm_max_ps(m, _mm_movehl_ps(m, m));
  return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
}

OCTAVO_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
OCTAVO_INLINE Vf f_from_bf16(const uint16_t* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(load256(p)), 16));
}
OCTAVO_INLINE Vf f_from_half(const uint16_t* p) { return _mm512_cvtph_ps(load256(p)); }
OCTAVO_INLINE void f_store_half(uint16_t* p, Vf a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT));
}
// Not vcvtneps2bf16: that one flushes subnormals.
OCTAVO_INLINE void f_store_bf16(uint16_t* p, Vf a) {
  const __m512i bits = _mm512_castps_si512(a), one = _mm512_set1_epi32(1);
  const __m512i even = _mm512_and_si512(_mm512_srli_epi32(bits, 16), one);
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(even, _mm512_set1_epi32(0x7fff)));
  const __m512i nan = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i word = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), rounded, nan);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(_mm512_srli_epi32(word, 16)));
}

#if defined(__AVX512BF16__)
// The instruction: subnormals become zero.
OCTAVO_INLINE void f_store_bf16_fast(uint16_t* p, Vf a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), (__m256i)_mm512_cvtneps_pbh(a));
}
#endif

OCTAVO_INLINE Vi dot4_any(Vi acc, Vb line, const int8_t* four) { return dot4<true>(acc, line, four); }

}  // namespace OCTAVO_ISA
}  // namespace octavo
