// From rows of a file to packed groups (layout.h), and back to the floats of one row.
#include <cstring>

#include "layout.h"

namespace octavo {

namespace {

uint32_t load32(const uint8_t* p) {
  uint32_t v;
  std::memcpy(&v, p, 4);
  return v;
}

void store32(uint8_t* p, uint32_t v) { std::memcpy(p, &v, 4); }

void copy16(uint8_t* dst, int output, const uint8_t* src) { std::memcpy(dst + 2 * output, src, 2); }

// ---- One file block of one output to its places in a group. quants and scales point to output 0; o4 = 4 * output.

// Lines of nibbles from two runs of 16 nibbles: inputs 0..15 at a, 16..31 at b, in the low or the high nibble.
void put_nibbles(uint8_t* quants, int o4, const uint8_t* a, const uint8_t* b, int shift) {
  for (int j = 0; j < 4; j++) {
    const uint32_t low = load32(a + 4 * j) >> shift & 0x0f0f0f0fu, high = load32(b + 4 * j) >> shift & 0x0f0f0f0fu;
    store32(quants + j * 64 + o4, low | high << 4);
  }
}

// The line of ones from bit `bit` of 32 bytes.
void put_ones(uint8_t* line, int o4, const uint8_t* bytes, int bit) {
  uint32_t out = 0;
  for (int k = 0; k < 8; k++) out |= (load32(bytes + 4 * k) >> bit & 0x01010101u) << k;
  store32(line + o4, out);
}

// The line of ones from a 32-bit mask, bit e for input e.
void put_ones(uint8_t* line, int o4, uint32_t mask) {
  uint32_t out = 0;
  // The product moves bit i of a nibble to bit 8 i.
  for (int k = 0; k < 8; k++) out |= ((mask >> 4 * k & 15) * 0x00204081u & 0x01010101u) << k;
  store32(line + o4, out);
}

// Lines of twos from the 2-bit fields at `shift` of 32 bytes.
void put_twos(uint8_t* lines, int o4, const uint8_t* bytes, int shift) {
  for (int h = 0; h < 2; h++) {
    uint32_t out = 0;
    for (int f = 0; f < 4; f++) out |= (load32(bytes + 16 * h + 4 * f) >> shift & 0x03030303u) << 2 * f;
    store32(lines + 64 * h + o4, out);
  }
}

// Pairs of 6-bit numbers of the 8 sub-blocks to low[8][16] and high[4][16].
void put_six_bits(uint8_t* scales, int output, const uint8_t (&first)[8], const uint8_t (&second)[8]) {
  for (int s = 0; s < 8; s++) {
    scales[s * 16 + output] = uint8_t((first[s] & 15) | (second[s] & 15) << 4);
    const int high = first[s] >> 4 | second[s] >> 4 << 2;
    uint8_t& shared = scales[128 + (s & 3) * 16 + output];
    shared = s < 4 ? uint8_t(high) : uint8_t(shared | high << 4);
  }
}

// The scales and minima of Q4_K and Q5_K.
void put_scale_min(uint8_t* scales, int output, const uint8_t* b) {
  uint8_t scale[8], min[8];
  for (int s = 0; s < 4; s++) {
    scale[s] = b[s] & 63;
    min[s] = b[s + 4] & 63;
    scale[s + 4] = uint8_t((b[s + 8] & 15) | b[s] >> 6 << 4);
    min[s + 4] = uint8_t(b[s + 8] >> 4 | b[s + 4] >> 6 << 4);
  }
  put_six_bits(scales, output, scale, min);
}

void put_q3_scales(uint8_t* scales, int output, const uint8_t* b) {
  uint8_t all[16], first[8], second[8];
  for (int i = 0; i < 16; i++)
    all[i] = uint8_t((i < 8 ? b[i] & 15 : b[i - 8] >> 4) | (b[8 + (i & 3)] >> 2 * (i >> 2) & 3) << 4);
  for (int s = 0; s < 8; s++) first[s] = all[2 * s], second[s] = all[2 * s + 1];
  put_six_bits(scales, output, first, second);
}

void put_small_block(Format format, const uint8_t* src, uint8_t* quants, uint8_t* scales, int output) {
  const int o4 = 4 * output;
  copy16(scales, output, src);
  src += 2;
  if (format == Format::Q4_1 || format == Format::Q5_1) {
    copy16(scales + 32, output, src);
    src += 2;
  }
  if (format == Format::Q8_0) {
    constexpr uint32_t flip = signed_bytes ? 0 : 0x80808080u;
    for (int k = 0; k < 8; k++) store32(quants + k * 64 + o4, load32(src + 4 * k) ^ flip);
    return;
  }
  if (format == Format::Q5_0 || format == Format::Q5_1) {
    put_ones(quants + 256, o4, load32(src));
    src += 4;
  }
  for (int j = 0; j < 4; j++) store32(quants + j * 64 + o4, load32(src + 4 * j));
}

void put_super_block(Format format, const uint8_t* src, uint8_t* quants, uint8_t* scales, int output) {
  const int o4 = 4 * output;
  const size_t step = block_layout(format).quant_bytes;
  switch (format) {
    case Format::Q4_K:
    case Format::Q5_K: {
      const uint8_t* high = src + 16;
      const uint8_t* nibbles = format == Format::Q5_K ? high + 32 : high;
      for (int s = 0; s < 8; s++) {
        const uint8_t* run = nibbles + 32 * (s >> 1);
        put_nibbles(quants + s * step, o4, run, run + 16, 4 * (s & 1));
        if (format == Format::Q5_K) put_ones(quants + s * step + 256, o4, high, s);
      }
      put_scale_min(scales, output, src + 4);
      copy16(scales + 192, output, src);
      copy16(scales + 224, output, src + 2);
      return;
    }
    case Format::Q6_K:
      for (int s = 0; s < 8; s++) {
        const int n = s >> 2, r = s & 3;
        const uint8_t* run = src + 64 * n + 32 * (r & 1);
        put_nibbles(quants + s * step, o4, run, run + 16, 4 * (r >> 1));
        put_twos(quants + s * step + 256, o4, src + 128 + 32 * n, 2 * r);
      }
      for (int i = 0; i < 16; i++) scales[i * 16 + output] = src[192 + i];
      copy16(scales + 256, output, src + 208);
      return;
    case Format::Q2_K:
      for (int s = 0; s < 8; s++) put_twos(quants + s * step, o4, src + 16 + 32 * (s >> 2), 2 * (s & 3));
      for (int i = 0; i < 16; i++) scales[i * 16 + output] = src[i];
      copy16(scales + 256, output, src + 80);
      copy16(scales + 288, output, src + 82);
      return;
    default:  // Q3_K
      for (int s = 0; s < 8; s++) {
        put_twos(quants + s * step, o4, src + 32 + 32 * (s >> 2), 2 * (s & 3));
        put_ones(quants + s * step + 128, o4, src, s);
      }
      put_q3_scales(scales, output, src + 96);
      copy16(scales + 192, output, src + 108);
      return;
  }
}

// ---- Groups

struct Rows {
  const uint8_t* of[lanes];  // null: an output beyond N
};

void pack_float_group(Format format, int64_t k, const Rows& rows, uint8_t* dst) {
  const size_t width = format == Format::F32 ? 4 : 2;
  const int64_t inputs = format == Format::BF16 ? 2 : 1;  // adjacent in the packed row
  const int64_t steps = (k + inputs - 1) / inputs, cell = int64_t(width) * inputs;
  for (int64_t j = 0; j < steps; j++)
    for (int o = 0; o < lanes; o++) {
      uint8_t* to = dst + (j * lanes + o) * cell;
      const int64_t present = rows.of[o] == nullptr ? 0 : inputs < k - j * inputs ? inputs : k - j * inputs;
      if (present < inputs) std::memset(to, 0, size_t(cell));
      if (present == 0) continue;
      const uint8_t* from = rows.of[o] + j * cell;
      if (present * int64_t(width) == 4) std::memcpy(to, from, 4);
      else std::memcpy(to, from, 2);
    }
}

void pack_block_group(Format format, int64_t k, const Rows& rows, uint8_t* dst) {
  static const uint8_t zeros[256] = {};
  const BlockLayout layout = block_layout(format);
  const int64_t blocks = k / layout.block;
  const size_t quant_step = layout.quant_bytes * size_t(layout.block / act_block);
  uint8_t* quants = dst;
  uint8_t* scales = dst + quant_area(format, k);
  for (int64_t b = 0; b < blocks; b++, quants += quant_step, scales += layout.scale_bytes)
    for (int o = 0; o < lanes; o++) {
      const uint8_t* src = rows.of[o] == nullptr ? zeros : rows.of[o] + size_t(b) * layout.file_bytes;
      if (layout.block == 32) put_small_block(format, src, quants, scales, o);
      else put_super_block(format, src, quants, scales, o);
    }
  std::memset(scales, 0, size_t(dst + group_bytes(format, k) - scales));
}

}  // namespace

void pack(Format format, int64_t n, int64_t k, const uint8_t* rows, size_t row_stride, const int64_t* row_index,
          uint8_t* dst, int64_t group_begin, int64_t group_end) {
  const size_t stride = group_bytes(format, k);
  for (int64_t g = group_begin; g < group_end; g++) {
    Rows group;
    for (int o = 0; o < lanes; o++) {
      const int64_t output = g * lanes + o;
      const int64_t row = output >= n ? -1 : row_index != nullptr ? row_index[output] : output;
      group.of[o] = row < 0 ? nullptr : rows + size_t(row) * row_stride;
    }
    if (act_kind(format) == ActKind::q8) pack_block_group(format, k, group, dst + size_t(g) * stride);
    else pack_float_group(format, k, group, dst + size_t(g) * stride);
  }
}

}  // namespace octavo
