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

// ---- Words to lines. A word is four bytes of one output; a line is one word of each of the 16 outputs.

typedef uint32_t Words __attribute__((vector_size(16)));  // every level has vectors of this size: no dispatch is needed

struct Rows {
  const uint8_t* of[lanes];
};

Words load_words(const uint8_t* p) {
  Words v;
  std::memcpy(&v, p, 16);
  return v;
}

// The first `count` words of 16 outputs, a multiple of 4, to as many lines: transposed, four by four words at once, with
// the bits of `flip` turned over.
void put_lines(const Rows& words, int64_t count, uint32_t flip, uint8_t* line) {
  const Words flips = {flip, flip, flip, flip};
  for (int64_t k = 0; k < count; k += 4, line += 4 * 64)
    for (int o = 0; o < lanes; o += 4) {
      const Words a = load_words(words.of[o] + 4 * k) ^ flips, b = load_words(words.of[o + 1] + 4 * k) ^ flips;
      const Words c = load_words(words.of[o + 2] + 4 * k) ^ flips, d = load_words(words.of[o + 3] + 4 * k) ^ flips;
      const Words ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ab2 = __builtin_shufflevector(a, b, 2, 6, 3, 7);
      const Words cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), cd2 = __builtin_shufflevector(c, d, 2, 6, 3, 7);
      const Words out[4] = {
          __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
          __builtin_shufflevector(ab2, cd2, 0, 1, 4, 5), __builtin_shufflevector(ab2, cd2, 2, 3, 6, 7)};
      for (int i = 0; i < 4; i++) std::memcpy(line + i * 64 + 4 * o, &out[i], 16);
    }
}

// ---- A super-block of one output to its words, in the order of lines.

// From two runs of 16 nibbles: inputs 0..15 at a, 16..31 at b, in the low or the high nibble.
void put_nibbles(uint32_t* words, const uint8_t* a, const uint8_t* b, int shift) {
  const Words nibbles = {0x0f0f0f0fu, 0x0f0f0f0fu, 0x0f0f0f0fu, 0x0f0f0f0fu};
  const Words out = (load_words(a) >> shift & nibbles) | (load_words(b) >> shift & nibbles) << 4;
  std::memcpy(words, &out, 16);
}

// Exchanges, in every byte, the fields that lie `bits` above the masked ones of row i with those of row i + apart: one
// step of the transposition of a square of fields.
template <int kRows>
void swap_fields(uint32_t (&w)[kRows], int apart, int bits, uint32_t mask) {
  for (int i = 0; i < kRows; i++) {
    if ((i & apart) != 0) continue;
    const uint32_t differ = (w[i] >> bits ^ w[i + apart]) & mask;
    w[i + apart] ^= differ;
    w[i] ^= differ << bits;
  }
}

// The words of ones of 8 sub-blocks, `step` words apart, from 32 bytes: bit s of byte i is input i of sub-block s.
void put_ones(uint32_t* words, size_t step, const uint8_t* bytes) {
  uint32_t w[8];
  std::memcpy(w, bytes, 32);
  swap_fields(w, 4, 4, 0x0f0f0f0fu);
  swap_fields(w, 2, 2, 0x33333333u);
  swap_fields(w, 1, 1, 0x55555555u);
  for (int s = 0; s < 8; s++) words[s * step] = w[s];
}

// The word of ones from a 32-bit mask, bit e for input e.
uint32_t ones_of(uint32_t mask) {
  uint32_t out = 0;
  // The product moves bit i of a nibble to bit 8 i.
  for (int k = 0; k < 8; k++) out |= ((mask >> 4 * k & 15) * 0x00204081u & 0x01010101u) << k;
  return out;
}

// The words of twos of 4 sub-blocks, `step` words apart, from 32 bytes: field s of byte i is input i of sub-block s.
void put_twos(uint32_t* words, size_t step, const uint8_t* bytes) {
  for (int h = 0; h < 2; h++) {
    uint32_t w[4];
    std::memcpy(w, bytes + 16 * h, 16);
    swap_fields(w, 2, 4, 0x0f0f0f0fu);
    swap_fields(w, 1, 2, 0x33333333u);
    for (int s = 0; s < 4; s++) words[s * step + h] = w[s];
  }
}

