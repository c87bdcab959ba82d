// Activations to the row formats of linear.h.
namespace octavo {
namespace OCTAVO_ISA {

OCTAVO_INLINE void quantize_block(const float* x, ActBlock& block) {
  const Vf a = f_load(x), b = f_load(x + 16);
  // As integers the magnitudes order like the floats, with infinity and NaN above all.
  const int32_t largest = i_largest(i_max(i_abs_bits(a), i_abs_bits(b)));
  const float amax = bits_to_float(uint32_t(largest));
  if (largest >= 0x7f800000 || amax < 1e-36f) {
    std::memset(&block, 0, sizeof(block));
    if (largest >= 0x7f800000) block.scale = bits_to_float(0x7fc00000);
    return;
  }
  const Vf inverse = f_set1(127.0f / amax);
  const Vi qa = i_round(f_mul(a, inverse)), qb = i_round(f_mul(b, inverse));
  i_store_i8(block.values, qa);
  i_store_i8(block.values + 16, qb);
  const int32_t first = i_sum(qa), second = i_sum(qb);
  block.scale = amax / 127.0f;
  block.weighted_sum = block.scale * float(first + second);
  block.offset = -128 * (first + second);
  block.halves[0] = int16_t(first);
  block.halves[1] = int16_t(second);
  block.half_offsets[0] = -32 * first;
  block.half_offsets[1] = -32 * second;
}

OCTAVO_INLINE uint16_t round_to_bf16(float x) {
  const uint32_t bits = float_to_bits(x);
  if ((bits & 0x7fffffff) > 0x7f800000) return uint16_t(bits >> 16 | 0x40);
  return uint16_t((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static void quantize(ActKind kind, const float* x, int64_t ldx, int64_t rows, int64_t k, uint8_t* dst) {
  const int64_t stride = int64_t((kind == ActKind::q8 ? k / act_block * sizeof(ActBlock)
                                  : kind == ActKind::bf16 ? (k + 1) / 2 * 4 : k * 4) + 63) / 64 * 64;
  for (int64_t row = 0; row < rows; row++, x += ldx, dst += stride) {
    if (kind == ActKind::f32) {
      std::memcpy(dst, x, size_t(k) * 4);
    } else if (kind == ActKind::bf16) {
      uint16_t* to = reinterpret_cast<uint16_t*>(dst);
      for (int64_t i = 0; i < k; i++) to[i] = round_to_bf16(x[i]);
      if (k % 2 != 0) to[k] = 0;
    } else {
      ActBlock* blocks = reinterpret_cast<ActBlock*>(dst);
      for (int64_t b = 0; b < k / act_block; b++) quantize_block(x + b * act_block, blocks[b]);
    }
  }
}

}  // namespace OCTAVO_ISA
}  // namespace octavo
