// More vectors of the levels neon, beside isa/simd_neon.h. Meaning of the names: vec_portable.h.
#pragma once

#include "../isa/simd_neon.h"

namespace octavo {
namespace OCTAVO_ISA {

struct Vm { uint32x4_t a, b, c, d; };

// Not fmax and fmin, which differ from "a > b ? a : b" in NaN and in the sign of zero.
OCTAVO_INLINE float32x4_t larger(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
OCTAVO_INLINE float32x4_t smaller(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
OCTAVO_INLINE Vf f_div(Vf x, Vf y) { return OCTAVO_ZIP(vdivq_f32, x, y); }
OCTAVO_INLINE Vf f_max(Vf x, Vf y) { return OCTAVO_ZIP(larger, x, y); }
OCTAVO_INLINE Vf f_min(Vf x, Vf y) { return OCTAVO_ZIP(smaller, x, y); }
OCTAVO_INLINE Vi f_bits(Vf x) { return OCTAVO_MAP(vreinterpretq_s32_f32, x); }
OCTAVO_INLINE Vf i_floats(Vi x) { return OCTAVO_MAP(vreinterpretq_f32_s32, x); }

OCTAVO_INLINE Vm m_first(int n) {
  const uint32_t four[4] = {0, 1, 2, 3};
  const int32x4_t lane = vreinterpretq_s32_u32(vld1q_u32(four));
  return {vcltq_s32(lane, vdupq_n_s32(n)), vcltq_s32(lane, vdupq_n_s32(n - 4)), vcltq_s32(lane, vdupq_n_s32(n - 8)),
          vcltq_s32(lane, vdupq_n_s32(n - 12))};
}
OCTAVO_INLINE Vm m_and(Vm x, Vm y) { return OCTAVO_ZIP(vandq_u32, x, y); }
OCTAVO_INLINE uint32_t m_bits(Vm m) {
  const uint16x8_t low = vmovn_high_u32(vmovn_u32(m.a), m.b), high = vmovn_high_u32(vmovn_u32(m.c), m.d);
  const uint8_t weights[16] = {1, 2, 4, 8, 16, 32, 64, 128, 1, 2, 4, 8, 16, 32, 64, 128};
  const uint8x16_t bits = vandq_u8(vmovn_high_u16(vmovn_u16(low), high), vld1q_u8(weights));
  return uint32_t(vaddv_u8(vget_low_u8(bits))) | uint32_t(vaddv_u8(vget_high_u8(bits))) << 8;
}
OCTAVO_INLINE Vm m_ge(Vf x, Vf y) { return OCTAVO_ZIP(vcgeq_f32, x, y); }
OCTAVO_INLINE Vm m_gt(Vf x, Vf y) { return OCTAVO_ZIP(vcgtq_f32, x, y); }
OCTAVO_INLINE Vm m_eq(Vf x, Vf y) { return OCTAVO_ZIP(vceqq_f32, x, y); }
OCTAVO_INLINE Vf f_select(Vm m, Vf x, Vf y) {
  return {vbslq_f32(m.a, x.a, y.a), vbslq_f32(m.b, x.b, y.b), vbslq_f32(m.c, x.c, y.c), vbslq_f32(m.d, x.d, y.d)};
}

OCTAVO_INLINE Vf f_load_first(const float* p, int n) {
  alignas(64) float lanes[16] = {};
  std::memcpy(lanes, p, size_t(n) * 4);
  return f_load(lanes);
}
OCTAVO_INLINE void f_store_first(float* p, int n, Vf x) {
  alignas(64) float lanes[16];
  f_store(lanes, x);
  std::memcpy(p, lanes, size_t(n) * 4);
}

OCTAVO_INLINE float f_sum(Vf x) {
  const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
  const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}
OCTAVO_INLINE float f_largest(Vf x) {
  const float32x4_t four = larger(larger(x.a, x.c), larger(x.b, x.d));
  const float32x2_t low = vget_low_f32(four), high = vget_high_f32(four);
  const float32x2_t two = vbsl_f32(vcgt_f32(low, high), low, high);
  const float first = vget_lane_f32(two, 0), second = vget_lane_f32(two, 1);
  return first > second ? first : second;
}

OCTAVO_INLINE Vf f_from_bf16(const uint16_t* p) {
  const uint16x8_t low = vld1q_u16(p), high = vld1q_u16(p + 8);
  const Vi wide = {vreinterpretq_s32_u32(vshll_n_u16(vget_low_u16(low), 16)),
                   vreinterpretq_s32_u32(vshll_high_n_u16(low, 16)),
                   vreinterpretq_s32_u32(vshll_n_u16(vget_low_u16(high), 16)),
                   vreinterpretq_s32_u32(vshll_high_n_u16(high, 16))};
  return i_floats(wide);
}
OCTAVO_INLINE Vf f_from_half(const uint16_t* p) { return f_from_f16(reinterpret_cast<const uint8_t*>(p)); }
OCTAVO_INLINE uint16x8_t narrow_half(float32x4_t x, float32x4_t y) {
  return vreinterpretq_u16_f16(vcvt_high_f16_f32(vcvt_f16_f32(x), y));
}
OCTAVO_INLINE void f_store_half(uint16_t* p, Vf x) {
  vst1q_u16(p, narrow_half(x.a, x.b));
  vst1q_u16(p + 8, narrow_half(x.c, x.d));
}
// Not bfcvtn: that one flushes subnormals with the worker's mode.
OCTAVO_INLINE uint32x4_t round_bf16(float32x4_t x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x), even = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t rounded = vaddq_u32(bits, vaddq_u32(even, vdupq_n_u32(0x7fff)));
  return vbslq_u32(vceqq_f32(x, x), rounded, vorrq_u32(bits, vdupq_n_u32(0x400000)));
}
OCTAVO_INLINE uint16x8_t narrow_bf16(float32x4_t x, float32x4_t y) {
  return vshrn_high_n_u32(vshrn_n_u32(round_bf16(x), 16), round_bf16(y), 16);
}
OCTAVO_INLINE void f_store_bf16(uint16_t* p, Vf x) {
  vst1q_u16(p, narrow_bf16(x.a, x.b));
  vst1q_u16(p + 8, narrow_bf16(x.c, x.d));
}

OCTAVO_INLINE Vi dot4_any(Vi acc, Vb line, const int8_t* four) { return dot4<true>(acc, line, four); }

}  // namespace OCTAVO_ISA
}  // namespace octavo
