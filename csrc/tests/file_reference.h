// Scalar references over the FILE layout of weights, written from the format descriptions and the formulas of linear.h,
// independent of the packed layout and of every kernel. Header of the C++ test programs only.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "../linear/linear.h"

namespace octavo::test {

constexpr Format all_formats[] = {Format::F32,  Format::F16,  Format::BF16, Format::Q4_0, Format::Q4_1,
                                  Format::Q5_0, Format::Q5_1, Format::Q8_0, Format::Q2_K, Format::Q3_K,
                                  Format::Q4_K, Format::Q5_K, Format::Q6_K};

inline const char* format_name(Format format) {
  switch (format) {
    case Format::F32: return "F32";
    case Format::F16: return "F16";
    case Format::BF16: return "BF16";
    case Format::Q4_0: return "Q4_0";
    case Format::Q4_1: return "Q4_1";
    case Format::Q5_0: return "Q5_0";
    case Format::Q5_1: return "Q5_1";
    case Format::Q8_0: return "Q8_0";
    case Format::Q2_K: return "Q2_K";
    case Format::Q3_K: return "Q3_K";
    case Format::Q4_K: return "Q4_K";
    case Format::Q5_K: return "Q5_K";
    case Format::Q6_K: return "Q6_K";
  }
  return "?";
}

struct Free { void operator()(uint8_t* p) const { std::free(p); } };
using Aligned = std::unique_ptr<uint8_t[], Free>;

inline Aligned aligned(size_t bytes) {
  return Aligned(static_cast<uint8_t*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64)));
}

inline float half_value(uint16_t h) {
  const int exponent = h >> 10 & 31, mantissa = h & 1023;
  const float magnitude = exponent == 0 ? std::ldexp(float(mantissa), -24)
                                        : std::ldexp(float(mantissa + 1024), exponent - 25);
  return h >> 15 ? -magnitude : magnitude;  // no infinities in test data
}

inline float half_in(const uint8_t* p) { return half_value(uint16_t(p[0] | p[1] << 8)); }

inline float bf16_value(uint16_t h) {
  const uint32_t bits = uint32_t(h) << 16;
  float f;
  std::memcpy(&f, &bits, 4);
  return f;
}

inline uint16_t bf16_round(float x) {
  uint32_t bits;
  std::memcpy(&bits, &x, 4);
  if (std::isnan(x)) return uint16_t(bits >> 16 | 64);
  const uint32_t rest = bits & 0xffff, kept = bits >> 16;
  return uint16_t(rest > 0x8000 || (rest == 0x8000 && (kept & 1)) ? kept + 1 : kept);
}

// One block of 32 inputs of a file as integers: true value = scale * sc * q - min * mn with sc, mn per 16 inputs.
struct Block32 {
  int q[32];
  float d, m;     // m: what is subtracted, before mn
  int sc[2], mn[2];
};

