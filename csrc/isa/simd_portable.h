// Vectors of the portable level: 16 lanes as plain arrays that the compiler may vectorise.
//
// Included first in a translation unit that defines OCTAVO_ISA, the namespace of the level. All simd_*.h give the same
// names: Vf (16 floats), Vi (16 int32), Vb (64 bytes). No standard container or function template is used in these
// units, so that no symbol compiled for one level is shared with another.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#define OCTAVO_INLINE static inline __attribute__((always_inline))

namespace octavo {
namespace OCTAVO_ISA {

struct Vf { float v[16]; };
struct Vi { int32_t v[16]; };
struct Vb { uint8_t v[64]; };

constexpr bool has_native_bf16 = false;
constexpr int num_vector_registers = 8;  // of 16 lanes, roughly: what tile shapes are chosen by

#define OCTAVO_EACH for (int i = 0; i < 16; i++)

OCTAVO_INLINE float bits_to_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
OCTAVO_INLINE uint32_t float_to_bits(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }

OCTAVO_INLINE float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // The exponent is rebased by an exact product, which also normalises subnormals.
  return bits_to_float(sign | float_to_bits(bits_to_float(rest << 13) * 0x1p112f));
}

OCTAVO_INLINE Vf f_zero() { Vf r; OCTAVO_EACH r.v[i] = 0; return r; }
OCTAVO_INLINE Vf f_set1(float x) { Vf r; OCTAVO_EACH r.v[i] = x; return r; }
OCTAVO_INLINE Vf f_load(const float* p) { Vf r; std::memcpy(r.v, p, 64); return r; }
OCTAVO_INLINE void f_store(float* p, Vf a) { std::memcpy(p, a.v, 64); }
OCTAVO_INLINE Vf f_add(Vf a, Vf b) { OCTAVO_EACH a.v[i] += b.v[i]; return a; }
OCTAVO_INLINE Vf f_sub(Vf a, Vf b) { OCTAVO_EACH a.v[i] -= b.v[i]; return a; }
OCTAVO_INLINE Vf f_mul(Vf a, Vf b) { OCTAVO_EACH a.v[i] *= b.v[i]; return a; }
OCTAVO_INLINE Vf f_fma(Vf a, Vf b, Vf c) { OCTAVO_EACH c.v[i] = std::fma(a.v[i], b.v[i], c.v[i]); return c; }
OCTAVO_INLINE Vf f_from_i(Vi a) { Vf r; OCTAVO_EACH r.v[i] = float(a.v[i]); return r; }
OCTAVO_INLINE Vf f_neg(Vf a) { OCTAVO_EACH a.v[i] = -a.v[i]; return a; }
OCTAVO_INLINE Vf f_from_f16(const uint8_t* p) {
  uint16_t h[16];
  std::memcpy(h, p, 32);
  Vf r;
  OCTAVO_EACH r.v[i] = half_to_float(h[i]);
  return r;
}

OCTAVO_INLINE Vi i_zero() { Vi r; OCTAVO_EACH r.v[i] = 0; return r; }
OCTAVO_INLINE Vi i_set1(int32_t x) { Vi r; OCTAVO_EACH r.v[i] = x; return r; }
OCTAVO_INLINE Vi i_load(const void* p) { Vi r; std::memcpy(r.v, p, 64); return r; }
OCTAVO_INLINE void i_store(void* p, Vi a) { std::memcpy(p, a.v, 64); }
OCTAVO_INLINE Vi i_add(Vi a, Vi b) { OCTAVO_EACH a.v[i] += b.v[i]; return a; }
OCTAVO_INLINE Vi i_mul(Vi a, Vi b) { OCTAVO_EACH a.v[i] *= b.v[i]; return a; }
OCTAVO_INLINE Vi i_or(Vi a, Vi b) { OCTAVO_EACH a.v[i] |= b.v[i]; return a; }
OCTAVO_INLINE Vi i_max(Vi a, Vi b) { OCTAVO_EACH a.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i]; return a; }
template <int N> OCTAVO_INLINE Vi i_shl(Vi a) { OCTAVO_EACH a.v[i] = int32_t(uint32_t(a.v[i]) << N); return a; }
template <int N> OCTAVO_INLINE Vi i_sar(Vi a) { OCTAVO_EACH a.v[i] >>= N; return a; }
// Pairs of int16: lo * lo + hi * hi in each lane.
OCTAVO_INLINE Vi i_madd16(Vi a, Vi b) {
  OCTAVO_EACH a.v[i] = int16_t(a.v[i]) * int16_t(b.v[i]) + int16_t(a.v[i] >> 16) * int16_t(b.v[i] >> 16);
  return a;
}
OCTAVO_INLINE Vi i_from_u8(const uint8_t* p) { Vi r; OCTAVO_EACH r.v[i] = p[i]; return r; }
OCTAVO_INLINE Vi i_from_i8(const uint8_t* p) { Vi r; OCTAVO_EACH r.v[i] = int8_t(p[i]); return r; }
OCTAVO_INLINE void i_store_i8(int8_t* p, Vi a) { OCTAVO_EACH p[i] = int8_t(a.v[i]); }
OCTAVO_INLINE int32_t i_sum(Vi a) { int32_t s = 0; OCTAVO_EACH s += a.v[i]; return s; }
OCTAVO_INLINE int32_t i_largest(Vi a) { int32_t m = a.v[0]; OCTAVO_EACH m = a.v[i] > m ? a.v[i] : m; return m; }
OCTAVO_INLINE Vi i_abs_bits(Vf a) { Vi r; OCTAVO_EACH r.v[i] = int32_t(float_to_bits(a.v[i]) & 0x7fffffff); return r; }
// To nearest, ties to even; |a| below 2^22.
OCTAVO_INLINE Vi i_round(Vf a) {
  Vi r;
  OCTAVO_EACH r.v[i] = int32_t((a.v[i] + 12582912.0f) - 12582912.0f);
  return r;
}

