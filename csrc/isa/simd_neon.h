// Vectors of the levels neon, neon_dotprod and neon_i8mm: 16 lanes in four registers. Meaning of the names:
// simd_portable.h. The levels differ in dot4 alone, and neon_i8mm in the products of bf16.
#pragma once

#include <arm_neon.h>

#include <cmath>
#include <cstdint>
#include <cstring>

#define OCTAVO_INLINE static inline __attribute__((always_inline))

namespace octavo {
namespace OCTAVO_ISA {

struct Vf { float32x4_t a, b, c, d; };
struct Vi { int32x4_t a, b, c, d; };
struct Vb { uint8x16_t a, b, c, d; };

#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
constexpr bool has_native_bf16 = true;
#else
constexpr bool has_native_bf16 = false;
#endif
constexpr int num_vector_registers = 8;
constexpr bool takes_signs = false;

// One operation on each of the four registers.
#define OCTAVO_MAP(operation, x) {operation(x.a), operation(x.b), operation(x.c), operation(x.d)}
#define OCTAVO_ZIP(operation, x, y) \
  {operation(x.a, y.a), operation(x.b, y.b), operation(x.c, y.c), operation(x.d, y.d)}

OCTAVO_INLINE float bits_to_float(uint32_t bits) { float f; std::memcpy(&f, &bits, 4); return f; }
OCTAVO_INLINE uint32_t float_to_bits(float f) { uint32_t bits; std::memcpy(&bits, &f, 4); return bits; }
OCTAVO_INLINE float half_to_float(uint16_t h) { __fp16 half; std::memcpy(&half, &h, 2); return float(half); }
OCTAVO_INLINE int32x4_t load_i32(const void* p) { return vld1q_s32(static_cast<const int32_t*>(p)); }
OCTAVO_INLINE float32x4_t widen_half(uint16x4_t h) { return vcvt_f32_f16(vreinterpret_f16_u16(h)); }

OCTAVO_INLINE Vf f_set1(float x) { const float32x4_t v = vdupq_n_f32(x); return {v, v, v, v}; }
OCTAVO_INLINE Vf f_zero() { return f_set1(0); }
OCTAVO_INLINE Vf f_load(const float* p) { return {vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}; }
OCTAVO_INLINE void f_store(float* p, Vf x) {
  vst1q_f32(p, x.a);
  vst1q_f32(p + 4, x.b);
  vst1q_f32(p + 8, x.c);
  vst1q_f32(p + 12, x.d);
}
OCTAVO_INLINE Vf f_add(Vf x, Vf y) { return OCTAVO_ZIP(vaddq_f32, x, y); }
OCTAVO_INLINE Vf f_sub(Vf x, Vf y) { return OCTAVO_ZIP(vsubq_f32, x, y); }
OCTAVO_INLINE Vf f_mul(Vf x, Vf y) { return OCTAVO_ZIP(vmulq_f32, x, y); }
OCTAVO_INLINE Vf f_fma(Vf x, Vf y, Vf z) {
  return {vfmaq_f32(z.a, x.a, y.a), vfmaq_f32(z.b, x.b, y.b), vfmaq_f32(z.c, x.c, y.c), vfmaq_f32(z.d, x.d, y.d)};
}
OCTAVO_INLINE Vf f_from_i(Vi x) { return OCTAVO_MAP(vcvtq_f32_s32, x); }
OCTAVO_INLINE Vf f_neg(Vf x) { return OCTAVO_MAP(vnegq_f32, x); }
OCTAVO_INLINE Vf f_from_f16(const uint8_t* p) {
  const uint16x8_t low = vreinterpretq_u16_u8(vld1q_u8(p)), high = vreinterpretq_u16_u8(vld1q_u8(p + 16));
  return {widen_half(vget_low_u16(low)), widen_half(vget_high_u16(low)), widen_half(vget_low_u16(high)),
          widen_half(vget_high_u16(high))};
}

OCTAVO_INLINE Vi i_set1(int32_t x) { const int32x4_t v = vdupq_n_s32(x); return {v, v, v, v}; }
OCTAVO_INLINE Vi i_zero() { return i_set1(0); }
OCTAVO_INLINE Vi i_load(const void* p) {
  const uint8_t* at = static_cast<const uint8_t*>(p);
  return {load_i32(at), load_i32(at + 16), load_i32(at + 32), load_i32(at + 48)};
}
OCTAVO_INLINE void i_store(void* p, Vi x) {
  int32_t* to = static_cast<int32_t*>(p);
  vst1q_s32(to, x.a);
  vst1q_s32(to + 4, x.b);
  vst1q_s32(to + 8, x.c);
  vst1q_s32(to + 12, x.d);
}
OCTAVO_INLINE Vi i_add(Vi x, Vi y) { return OCTAVO_ZIP(vaddq_s32, x, y); }
OCTAVO_INLINE Vi i_mul(Vi x, Vi y) { return OCTAVO_ZIP(vmulq_s32, x, y); }
OCTAVO_INLINE Vi i_and(Vi x, Vi y) { return OCTAVO_ZIP(vandq_s32, x, y); }
OCTAVO_INLINE Vi i_or(Vi x, Vi y) { return OCTAVO_ZIP(vorrq_s32, x, y); }
OCTAVO_INLINE Vi i_max(Vi x, Vi y) { return OCTAVO_ZIP(vmaxq_s32, x, y); }
template <int N> OCTAVO_INLINE Vi i_shl(Vi x) {
  return {vshlq_n_s32(x.a, N), vshlq_n_s32(x.b, N), vshlq_n_s32(x.c, N), vshlq_n_s32(x.d, N)};
}
template <int N> OCTAVO_INLINE Vi i_sar(Vi x) {
  return {vshrq_n_s32(x.a, N), vshrq_n_s32(x.b, N), vshrq_n_s32(x.c, N), vshrq_n_s32(x.d, N)};
}
OCTAVO_INLINE int32x4_t madd16(int32x4_t x, int32x4_t y) {
  const int16x8_t p = vreinterpretq_s16_s32(x), q = vreinterpretq_s16_s32(y);
  return vpaddq_s32(vmull_s16(vget_low_s16(p), vget_low_s16(q)), vmull_high_s16(p, q));
}
OCTAVO_INLINE Vi i_madd16(Vi x, Vi y) { return OCTAVO_ZIP(madd16, x, y); }
OCTAVO_INLINE Vi i_from_u8(const uint8_t* p) {
  const uint8x16_t bytes = vld1q_u8(p);
  const uint16x8_t low = vmovl_u8(vget_low_u8(bytes)), high = vmovl_high_u8(bytes);
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(low))), vreinterpretq_s32_u32(vmovl_high_u16(low)),
          vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(high))), vreinterpretq_s32_u32(vmovl_high_u16(high))};
}
OCTAVO_INLINE Vi i_from_i8(const uint8_t* p) {
  const int8x16_t bytes = vreinterpretq_s8_u8(vld1q_u8(p));
  const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
  return {vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)};
}
OCTAVO_INLINE void i_store_i8(int8_t* p, Vi x) {
  const int16x8_t low = vmovn_high_s32(vmovn_s32(x.a), x.b), high = vmovn_high_s32(vmovn_s32(x.c), x.d);
  vst1q_s8(p, vmovn_high_s16(vmovn_s16(low), high));
}
OCTAVO_INLINE int32_t i_sum(Vi x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.b), vaddq_s32(x.c, x.d))); }
OCTAVO_INLINE int32_t i_largest(Vi x) { return vmaxvq_s32(vmaxq_s32(vmaxq_s32(x.a, x.b), vmaxq_s32(x.c, x.d))); }
OCTAVO_INLINE int32x4_t abs_bits(float32x4_t x) { return vreinterpretq_s32_f32(vabsq_f32(x)); }
OCTAVO_INLINE Vi i_abs_bits(Vf x) { return OCTAVO_MAP(abs_bits, x); }
OCTAVO_INLINE Vi i_round(Vf x) { return OCTAVO_MAP(vcvtnq_s32_f32, x); }

