// The packed layout of block formats: what pack.cpp writes and the kernels read.
//
// A packed weight is a sequence of groups of 16 outputs. A group has two areas:
//   quants: per block of 32 inputs, lines of 64 bytes; byte 4 o + i of line k belongs to output o and input 4 k + i.
//   scales: per file block (32 or 256 inputs), fields of 16 outputs each.
// and is padded to a multiple of 64 bytes.
//
// Lines of a block (inputs 4 k .. 4 k + 3 are "line k", k = 0..7):
//   bytes    8 lines: the value plus its offset of 128, or the value itself where products take signed bytes (isa.h).
//   nibbles  4 lines: byte j has line j in its low and line j + 4 in its high nibble.
//   twos     2 lines: byte h has lines 4 h .. 4 h + 3 in its four 2-bit fields, low bits first.
//   ones     1 line:  bit k is the high bit of line k.
//   Q8_0 = bytes; Q4_0, Q4_1, Q4_K = nibbles; Q5_0, Q5_1, Q5_K = nibbles, ones; Q6_K = nibbles, twos; Q2_K = twos;
//   Q3_K = twos, ones.
// Scales of a file block:
//   Q8_0, Q4_0, Q5_0  d[16] (f16)
//   Q4_1, Q5_1        d[16], m[16]
//   Q4_K, Q5_K        low[8][16] = scale & 15 | (min & 15) << 4; high[4][16]: in nibble s >> 2 of byte [s & 3][o]
//                     scale >> 4 | (min >> 4) << 2 of sub-block s; d[16]; dmin[16]
//   Q3_K              low, high as above, with the scales of inputs 0..15 and 16..31 in the place of scale and min; d[16]
//   Q2_K              byte[8][2][16] = scale | min << 4 of 16 inputs; d[16]; dmin[16]
//   Q6_K              scale[8][2][16] (i8) of 16 inputs; d[16]
// Float formats: F32 and F16 are [k][16]; BF16 is [pair of k][16][2].
#pragma once

#include "linear.h"

namespace octavo {

// Functions here are static: units of several instruction sets include this file and may not share code.

struct BlockLayout {
  int64_t block;        // inputs of a file block
  size_t file_bytes;    // of a file block
  size_t quant_bytes;   // packed, per group and 32 inputs
  size_t scale_bytes;   // packed, per group and file block
};

static constexpr BlockLayout block_layout(Format format) {
  switch (format) {
    case Format::Q4_0: return {32, 18, 256, 32};
    case Format::Q4_1: return {32, 20, 256, 64};
    case Format::Q5_0: return {32, 22, 320, 32};
    case Format::Q5_1: return {32, 24, 320, 64};
    case Format::Q8_0: return {32, 34, 512, 32};
    case Format::Q2_K: return {256, 84, 128, 320};
    case Format::Q3_K: return {256, 110, 192, 224};
    case Format::Q4_K: return {256, 144, 256, 256};
    case Format::Q5_K: return {256, 176, 320, 256};
    case Format::Q6_K: return {256, 210, 384, 288};
    case Format::F32: return {1, 4, 0, 0};
    case Format::F16:
    case Format::BF16: return {1, 2, 0, 0};
  }
  return {0, 0, 0, 0};
}

// Where the scales of a group begin.
static constexpr size_t quant_area(Format format, int64_t k) {
  return size_t(k / act_block) * block_layout(format).quant_bytes;
}

// Many rows on levels with few registers: one group at a time is unpacked to lines of bytes and ready scales in the
// scratch of a worker. Q8_0, whose lines are bytes already, is not.
constexpr size_t panel_block_bytes = 8 * 64 + 5 * 64;

static constexpr size_t round_up_64(size_t bytes) { return (bytes + 63) & ~size_t(63); }

}  // namespace octavo
