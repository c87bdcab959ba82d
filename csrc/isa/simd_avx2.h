// Vectors of the level avx2: 16 lanes in two registers. Meaning of the names: simd_portable.h.
#pragma once

#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#define OCTAVO_INLINE static inline __attribute__((always_inline))

namespace octavo {
namespace OCTAVO_ISA {

struct Vf { __m256 lo, hi; };
struct Vi { __m256i lo, hi; };
using Vb = Vi;

constexpr bool has_native_bf16 = false;
constexpr int num_vector_registers = 8;

OCTAVO_INLINE float bits_to_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
OCTAVO_INLINE uint32_t float_to_bits(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }
OCTAVO_INLINE float half_to_float(uint16_t h) { return _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(h))); }
OCTAVO_INLINE __m256i load256(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
OCTAVO_INLINE __m128i load128(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }

OCTAVO_INLINE Vf f_zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
OCTAVO_INLINE Vf f_set1(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
OCTAVO_INLINE Vf f_load(const float* p) { return {_mm256_loadu_ps(p), _mm256_loadu_ps(p + 8)}; }
OCTAVO_INLINE void f_store(float* p, Vf a) { _mm256_storeu_ps(p, a.lo); _mm256_storeu_ps(p + 8, a.hi); }
OCTAVO_INLINE Vf f_add(Vf a, Vf b) { return {_mm256_add_ps(a.lo, b.lo), _mm256_add_ps(a.hi, b.hi)}; }
OCTAVO_INLINE Vf f_sub(Vf a, Vf b) { return {_mm256_sub_ps(a.lo, b.lo), _mm256_sub_ps(a.hi, b.hi)}; }
OCTAVO_INLINE Vf f_mul(Vf a, Vf b) { return {_mm256_mul_ps(a.lo, b.lo), _mm256_mul_ps(a.hi, b.hi)}; }
OCTAVO_INLINE Vf f_fma(Vf a, Vf b, Vf c) {
  return {_mm256_fmadd_ps(a.lo, b.lo, c.lo), _mm256_fmadd_ps(a.hi, b.hi, c.hi)};
}
OCTAVO_INLINE Vf f_from_i(Vi a) { return {_mm256_cvtepi32_ps(a.lo), _mm256_cvtepi32_ps(a.hi)}; }
OCTAVO_INLINE Vf f_neg(Vf a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_xor_ps(a.lo, sign), _mm256_xor_ps(a.hi, sign)};
}
OCTAVO_INLINE Vf f_from_f16(const uint8_t* p) {
  return {_mm256_cvtph_ps(load128(p)), _mm256_cvtph_ps(load128(p + 16))};
}

OCTAVO_INLINE Vi i_zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
OCTAVO_INLINE Vi i_set1(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
OCTAVO_INLINE Vi i_load(const void* p) { return {load256(p), load256(static_cast<const uint8_t*>(p) + 32)}; }
OCTAVO_INLINE void i_store(void* p, Vi a) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), a.lo);
  _mm256_storeu_si256(static_cast<__m256i*>(p) + 1, a.hi);
}
OCTAVO_INLINE Vi i_add(Vi a, Vi b) { return {_mm256_add_epi32(a.lo, b.lo), _mm256_add_epi32(a.hi, b.hi)}; }
OCTAVO_INLINE Vi i_mul(Vi a, Vi b) { return {_mm256_mullo_epi32(a.lo, b.lo), _mm256_mullo_epi32(a.hi, b.hi)}; }
OCTAVO_INLINE Vi i_and(Vi a, Vi b) { return {_mm256_and_si256(a.lo, b.lo), _mm256_and_si256(a.hi, b.hi)}; }
OCTAVO_INLINE Vi i_or(Vi a, Vi b) { return {_mm256_or_si256(a.lo, b.lo), _mm256_or_si256(a.hi, b.hi)}; }
OCTAVO_INLINE Vi i_max(Vi a, Vi b) { return {_mm256_max_epi32(a.lo, b.lo), _mm256_max_epi32(a.hi, b.hi)}; }
template <int N> OCTAVO_INLINE Vi i_shl(Vi a) { return {_mm256_slli_epi32(a.lo, N), _mm256_slli_epi32(a.hi, N)}; }
template <int N> OCTAVO_INLINE Vi i_sar(Vi a) { return {_mm256_srai_epi32(a.lo, N), _mm256_srai_epi32(a.hi, N)}; }
OCTAVO_INLINE Vi i_madd16(Vi a, Vi b) { return {_mm256_madd_epi16(a.lo, b.lo), _mm256_madd_epi16(a.hi, b.hi)}; }
OCTAVO_INLINE Vi i_from_u8(const uint8_t* p) {
  const __m128i bytes = load128(p);
  return {_mm256_cvtepu8_epi32(bytes), _mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8))};
}
OCTAVO_INLINE Vi i_from_i8(const uint8_t* p) {
  const __m128i bytes = load128(p);
  return {_mm256_cvtepi8_epi32(bytes), _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8))};
}
OCTAVO_INLINE void i_store_i8(int8_t* p, Vi a) {
  const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.lo, a.hi), 0xd8);
  const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), bytes);
}
OCTAVO_INLINE int32_t i_sum(Vi a) {
  const __m256i both = _mm256_add_epi32(a.lo, a.hi);
  __m128i s = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  s = _mm_add_epi32(s, _mm_shuffle_epi32(s, 0x4e));
  return _mm_cvtsi128_si32(_mm_add_epi32(s, _mm_shuffle_epi32(s, 0xb1)));
}
OCTAVO_INLINE int32_t i_largest(Vi a) {
  const __m256i both = _mm256_max_epi32(a.lo, a.hi);
  __m128i m = _mm_max_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
  m = _mm_max_epi32(m, _mm_shuffle_epi32(m, 0x4e));
  return _mm_cvtsi128_si32(_mm_max_epi32(m, _mm_shuffle_epi32(m, 0xb1)));
}
OCTAVO_INLINE Vi i_abs_bits(Vf a) {
  const __m256i mask = _mm256_set1_epi32(0x7fffffff);
  return {_mm256_and_si256(_mm256_castps_si256(a.lo), mask), _mm256_and_si256(_mm256_castps_si256(a.hi), mask)};
}
OCTAVO_INLINE Vi i_round(Vf a) { return {_mm256_cvtps_epi32(a.lo), _mm256_cvtps_epi32(a.hi)}; }