OCTAVO_INLINE Vb b_load(const uint8_t* p) { return {vld1q_u8(p), vld1q_u8(p + 16), vld1q_u8(p + 32), vld1q_u8(p + 48)}; }
OCTAVO_INLINE Vb b_load_unaligned(const uint8_t* p) { return b_load(p); }
OCTAVO_INLINE void b_store(uint8_t* p, Vb x) {
  vst1q_u8(p, x.a);
  vst1q_u8(p + 16, x.b);
  vst1q_u8(p + 32, x.c);
  vst1q_u8(p + 48, x.d);
}
template <int n> OCTAVO_INLINE uint8x16_t shift_mask(uint8x16_t x, uint8_t mask) {
  if constexpr (n > 0) x = vshlq_n_u8(x, n);
  if constexpr (n < 0) x = vshrq_n_u8(x, -n);
  // Bytes are shifted apart from their neighbours: often the mask has nothing left to drop (known when compiling).
  const uint8_t left = n < 0 ? uint8_t(0xff >> -n) : uint8_t(0xff << (n & 7));
  return mask == left ? x : vandq_u8(x, vdupq_n_u8(mask));
}
template <int n> OCTAVO_INLINE Vb b_shift_mask(Vb x, uint8_t mask) {
  return {shift_mask<n>(x.a, mask), shift_mask<n>(x.b, mask), shift_mask<n>(x.c, mask), shift_mask<n>(x.d, mask)};
}
OCTAVO_INLINE Vb b_or(Vb x, Vb y) { return OCTAVO_ZIP(vorrq_u8, x, y); }

