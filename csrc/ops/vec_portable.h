// More vectors of the portable level, beside isa/simd_portable.h: what norms, softmax, rope and sampling need.
//
// All vec_*.h give the same names with the same bits. Vm is a mask of 16 lanes. Comparisons with NaN are false;
// f_max and f_min give their second argument where either is NaN.
#pragma once

#include "../isa/simd_portable.h"

namespace octavo {
namespace OCTAVO_ISA {

using Vm = Vi;  // all ones or zero

OCTAVO_INLINE Vf f_div(Vf a, Vf b) { return a / b; }
OCTAVO_INLINE Vf f_max(Vf a, Vf b) { return a > b ? a : b; }
OCTAVO_INLINE Vf f_min(Vf a, Vf b) { return a < b ? a : b; }
OCTAVO_INLINE Vi f_bits(Vf a) { return (Vi)a; }
OCTAVO_INLINE Vf i_floats(Vi a) { return (Vf)a; }

OCTAVO_INLINE Vm m_first(int n) { return Vi{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15} < i_set1(n); }
OCTAVO_INLINE Vm m_and(Vm a, Vm b) { return a & b; }
OCTAVO_INLINE uint32_t m_bits(Vm m) {
  uint32_t bits = 0;
  for (int i = 0; i < 16; i++) bits |= uint32_t(m[i] & 1) << i;
  return bits;
}
OCTAVO_INLINE Vm m_ge(Vf a, Vf b) { return a >= b; }
OCTAVO_INLINE Vm m_gt(Vf a, Vf b) { return a > b; }
OCTAVO_INLINE Vm m_eq(Vf a, Vf b) { return a == b; }
OCTAVO_INLINE Vf f_select(Vm m, Vf a, Vf b) { return m ? a : b; }

// The first n lanes (0 < n <= 16) of memory; the others are zero and not touched.
OCTAVO_INLINE Vf f_load_first(const float* p, int n) {
  Vf r = f_zero();
  std::memcpy(&r, p, size_t(n) * 4);
  return r;
}
OCTAVO_INLINE void f_store_first(float* p, int n, Vf a) { std::memcpy(p, &a, size_t(n) * 4); }

// Pairwise at distance 8, 4, 2, 1.
OCTAVO_INLINE float f_sum(Vf a) {
  float lanes[16];
  f_store(lanes, a);
  for (int step = 8; step > 0; step /= 2)
    for (int i = 0; i < step; i++) lanes[i] += lanes[i + step];
  return lanes[0];
}
OCTAVO_INLINE float f_largest(Vf a) {
  float m = a[0];
  for (int i = 1; i < 16; i++) m = a[i] > m ? a[i] : m;
  return m;
}

OCTAVO_INLINE Vf f_from_bf16(const uint16_t* p) {
  Vi wide;
  for (int i = 0; i < 16; i++) wide[i] = int32_t(uint32_t(p[i]) << 16);
  return (Vf)wide;
}
// Integers throughout: the worker's floating-point mode may flush subnormal floats.
OCTAVO_INLINE float from_half(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 0x1f, fraction = h & 0x3ff;
  if (exponent == 0) return bits_to_float(sign | float_to_bits(float(fraction) * 0x1p-24f));
  return bits_to_float(sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | fraction << 13);
}
OCTAVO_INLINE uint16_t to_half(float x) {
  const uint32_t bits = float_to_bits(x), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
  if (rest > 0x7f800000) return uint16_t(sign | 0x7e00 | (rest >> 13 & 0x3ff));
  if (rest >= 0x47800000) return uint16_t(sign | 0x7c00);  // 65536 and beyond
  const int exponent = int(rest >> 23) - 112;              // biased as in a half
  if (exponent < -10) return uint16_t(sign);
  const uint32_t fraction = (rest & 0x7fffff) | (exponent < 1 ? 0x800000u : 0);
  const int shift = exponent < 1 ? 14 - exponent : 13;
  const uint32_t kept = fraction >> shift, lost = fraction & ((1u << shift) - 1), half = 1u << (shift - 1);
  const uint32_t base = exponent < 1 ? kept : uint32_t(exponent) << 10 | kept;
  return uint16_t(sign | (base + (lost > half || (lost == half && (kept & 1)))));  // a carry moves into the exponent
}
OCTAVO_INLINE Vf f_from_half(const uint16_t* p) {
  Vf r;
  for (int i = 0; i < 16; i++) r[i] = from_half(p[i]);
  return r;
}
OCTAVO_INLINE void f_store_half(uint16_t* p, Vf a) {
  for (int i = 0; i < 16; i++) p[i] = to_half(a[i]);
}
OCTAVO_INLINE void f_store_bf16(uint16_t* p, Vf a) {
  for (int i = 0; i < 16; i++) {
    const uint32_t bits = float_to_bits(a[i]);
    p[i] = (bits & 0x7fffffff) > 0x7f800000 ? uint16_t(bits >> 16 | 0x40)
                                            : uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
  }
}

// dot4<true> (simd_*.h) for activations that include -128, and lines as isa.h's signed_bytes says on every level.
OCTAVO_INLINE Vi dot4_any(const Vi& acc, const Vb& line, const int8_t* four) { return dot4<true>(acc, line, four); }

}  // namespace OCTAVO_ISA
}  // namespace octavo