void put_words(Format format, const uint8_t* src, uint32_t* words) {
  const size_t step = block_layout(format).quant_bytes / 64;  // of a sub-block
  switch (format) {
    case Format::Q4_K:
    case Format::Q5_K: {
      const uint8_t* high = src + 16;
      const uint8_t* nibbles = format == Format::Q5_K ? high + 32 : high;
      for (int s = 0; s < 8; s++) {
        const uint8_t* run = nibbles + 32 * (s >> 1);
        put_nibbles(words + s * step, run, run + 16, 4 * (s & 1));
      }
      if (format == Format::Q5_K) put_ones(words + 4, step, high);
      return;
    }
    case Format::Q6_K:
      for (int s = 0; s < 8; s++) {
        const uint8_t* run = src + 64 * (s >> 2) + 32 * (s & 1);
        put_nibbles(words + s * step, run, run + 16, 4 * ((s & 3) >> 1));
      }
      for (int n = 0; n < 2; n++) put_twos(words + 4 * n * step + 4, step, src + 128 + 32 * n);
      return;
    case Format::Q2_K:
      for (int n = 0; n < 2; n++) put_twos(words + 4 * n * step, step, src + 16 + 32 * n);
      return;
    default:  // Q3_K
      for (int n = 0; n < 2; n++) put_twos(words + 4 * n * step, step, src + 32 + 32 * n);
      put_ones(words + 2, step, src);
      return;
  }
}

// ---- The scales of a super-block of one output.

// Byte i of a word to row i of 16 outputs.
void put_bytes(uint8_t* rows, int output, uint32_t word) {
  for (int i = 0; i < 4; i++) rows[i * lanes + output] = uint8_t(word >> 8 * i);
}

// The scales and minima of Q4_K and Q5_K. The file's first two words have the 6 bits of sub-blocks 0..3 and, above them,
// the upper two of sub-blocks 4..7; its third word is already what is wanted as the low bits of those.
void put_scale_min(uint8_t* scales, int output, const uint8_t* b) {
  constexpr uint32_t nibble = 0x0f0f0f0fu, two = 0x03030303u;
  const uint32_t scale = load32(b), min = load32(b + 4);
  put_bytes(scales, output, (scale & nibble) | (min & nibble) << 4);
  put_bytes(scales + 64, output, load32(b + 8));
  put_bytes(scales + 128, output,
            (scale >> 4 & two) | (min >> 4 & two) << 2 | (scale >> 6 & two) << 4 | (min >> 6 & two) << 6);
}

// Q3_K's 16 scales, in pairs for the inputs 0..15 and 16..31 of 8 sub-blocks.
void put_q3_scales(uint8_t* scales, int output, const uint8_t* b) {
  uint8_t all[16];
  for (int i = 0; i < 16; i++)
    all[i] = uint8_t((i < 8 ? b[i] & 15 : b[i - 8] >> 4) | (b[8 + (i & 3)] >> 2 * (i >> 2) & 3) << 4);
  for (int s = 0; s < 8; s++) {
    const uint8_t first = all[2 * s], second = all[2 * s + 1];
    scales[s * 16 + output] = uint8_t((first & 15) | (second & 15) << 4);
    const int high = first >> 4 | second >> 4 << 2;
    uint8_t& shared = scales[128 + (s & 3) * 16 + output];
    shared = s < 4 ? uint8_t(high) : uint8_t(shared | high << 4);
  }
}

void put_super_scales(Format format, const uint8_t* src, uint8_t* scales, int output) {
  switch (format) {
    case Format::Q4_K:
    case Format::Q5_K:
      put_scale_min(scales, output, src + 4);
      copy16(scales + 192, output, src);
      copy16(scales + 224, output, src + 2);
      return;
    case Format::Q6_K:
      for (int i = 0; i < 16; i++) scales[i * 16 + output] = src[192 + i];
      copy16(scales + 256, output, src + 208);
      return;
    case Format::Q2_K:
      for (int i = 0; i < 16; i++) scales[i * 16 + output] = src[i];
      copy16(scales + 256, output, src + 80);
      copy16(scales + 288, output, src + 82);
      return;
    default:  // Q3_K
      put_q3_scales(scales, output, src + 96);
      copy16(scales + 192, output, src + 108);
      return;
  }
}