inline Block32 read_block(Format format, const uint8_t* row, int64_t index) {
  Block32 out{};
  out.sc[0] = out.sc[1] = 1;
  const auto six = [](const uint8_t* b, int s, int& sc, int& mn) {
    if (s < 4) sc = b[s] & 63, mn = b[s + 4] & 63;
    else sc = (b[s + 4] & 15) | (b[s - 4] >> 6) << 4, mn = (b[s + 4] >> 4) | (b[s] >> 6) << 4;
  };
  const int64_t block = block_length(format);
  const uint8_t* p = row + row_bytes(format, block) * size_t(index * 32 / block);
  const int s = int(index % (block / 32));
  for (int j = 0; j < 32; j++) {
    const int e = 32 * s + j;
    int& q = out.q[j];
    const auto nibble = [&](const uint8_t* nibbles) { return j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4; };
    const auto bit = [&](const uint8_t* bits) { return bits[j / 8] >> j % 8 & 1; };
    switch (format) {
      case Format::Q8_0: out.d = half_in(p); q = int8_t(p[2 + j]); break;
      case Format::Q4_0: out.d = half_in(p); q = nibble(p + 2) - 8; break;
      case Format::Q4_1: out.d = half_in(p); out.m = -half_in(p + 2); q = nibble(p + 4); break;
      case Format::Q5_0: out.d = half_in(p); q = (nibble(p + 6) | bit(p + 2) << 4) - 16; break;
      case Format::Q5_1: out.d = half_in(p); out.m = -half_in(p + 2); q = nibble(p + 8) | bit(p + 4) << 4; break;
      case Format::Q2_K: {
        out.d = half_in(p + 80), out.m = half_in(p + 82);
        q = p[16 + 32 * (e >> 7) + (e & 31)] >> 2 * (e >> 5 & 3) & 3;
        out.sc[j >> 4] = p[e >> 4] & 15, out.mn[j >> 4] = p[e >> 4] >> 4;
        break;
      }
      case Format::Q3_K: {
        out.d = half_in(p + 108);
        q = p[32 + 32 * (e >> 7) + (e & 31)] >> 2 * (e >> 5 & 3) & 3;
        if (!(p[e & 31] >> (e >> 5) & 1)) q -= 4;
        const int i = e >> 4;
        const uint8_t* b = p + 96;
        out.sc[j >> 4] = ((i < 8 ? b[i] & 15 : b[i - 8] >> 4) | (b[8 + (i & 3)] >> 2 * (i >> 2) & 3) << 4) - 32;
        break;
      }
      case Format::Q4_K:
      case Format::Q5_K: {
        out.d = half_in(p), out.m = half_in(p + 2);
        int sc, mn;
        six(p + 4, s, sc, mn);
        out.sc[0] = out.sc[1] = sc, out.mn[0] = out.mn[1] = mn;
        const uint8_t* nibbles = p + (format == Format::Q5_K ? 48 : 16);
        q = nibbles[32 * (e >> 6) + (e & 31)] >> (s % 2 ? 4 : 0) & 15;
        if (format == Format::Q5_K) q |= (p[16 + (e & 31)] >> s & 1) << 4;
        break;
      }
      case Format::Q6_K: {
        out.d = half_in(p + 208);
        const int n = e >> 7, r = e >> 5 & 3, l = e & 31;
        q = ((p[64 * n + 32 * (r & 1) + l] >> 4 * (r >> 1) & 15) | (p[128 + 32 * n + l] >> 2 * r & 3) << 4) - 32;
        out.sc[j >> 4] = int8_t(p[192 + (e >> 4)]);
        break;
      }
      default: break;
    }
  }
  if (format == Format::Q4_1 || format == Format::Q5_1) out.mn[0] = out.mn[1] = 1;
  return out;
}

inline float float_value(Format format, const uint8_t* row, int64_t i) {
  if (format == Format::F32) {
    float f;
    std::memcpy(&f, row + 4 * i, 4);
    return f;
  }
  const uint16_t h = uint16_t(row[2 * i] | row[2 * i + 1] << 8);
  return format == Format::F16 ? half_value(h) : bf16_value(h);
}

inline void reference_dequantize(Format format, const uint8_t* row, int64_t k, float* out) {
  if (block_length(format) == 1) {
    for (int64_t i = 0; i < k; i++) out[i] = float_value(format, row, i);
    return;
  }
  for (int64_t b = 0; b < k / 32; b++) {
    const Block32 block = read_block(format, row, b);
    for (int j = 0; j < 32; j++)
      out[b * 32 + j] = block.d * float(block.sc[j >> 4]) * float(block.q[j]) - block.m * float(block.mn[j >> 4]);
  }
}

inline ActBlock reference_act_block(const float* x) {
  ActBlock out{};
  float amax = 0;
  bool finite = true;
  for (int i = 0; i < 32; i++) {
    finite = finite && std::isfinite(x[i]);
    amax = std::fabs(x[i]) > amax ? std::fabs(x[i]) : amax;
  }
  if (!finite) {
    const uint32_t quiet = 0x7fc00000;
    std::memcpy(&out.scale, &quiet, 4);
    return out;
  }
  if (amax < 1e-36f) return out;
  const float inverse = 127.0f / amax;
  int sum = 0;
  for (int i = 0; i < 32; i++) {
    out.values[i] = int8_t(std::nearbyintf(x[i] * inverse));
    sum += out.values[i];
    out.halves[i / 16] = int16_t(out.halves[i / 16] + out.values[i]);
  }
  out.scale = amax / 127.0f;
  out.weighted_sum = out.scale * float(sum);
  for (int h = 0; h < 2; h++) out.half_offsets[h] = -32 * out.halves[h];
  out.offset = -128 * sum;
  return out;
}

