// The floats of one output of a packed weight: what an embedding lookup in a tied head reads.
//
// Every product below is exact in float (11 + 8 + 5 bits at most), so that each value is rounded at most once, by the
// subtraction or addition of a minimum, and equals the file format's dequantization in any order of operations.
#include <cstring>

#include "layout.h"

namespace octavo {

namespace {

float bits_to_float(uint32_t bits) {
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

float half_at(const uint8_t* p) {
  uint16_t h;
  std::memcpy(&h, p, 2);
  const uint32_t sign = uint32_t(h & 0x8000) << 16, rest = h & 0x7fff;
  if (rest >= 0x7c00) return bits_to_float(sign | 0x7f800000 | (rest & 0x3ff) << 13);
  // Never through a subnormal float: workers flush those to zero, and small scales are often subnormal halves.
  const float value = rest < 0x400 ? float(rest) * 0x1p-24f : bits_to_float((rest << 13) + 0x38000000);
  return sign ? -value : value;
}

// The unsigned quants of 32 inputs; `quants` points to the block's bytes of the output.
void block_quants(Format format, const uint8_t* quants, uint8_t (&q)[32]) {
  const bool bytes = format == Format::Q8_0, twos = format == Format::Q2_K || format == Format::Q3_K;
  const bool ones = format == Format::Q5_0 || format == Format::Q5_1 || format == Format::Q5_K;
  for (int k = 0; k < 8; k++)
    for (int i = 0; i < 4; i++) {
      int value;
      if (bytes) value = quants[64 * k + i] ^ (signed_bytes ? 0x80 : 0);
      else if (twos) value = quants[64 * (k >> 2) + i] >> 2 * (k & 3) & 3;
      else value = quants[64 * (k & 3) + i] >> 4 * (k >> 2) & 15;
      if (ones) value |= (quants[256 + i] >> k & 1) << 4;
      if (format == Format::Q6_K) value |= (quants[256 + 64 * (k >> 2) + i] >> 2 * (k & 3) & 3) << 4;
      if (format == Format::Q3_K) value |= (quants[128 + i] >> k & 1) << 2;
      q[4 * k + i] = uint8_t(value);
    }
}

struct Affine { float scale[2], min[2]; };  // x = scale * (q - offset) - min, for inputs 0..15 and 16..31

// Sub-block s of a file block; `scales` points to the first byte field of the output, `output` is its lane.
Affine block_affine(Format format, const uint8_t* scales, int output, int s) {
  const auto half_field = [&](size_t offset) { return half_at(scales + offset + 2 * output); };
  const auto six_bits = [&](int which) {
    const int low = scales[s * 16 + output] >> 4 * which & 15;
    const int high = scales[128 + (s & 3) * 16 + output] >> (4 * (s >> 2) + 2 * which) & 3;
    return low | high << 4;
  };
  switch (format) {
    case Format::Q4_1:
    case Format::Q5_1: {
      const float d = half_field(0), m = half_field(32);
      return {{d, d}, {-m, -m}};
    }
    case Format::Q4_K:
    case Format::Q5_K: {
      const float d = half_field(192) * float(six_bits(0)), m = half_field(224) * float(six_bits(1));
      return {{d, d}, {m, m}};
    }
    case Format::Q3_K: {
      const float d = half_field(192);
      return {{d * float(six_bits(0) - 32), d * float(six_bits(1) - 32)}, {0, 0}};
    }
    case Format::Q2_K: {
      const float d = half_field(256), m = half_field(288);
      const uint8_t first = scales[2 * s * 16 + output], second = scales[(2 * s + 1) * 16 + output];
      return {{d * float(first & 15), d * float(second & 15)}, {m * float(first >> 4), m * float(second >> 4)}};
    }
    case Format::Q6_K: {
      const float d = half_field(256);
      const auto scale = [&](int i) { return float(int8_t(scales[i * 16 + output])); };
      return {{d * scale(2 * s), d * scale(2 * s + 1)}, {0, 0}};
    }
    default: {
      const float d = half_field(0);
      return {{d, d}, {0, 0}};
    }
  }
}

int quant_offset(Format format) {
  switch (format) {
    case Format::Q8_0: return 128;
    case Format::Q4_0: return 8;
    case Format::Q5_0: return 16;
    case Format::Q6_K: return 32;
    case Format::Q3_K: return 4;
    default: return 0;
  }
}

bool has_min(Format format) {
  return format == Format::Q4_1 || format == Format::Q5_1 || format == Format::Q2_K || format == Format::Q4_K ||
         format == Format::Q5_K;
}

void unpack_float_row(const PackedWeight& weight, const uint8_t* group, int output, float* out) {
  for (int64_t j = 0; j < weight.k; j++) {
    if (weight.format == Format::F32) {
      std::memcpy(out + j, group + (j * lanes + output) * 4, 4);
    } else if (weight.format == Format::F16) {
      out[j] = half_at(group + (j * lanes + output) * 2);
    } else {
      uint16_t h;
      std::memcpy(&h, group + ((j / 2 * lanes + output) * 2 + j % 2) * 2, 2);
      out[j] = bits_to_float(uint32_t(h) << 16);
    }
  }
}

}  // namespace

void unpack_row(const PackedWeight& weight, int64_t n, float* out) {
  const Format format = weight.format;
  const uint8_t* group = weight.data + size_t(n / lanes) * group_bytes(format, weight.k);
  const int output = int(n % lanes), offset = quant_offset(format);
  if (act_kind(format) != ActKind::q8) return unpack_float_row(weight, group, output, out);
  const BlockLayout layout = block_layout(format);
  const uint8_t* scales = group + quant_area(format, weight.k);
  const int per_block = int(layout.block / act_block);
  for (int64_t b = 0; b < weight.k / act_block; b++) {
    uint8_t q[32];
    block_quants(format, group + size_t(b) * layout.quant_bytes + 4 * output, q);
    const Affine affine =
        block_affine(format, scales + size_t(b / per_block) * layout.scale_bytes, output, int(b % per_block));
    for (int i = 0; i < 32; i++) {
      const float product = affine.scale[i >> 4] * float(q[i] - offset);
      out[b * 32 + i] = has_min(format) ? product - affine.min[i >> 4] : product;
    }
  }
}

}  // namespace octavo