// ---- One file block of all 16 outputs.

void put_small_block(Format format, const Rows& blocks, uint8_t* quants, uint8_t* scales) {
  const bool with_min = format == Format::Q4_1 || format == Format::Q5_1;
  const bool with_ones = format == Format::Q5_0 || format == Format::Q5_1;
  Rows words;
  for (int o = 0; o < lanes; o++) {
    const uint8_t* src = blocks.of[o];
    copy16(scales, o, src);
    if (with_min) copy16(scales + 32, o, src + 2);
    src += with_min ? 4 : 2;
    if (with_ones) {
      store32(quants + 256 + 4 * o, ones_of(load32(src)));
      src += 4;
    }
    words.of[o] = src;
  }
  if (format == Format::Q8_0) put_lines(words, 8, signed_bytes ? 0 : 0x80808080u, quants);
  else put_lines(words, 4, 0, quants);
}

void put_super_block(Format format, const Rows& blocks, uint8_t* quants, uint8_t* scales) {
  constexpr int most = 8 * 6;  // of Q6_K
  uint32_t words[lanes][most];
  Rows rows;
  for (int o = 0; o < lanes; o++) {
    put_words(format, blocks.of[o], words[o]);
    put_super_scales(format, blocks.of[o], scales, o);
    rows.of[o] = reinterpret_cast<const uint8_t*>(words[o]);
  }
  put_lines(rows, int64_t(block_layout(format).quant_bytes / 64 * 8), 0, quants);
}

// ---- Groups. A null row is an output beyond N.

// Lines of two F16 inputs become two rows of 16 values.
void split_halves(const uint8_t* lines, int64_t count, uint8_t* dst) {
  for (int64_t i = 0; i < count; i++, lines += 64, dst += 64)
    for (int o = 0; o < lanes; o++) {
      std::memcpy(dst + 2 * o, lines + 4 * o, 2);
      std::memcpy(dst + 32 + 2 * o, lines + 4 * o + 2, 2);
    }
}

// Inputs [0, returned) of a group that has all its outputs: the bulk of a float matrix.
int64_t pack_float_lines(Format format, int64_t k, const Rows& rows, uint8_t* dst) {
  const int64_t per_word = format == Format::F32 ? 1 : 2, words = k / per_word / 4 * 4;
  for (const uint8_t* row : rows.of)
    if (row == nullptr) return 0;
  if (format != Format::F16) {
    put_lines(rows, words, 0, dst);
    return words * per_word;
  }
  Rows at = rows;
  uint8_t lines[4 * 64];
  for (int64_t w = 0; w < words; w += 4, dst += sizeof lines) {
    put_lines(at, 4, 0, lines);
    split_halves(lines, 4, dst);
    for (const uint8_t*& row : at.of) row += 16;
  }
  return words * per_word;
}

void pack_float_group(Format format, int64_t k, const Rows& rows, uint8_t* dst) {
  const size_t width = format == Format::F32 ? 4 : 2;
  const int64_t inputs = format == Format::BF16 ? 2 : 1;  // adjacent in the packed row
  const int64_t steps = (k + inputs - 1) / inputs, cell = int64_t(width) * inputs;
  for (int64_t j = pack_float_lines(format, k, rows, dst) / inputs; j < steps; j++)
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
  for (int64_t b = 0; b < blocks; b++, quants += quant_step, scales += layout.scale_bytes) {
    Rows at;
    for (int o = 0; o < lanes; o++)
      at.of[o] = rows.of[o] == nullptr ? zeros : rows.of[o] + size_t(b) * layout.file_bytes;
    if (layout.block == 32) put_small_block(format, at, quants, scales);
    else put_super_block(format, at, quants, scales);
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