// One output of one row, literally as linear.h says.
inline float reference_blocks(Format format, const std::vector<Block32>& blocks, const std::vector<ActBlock>& x) {
  const bool halves = format == Format::Q2_K || format == Format::Q3_K || format == Format::Q6_K;
  const bool has_min = format == Format::Q2_K || format == Format::Q4_K || format == Format::Q5_K ||
                       format == Format::Q4_1 || format == Format::Q5_1;
  float acc = 0;
  for (size_t b = 0; b < blocks.size(); b++) {
    const Block32& w = blocks[b];
    int dot[2] = {0, 0};
    for (int i = 0; i < 32; i++) dot[i / 16] += w.q[i] * x[b].values[i];
    if (halves) {
      acc = std::fmaf(w.d * x[b].scale, float(w.sc[0] * dot[0] + w.sc[1] * dot[1]), acc);
      if (has_min)
        acc = std::fmaf(-w.m * x[b].scale, float(w.mn[0] * x[b].halves[0] + w.mn[1] * x[b].halves[1]), acc);
    } else {
      acc = std::fmaf(w.d * float(w.sc[0]) * x[b].scale, float(dot[0] + dot[1]), acc);
      if (has_min) acc = std::fmaf(-(w.m * float(w.mn[0])), x[b].weighted_sum, acc);
    }
  }
  return acc;
}

inline std::vector<float> reference_product(Format format, const uint8_t* file, int64_t n, int64_t k, const float* x,
                                            int64_t rows) {
  std::vector<float> out(static_cast<size_t>(rows * n));
  const bool is_float = block_length(format) == 1;
  std::vector<ActBlock> act(is_float ? 0 : size_t(rows * k / 32));
  for (size_t b = 0; b < act.size(); b++) act[b] = reference_act_block(x + b * 32);
  for (int64_t o = 0; o < n; o++) {
    const uint8_t* row = file + size_t(o) * row_bytes(format, k);
    std::vector<Block32> blocks;
    for (int64_t b = 0; !is_float && b < k / 32; b++) blocks.push_back(read_block(format, row, b));
    for (int64_t r = 0; r < rows; r++) {
      float acc = 0;
      if (is_float) {
        for (int64_t i = 0; i < k; i++) {
          const float value = x[r * k + i];
          acc = std::fmaf(float_value(format, row, i), format == Format::BF16 ? bf16_value(bf16_round(value)) : value, acc);
        }
      } else {
        acc = reference_blocks(format, blocks, {act.begin() + r * k / 32, act.begin() + (r + 1) * k / 32});
      }
      out[size_t(r * n + o)] = acc;
    }
  }
  return out;
}

inline std::vector<float> random_activations(int64_t rows, int64_t k) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  std::vector<float> x(static_cast<size_t>(rows * k));
  for (float& value : x) value = normal(random) * (random() % 64 == 0 ? 20.0f : 1.0f);
  return x;
}

// Random bytes with sane half floats where scales stand.
inline std::vector<uint8_t> random_file(Format format, int64_t n, int64_t k, uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const int64_t block = block_length(format);
  const size_t bytes = row_bytes(format, block);
  std::vector<uint8_t> file(size_t(n) * row_bytes(format, k));
  std::vector<size_t> halves;
  switch (format) {
    case Format::F16: halves = {0}; break;
    case Format::Q4_0: case Format::Q5_0: case Format::Q8_0: halves = {0}; break;
    case Format::Q4_1: case Format::Q5_1: case Format::Q4_K: case Format::Q5_K: halves = {0, 2}; break;
    case Format::Q2_K: halves = {80, 82}; break;
    case Format::Q3_K: halves = {108}; break;
    case Format::Q6_K: halves = {208}; break;
    default: break;
  }
  for (size_t at = 0; at < file.size(); at += bytes) {
    if (format == Format::F32 || format == Format::BF16) {
      const float value = normal(random);
      uint8_t raw[4];
      std::memcpy(raw, &value, 4);
      std::memcpy(&file[at], raw + (4 - bytes), bytes);
      continue;
    }
    for (size_t i = 0; i < bytes; i++) file[at + i] = uint8_t(random());
    for (size_t offset : halves) {
      // Any sign and mantissa, exponents from subnormal to 2^-1.
      const uint16_t h = uint16_t((random() & 0x83ff) | random() % 15 << 10);
      file[at + offset] = uint8_t(h), file[at + offset + 1] = uint8_t(h >> 8);
    }
  }
  return file;
}

}  // namespace octavo::test
