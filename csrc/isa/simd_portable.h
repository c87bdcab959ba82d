// Vectors of the portable level: 16 lanes in the compiler's generic vectors, which it lowers to what the machine has.
//
// Included first in a translation unit that defines OCTAVO_ISA, the namespace of the level. All simd_*.h give the same
// names: Vf (16 floats), Vi (16 int32), Vb (64 bytes). No standard container or function template is used in these
// units, so that no symbol compiled for one level is shared with another.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>

#include "isa.h"

// Vectors wider than the machine's are passed between inlined functions only, never over a real call.
#pragma GCC diagnostic ignored "-Wpsabi"

#define OCTAVO_INLINE static inline __attribute__((always_inline))

namespace octavo {
namespace OCTAVO_ISA {

typedef float Vf __attribute__((vector_size(64)));
typedef int32_t Vi __attribute__((vector_size(64)));
typedef uint8_t Vb __attribute__((vector_size(64)));
typedef uint32_t Vu __attribute__((vector_size(64)));
typedef int16_t Vs __attribute__((vector_size(64)));

constexpr bool has_native_bf16 = false;
constexpr int num_vector_registers = 4;  // of 16 lanes, roughly: what tile shapes are chosen by
constexpr bool takes_signs = false;        // whether dot4 makes signed values of full bytes by itself

#define OCTAVO_EACH for (int i = 0; i < 16; i++)

OCTAVO_INLINE float bits_to_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
OCTAVO_INLINE uint32_t float_to_bits(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }

OCTAVO_INLINE float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Never through a subnormal float: workers flush those to zero, and small scales are often subnormal halves.
  const float value = rest < 0x400 ? float(rest) * 0x1p-24f : bits_to_float((rest << 13) + 0x38000000);
  return bits_to_float(sign | float_to_bits(value));
}

OCTAVO_INLINE Vf f_zero() { return Vf{}; }
OCTAVO_INLINE Vf f_set1(float x) { return Vf{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
OCTAVO_INLINE Vf f_load(const float* p) { Vf r; std::memcpy(&r, p, 64); return r; }
OCTAVO_INLINE void f_store(float* p, const Vf& a) { std::memcpy(p, &a, 64); }
OCTAVO_INLINE Vf f_add(const Vf& a, const Vf& b) { return a + b; }
OCTAVO_INLINE Vf f_sub(const Vf& a, const Vf& b) { return a - b; }
OCTAVO_INLINE Vf f_mul(const Vf& a, const Vf& b) { return a * b; }
OCTAVO_INLINE Vf f_fma(const Vf& a, const Vf& b, const Vf& c) {
  Vf r;
  OCTAVO_EACH r[i] = std::fma(a[i], b[i], c[i]);
  return r;
}
OCTAVO_INLINE Vf f_from_i(const Vi& a) { return __builtin_convertvector(a, Vf); }
OCTAVO_INLINE Vf f_neg(const Vf& a) { return -a; }
OCTAVO_INLINE Vf f_from_f16(const uint8_t* p) {
  uint16_t h[16];
  std::memcpy(h, p, 32);
  Vf r;
  OCTAVO_EACH r[i] = half_to_float(h[i]);
  return r;
}

OCTAVO_INLINE Vi i_zero() { return Vi{}; }
OCTAVO_INLINE Vi i_set1(int32_t x) { return Vi{x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x}; }
OCTAVO_INLINE Vi i_load(const void* p) { Vi r; std::memcpy(&r, p, 64); return r; }
OCTAVO_INLINE void i_store(void* p, const Vi& a) { std::memcpy(p, &a, 64); }
OCTAVO_INLINE Vi i_add(const Vi& a, const Vi& b) { return a + b; }
OCTAVO_INLINE Vi i_mul(const Vi& a, const Vi& b) { return a * b; }
OCTAVO_INLINE Vi i_and(const Vi& a, const Vi& b) { return a & b; }
OCTAVO_INLINE Vi i_or(const Vi& a, const Vi& b) { return a | b; }
OCTAVO_INLINE Vi i_max(const Vi& a, const Vi& b) { return a > b ? a : b; }
template <int N> OCTAVO_INLINE Vi i_shl(const Vi& a) { return (Vi)((Vu)a << N); }
template <int N> OCTAVO_INLINE Vi i_sar(const Vi& a) { return a >> N; }
// Pairs of int16: lo * lo + hi * hi in each lane.
OCTAVO_INLINE Vi i_madd16(const Vi& a, const Vi& b) { return i_sar<16>(i_shl<16>(a)) * i_sar<16>(i_shl<16>(b)) + (a >> 16) * (b >> 16); }
OCTAVO_INLINE Vi i_from_u8(const uint8_t* p) { Vi r; OCTAVO_EACH r[i] = p[i]; return r; }
OCTAVO_INLINE Vi i_from_i8(const uint8_t* p) { Vi r; OCTAVO_EACH r[i] = int8_t(p[i]); return r; }
OCTAVO_INLINE void i_store_i8(int8_t* p, const Vi& a) { OCTAVO_EACH p[i] = int8_t(a[i]); }
OCTAVO_INLINE int32_t i_sum(const Vi& a) { int32_t s = 0; OCTAVO_EACH s += a[i]; return s; }
OCTAVO_INLINE int32_t i_largest(const Vi& a) { int32_t m = a[0]; OCTAVO_EACH m = a[i] > m ? a[i] : m; return m; }
OCTAVO_INLINE Vi i_abs_bits(const Vf& a) { return (Vi)a & i_set1(0x7fffffff); }
// To nearest, ties to even; |a| below 2^22.
OCTAVO_INLINE Vi i_round(const Vf& a) {
  const Vf magic = f_set1(12582912.0f);
  return __builtin_convertvector((a + magic) - magic, Vi);
}

OCTAVO_INLINE Vb b_load(const uint8_t* p) { Vb r; std::memcpy(&r, p, 64); return r; }
OCTAVO_INLINE Vb b_load_unaligned(const uint8_t* p) { return b_load(p); }
OCTAVO_INLINE void b_store(uint8_t* p, const Vb& a) { std::memcpy(p, &a, 64); }
// Every byte shifted (n > 0 to the left, n < 0 to the right) and masked. The mask must drop what a wider shift would
// bring in from a neighbouring byte.
template <int n> OCTAVO_INLINE Vb b_shift_mask(const Vb& a, uint8_t mask) {
  const uint32_t wide = mask * 0x01010101u;
  const Vu moved = n >= 0 ? (Vu)a << (n & 7) : (Vu)a >> (-n & 7);
  return (Vb)(moved & (Vu)i_set1(int32_t(wide)));
}
OCTAVO_INLINE Vb b_or(const Vb& a, const Vb& b) { return a | b; }

OCTAVO_INLINE Vs pair16(int8_t low, int8_t high) {
  return (Vs)i_set1((low & 0xffff) | int32_t(uint32_t(high) << 16));
}

// Lane o: acc + sum of line[4 o + i] * four[i], exact. Bytes of line are below 128, or (full) any: signed or unsigned as
// signed_bytes says. A product is at most 255 * 127 in magnitude and fits int16.
template <bool full> OCTAVO_INLINE Vi dot4(const Vi& acc, const Vb& line, const int8_t* four) {
  const Vs x02 = pair16(four[0], four[2]), x13 = pair16(four[1], four[3]);
  Vi even, odd;
  if constexpr (full && signed_bytes) {
    even = (Vi)(((Vs)i_shl<8>((Vi)line) >> 8) * x02);
    odd = (Vi)(((Vs)line >> 8) * x13);
  } else {
    const Vi mask = i_set1(0x00ff00ff);
    even = (Vi)((Vs)((Vi)line & mask) * x02);
    odd = (Vi)((Vs)((Vi)((Vu)line >> 8) & mask) * x13);
  }
  return acc + i_sar<16>(i_shl<16>(even)) + (even >> 16) + i_sar<16>(i_shl<16>(odd)) + (odd >> 16);
}

// Pairs of bf16: the even and the odd ones as floats.
OCTAVO_INLINE Vf f_bf16_even(const Vb& a) { return (Vf)i_shl<16>((Vi)a); }
OCTAVO_INLINE Vf f_bf16_odd(const Vb& a) { return (Vf)((Vi)a & i_set1(int32_t(0xffff0000))); }

#undef OCTAVO_EACH

}  // namespace OCTAVO_ISA
}  // namespace octavo
