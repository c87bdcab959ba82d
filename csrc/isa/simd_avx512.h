// Vectors of the levels avx512 and avx512_bf16: 16 lanes in one register. Meaning of the names: simd_portable.h.
#pragma once

#include <immintrin.h>

// GCC 12 takes the deliberately undefined operands inside its own intrinsics for mistakes.
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#include <cmath>
#include <cstdint>
#include <cstring>

#define OCTAVO_INLINE static inline __attribute__((always_inline))

namespace octavo {
namespace OCTAVO_ISA {

using Vf = __m512;
using Vi = __m512i;
using Vb = __m512i;

#if defined(__AVX512BF16__)
constexpr bool has_native_bf16 = true;
#else
constexpr bool has_native_bf16 = false;
#endif
constexpr int num_vector_registers = 32;
constexpr bool takes_signs = false;

OCTAVO_INLINE float bits_to_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
OCTAVO_INLINE uint32_t float_to_bits(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }
OCTAVO_INLINE float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }

OCTAVO_INLINE Vf f_zero() { return _mm512_setzero_ps(); }
OCTAVO_INLINE Vf f_set1(float x) { return _mm512_set1_ps(x); }
OCTAVO_INLINE Vf f_load(const float* p) { return _mm512_loadu_ps(p); }
OCTAVO_INLINE void f_store(float* p, Vf a) { _mm512_storeu_ps(p, a); }
OCTAVO_INLINE Vf f_add(Vf a, Vf b) { return _mm512_add_ps(a, b); }
OCTAVO_INLINE Vf f_sub(Vf a, Vf b) { return _mm512_sub_ps(a, b); }
OCTAVO_INLINE Vf f_mul(Vf a, Vf b) { return _mm512_mul_ps(a, b); }
OCTAVO_INLINE Vf f_fma(Vf a, Vf b, Vf c) { return _mm512_fmadd_ps(a, b, c); }
OCTAVO_INLINE Vf f_from_i(Vi a) { return _mm512_cvtepi32_ps(a); }
OCTAVO_INLINE Vf f_neg(Vf a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }
OCTAVO_INLINE Vf f_from_f16(const uint8_t* p) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}

OCTAVO_INLINE Vi i_zero() { return _mm512_setzero_si512(); }
OCTAVO_INLINE Vi i_set1(int32_t x) { return _mm512_set1_epi32(x); }
OCTAVO_INLINE Vi i_load(const void* p) { return _mm512_loadu_si512(p); }
OCTAVO_INLINE void i_store(void* p, Vi a) { _mm512_storeu_si512(p, a); }
OCTAVO_INLINE Vi i_add(Vi a, Vi b) { return _mm512_add_epi32(a, b); }
OCTAVO_INLINE Vi i_mul(Vi a, Vi b) { return _mm512_mullo_epi32(a, b); }
OCTAVO_INLINE Vi i_and(Vi a, Vi b) { return _mm512_and_si512(a, b); }
OCTAVO_INLINE Vi i_or(Vi a, Vi b) { return _mm512_or_si512(a, b); }
OCTAVO_INLINE Vi i_max(Vi a, Vi b) { return _mm512_max_epi32(a, b); }
template <int N> OCTAVO_INLINE Vi i_shl(Vi a) { return _mm512_slli_epi32(a, N); }
template <int N> OCTAVO_INLINE Vi i_sar(Vi a) { return _mm512_srai_epi32(a, N); }
OCTAVO_INLINE Vi i_madd16(Vi a, Vi b) { return _mm512_madd_epi16(a, b); }
OCTAVO_INLINE Vi i_from_u8(const uint8_t* p) {
  return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
OCTAVO_INLINE Vi i_from_i8(const uint8_t* p) {
  return _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
OCTAVO_INLINE void i_store_i8(int8_t* p, Vi a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a));
}
OCTAVO_INLINE int32_t i_sum(Vi a) { return _mm512_reduce_add_epi32(a); }
OCTAVO_INLINE int32_t i_largest(Vi a) { return _mm512_reduce_max_epi32(a); }
OCTAVO_INLINE Vi i_abs_bits(Vf a) { return _mm512_and_si512(_mm512_castps_si512(a), _mm512_set1_epi32(0x7fffffff)); }
OCTAVO_INLINE Vi i_round(Vf a) { return _mm512_cvtps_epi32(a); }

OCTAVO_INLINE Vb b_load(const uint8_t* p) { return _mm512_load_si512(p); }
OCTAVO_INLINE void b_store(uint8_t* p, Vb a) { _mm512_store_si512(p, a); }
OCTAVO_INLINE Vb b_load_unaligned(const uint8_t* p) { return _mm512_loadu_si512(p); }
template <int n> OCTAVO_INLINE Vb b_shift_mask(Vb a, uint8_t mask) {
  if constexpr (n > 0) a = _mm512_slli_epi16(a, n);
  if constexpr (n < 0) a = _mm512_srli_epi16(a, -n);
  return _mm512_and_si512(a, _mm512_set1_epi8(char(mask)));
}
OCTAVO_INLINE Vb b_or(Vb a, Vb b) { return _mm512_or_si512(a, b); }

template <bool full> OCTAVO_INLINE Vi dot4(Vi acc, Vb line, const int8_t* four) {
  int32_t bytes;
  std::memcpy(&bytes, four, 4);
  return _mm512_dpbusd_epi32(acc, line, _mm512_set1_epi32(bytes));
}

OCTAVO_INLINE Vf f_bf16_even(Vb a) { return _mm512_castsi512_ps(_mm512_slli_epi32(a, 16)); }
OCTAVO_INLINE Vf f_bf16_odd(Vb a) {
  return _mm512_castsi512_ps(_mm512_and_si512(a, _mm512_set1_epi32(int32_t(0xffff0000))));
}
#if defined(__AVX512BF16__)
OCTAVO_INLINE Vf f_dot_bf16(Vf acc, Vb line, int32_t pair) {
  return _mm512_dpbf16_ps(acc, (__m512bh)line, (__m512bh)_mm512_set1_epi32(pair));
}
#endif

}  // namespace OCTAVO_ISA
}  // namespace octavo