OCTAVO_INLINE Vb b_load(const uint8_t* p) { Vb r; std::memcpy(r.v, p, 64); return r; }
OCTAVO_INLINE void b_store(uint8_t* p, Vb a) { std::memcpy(p, a.v, 64); }
// Shifts of bytes that move no bit into a neighbour that the mask keeps; n > 0 to the left, n < 0 to the right.
OCTAVO_INLINE Vb b_shift_mask(Vb a, int n, uint8_t mask) {
  for (int i = 0; i < 64; i++) a.v[i] = uint8_t((n >= 0 ? a.v[i] << n : a.v[i] >> -n) & mask);
  return a;
}
OCTAVO_INLINE Vb b_or(Vb a, Vb b) { for (int i = 0; i < 64; i++) a.v[i] |= b.v[i]; return a; }

// Lane o: acc + sum of line[4 o + i] * four[i], bytes unsigned times signed, exact. full: bytes above 128 occur.
template <bool full> OCTAVO_INLINE Vi dot4(Vi acc, Vb line, const int8_t* four) {
  OCTAVO_EACH acc.v[i] += line.v[4 * i] * four[0] + line.v[4 * i + 1] * four[1] + line.v[4 * i + 2] * four[2] +
                          line.v[4 * i + 3] * four[3];
  return acc;
}

// Pairs of bf16: the even and the odd ones as floats.
OCTAVO_INLINE Vf f_bf16_even(Vb a) {
  Vf r;
  OCTAVO_EACH { uint16_t h; std::memcpy(&h, a.v + 4 * i, 2); r.v[i] = bits_to_float(uint32_t(h) << 16); }
  return r;
}
OCTAVO_INLINE Vf f_bf16_odd(Vb a) {
  Vf r;
  OCTAVO_EACH { uint16_t h; std::memcpy(&h, a.v + 4 * i + 2, 2); r.v[i] = bits_to_float(uint32_t(h) << 16); }
  return r;
}

#undef OCTAVO_EACH

}  // namespace OCTAVO_ISA
}  // namespace octavo