// Both sides are signed: bytes below 128 are so anyway, and full ones are packed so (isa.h: signed_bytes).
OCTAVO_INLINE int32x4_t dot4_quarter(int32x4_t acc, uint8x16_t line, int8x16_t x) {
  const int8x16_t w = vreinterpretq_s8_u8(line);
#if defined(__ARM_FEATURE_DOTPROD)
  return vdotq_s32(acc, w, x);
#else
  // The sum of two products is at most 2 * 128 * 127 in magnitude and fits int16.
  const int16x8_t low = vmull_s8(vget_low_s8(w), vget_low_s8(x)), high = vmull_high_s8(w, x);
  return vpadalq_s16(acc, vpaddq_s16(low, high));
#endif
}
template <bool full> OCTAVO_INLINE Vi dot4(Vi acc, Vb line, const int8_t* four) {
  int32_t bytes;
  std::memcpy(&bytes, four, 4);
  const int8x16_t x = vreinterpretq_s8_s32(vdupq_n_s32(bytes));
  return {dot4_quarter(acc.a, line.a, x), dot4_quarter(acc.b, line.b, x), dot4_quarter(acc.c, line.c, x),
          dot4_quarter(acc.d, line.d, x)};
}

OCTAVO_INLINE float32x4_t bf16_even(uint8x16_t x) { return vreinterpretq_f32_u32(vshlq_n_u32(vreinterpretq_u32_u8(x), 16)); }
OCTAVO_INLINE float32x4_t bf16_odd(uint8x16_t x) {
  return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_u8(x), vdupq_n_u32(0xffff0000)));
}
OCTAVO_INLINE Vf f_bf16_even(Vb x) { return OCTAVO_MAP(bf16_even, x); }
OCTAVO_INLINE Vf f_bf16_odd(Vb x) { return OCTAVO_MAP(bf16_odd, x); }
#if defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
// Not bfdot, which rounds in its own way: these two are one fma each, the even inputs first.
OCTAVO_INLINE float32x4_t dot_bf16(float32x4_t acc, uint8x16_t line, bfloat16x8_t x) {
  const bfloat16x8_t w = vreinterpretq_bf16_u8(line);
  return vbfmlaltq_f32(vbfmlalbq_f32(acc, w, x), w, x);
}
OCTAVO_INLINE Vf f_dot_bf16(Vf acc, Vb line, int32_t pair) {
  const bfloat16x8_t x = vreinterpretq_bf16_s32(vdupq_n_s32(pair));
  return {dot_bf16(acc.a, line.a, x), dot_bf16(acc.b, line.b, x), dot_bf16(acc.c, line.c, x),
          dot_bf16(acc.d, line.d, x)};
}
#endif

}  // namespace OCTAVO_ISA
}  // namespace octavo