OCTAVO_INLINE Vb b_load(const uint8_t* p) { return i_load(p); }
OCTAVO_INLINE void b_store(uint8_t* p, Vb a) { i_store(p, a); }
OCTAVO_INLINE Vb b_load_unaligned(const uint8_t* p) { return i_load(p); }
template <int n> OCTAVO_INLINE __m256i shift_mask(__m256i a, uint8_t mask) {
  if constexpr (n > 0) a = _mm256_slli_epi16(a, n);
  if constexpr (n < 0) a = _mm256_srli_epi16(a, -n);
  return _mm256_and_si256(a, _mm256_set1_epi8(char(mask)));
}
template <int n> OCTAVO_INLINE Vb b_shift_mask(Vb a, uint8_t mask) {
  return {shift_mask<n>(a.lo, mask), shift_mask<n>(a.hi, mask)};
}
OCTAVO_INLINE Vb b_or(Vb a, Vb b) { return i_or(a, b); }

// Pairs of products are summed in int16. Bytes up to 128 with activations in [-127, 127] stay below 32768. Larger bytes
// (full) become the magnitudes of the signed values, and their signs go to the activations: no offset is left.
constexpr bool takes_signs = true;
template <bool full> OCTAVO_INLINE __m256i dot4_half(__m256i acc, __m256i line, __m256i x) {
  if constexpr (full) {
    const __m256i w = _mm256_xor_si256(line, _mm256_set1_epi8(-128));
    const __m256i pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  } else {
    return _mm256_add_epi32(acc, _mm256_madd_epi16(_mm256_maddubs_epi16(line, x), _mm256_set1_epi16(1)));
  }
}
template <bool full> OCTAVO_INLINE Vi dot4(Vi acc, Vb line, const int8_t* four) {
  int32_t bytes;
  std::memcpy(&bytes, four, 4);
  const __m256i x = _mm256_set1_epi32(bytes);
  return {dot4_half<full>(acc.lo, line.lo, x), dot4_half<full>(acc.hi, line.hi, x)};
}

OCTAVO_INLINE Vf f_bf16_even(Vb a) {
  return {_mm256_castsi256_ps(_mm256_slli_epi32(a.lo, 16)), _mm256_castsi256_ps(_mm256_slli_epi32(a.hi, 16))};
}
OCTAVO_INLINE Vf f_bf16_odd(Vb a) {
  const __m256i mask = _mm256_set1_epi32(int32_t(0xffff0000));
  return {_mm256_castsi256_ps(_mm256_and_si256(a.lo, mask)), _mm256_castsi256_ps(_mm256_and_si256(a.hi, mask))};
}

}  // namespace OCTAVO_ISA
}  // namespace octavo
