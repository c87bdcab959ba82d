// Products of packed weights with quantized activations: the interface over raw pointers.
//
// A weight is an N x K matrix in a file format (ggml type). It is packed once into groups of 16 outputs (layout.h) and
// then used by every instruction-set level; N is padded with zeros to a multiple of 16. Activations are R rows of K
// floats, quantized once per row and shared by every product of that row. out[R][N] = act * weight^T.
//
// Arithmetic (the same for every number of rows, every range of groups and every tile shape; integer formats, F32 and
// F16 also the same on every level). An output is one lane with one accumulator acc:
//   q8 activations, block of 32 inputs b ascending, s_a and sum of the activation block:
//     scale per 32:        acc = fma(s_w * s_a, float(dot), acc)                      (s_w = d, or d * sc)
//       with a minimum:    acc = fma(m_w, s_a * float(sum), acc) after it             (m_w = m, or -(dmin * mn))
//     scale per 16:        acc = fma(d * s_a, float(sc0 * dot0 + sc1 * dot1), acc)
//       with a minimum:    acc = fma(-dmin * s_a, float(mn0 * sum0 + mn1 * sum1), acc) after it
//   F32, F16:  acc = fma(w, x, acc), k ascending.
//   BF16:      x rounded to bf16; avx512_bf16: vdpbf16ps over pairs (2j, 2j+1), j ascending; other levels as F32 (also
//              neon_i8mm, whose bfmlalb and bfmlalt are one fma for each input; its bfdot is not used).
// dot, sc * dot and sums are exact int32 values; products of floats are rounded once, where they are written.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../isa/isa.h"

namespace octavo {

// The type numbers of GGUF files.
enum class Format : int32_t {
  F32 = 0, F16 = 1, Q4_0 = 2, Q4_1 = 3, Q5_0 = 6, Q5_1 = 7, Q8_0 = 8,
  Q2_K = 10, Q3_K = 11, Q4_K = 12, Q5_K = 13, Q6_K = 14, BF16 = 30,
};

enum class ActKind : int32_t { f32 = 0, bf16 = 1, q8 = 2 };

// What happens to an output that is ready: out = acc, or out = out + acc (one last float addition).
enum class Epilogue : int32_t { store = 0, add = 1 };

constexpr int64_t lanes = 16;      // outputs of a group
constexpr int64_t act_block = 32;  // inputs that share an activation scale

// One block of a q8 row. values in [-127, 127], round to nearest even of x * (127 / amax); scale = amax / 127.
// A block with amax below 1e-36 is zero; one with an infinity or NaN has scale NaN and zero values.
struct ActBlock {
  int8_t values[32];
  float scale;
  float weighted_sum;  // scale * float(sum of all 32 values)
  int32_t offset;      // -128 * sum
  int16_t halves[2];   // sums of values 0..15 and 16..31
  int32_t half_offsets[2];  // -32 * halves
};
static_assert(sizeof(ActBlock) == 56);

struct PackedWeight {
  Format format;
  int64_t n, k;
  const uint8_t* data;  // packed_bytes(format, n, k), aligned to 64
};

bool is_known(Format format);

// Inputs of one file block (1 for the float formats). K must be a multiple.
int64_t block_length(Format format);

// Bytes of one row of K inputs in the file.
size_t row_bytes(Format format, int64_t k);

static constexpr int64_t group_count(int64_t n) { return (n + lanes - 1) / lanes; }

// Bytes of one packed group of 16 outputs (a multiple of 64), and of all groups.
size_t group_bytes(Format format, int64_t k);
size_t packed_bytes(Format format, int64_t n, int64_t k);

// Packs groups [group_begin, group_end) of an N x K matrix to dst (the start of the whole packed weight, aligned to
// 64). Output i of the packed weight is the file row row_index[i], or i where row_index is null; file row r begins at
// rows + r * row_stride. Ranges may be packed by different threads at the same time.
void pack(Format format, int64_t n, int64_t k, const uint8_t* rows, size_t row_stride, const int64_t* row_index,
          uint8_t* dst, int64_t group_begin, int64_t group_end);

// The K values of output n as floats: exactly the file format's dequantization.
void unpack_row(const PackedWeight& weight, int64_t n, float* out);

// Which activations a format multiplies, and the bytes of one row of K of them (a multiple of 64; f32: those of
// floats padded to 64, but products of f32 activations accept any stride, also the unquantized rows themselves).
ActKind act_kind(Format format);
size_t act_bytes(ActKind kind, int64_t k);

// Scratch of one worker for products of up to any number of rows with a weight of K inputs, aligned to 64 by the caller.
size_t scratch_bytes(Format format, int64_t k);

struct Product {
  PackedWeight weight;
  const uint8_t* act;      // rows as quantize writes them; act_kind(weight.format)
  size_t act_stride;       // bytes between two rows
  int64_t rows;
  float* out;              // [rows][ld_out], outputs 16 * group_begin .. min(n, 16 * group_end) are written
  int64_t ld_out;          // floats between two rows
  int64_t group_begin, group_end;
  Epilogue epilogue;
  uint8_t* scratch;        // scratch_bytes(weight.format, weight.k) that no other thread uses, aligned to 64
  // Packed weights that this thread will probably need after these, or null: fetched while the last groups are used.
  const uint8_t* ahead = nullptr;
};

// The kernels of one instruction-set level.
struct LinearKernels {
  // rows x K floats (ldx floats between rows) to rows of act_bytes(kind, k) bytes each.
  void (*quantize)(ActKind kind, const float* x, int64_t ldx, int64_t rows, int64_t k, uint8_t* dst);
  void (*multiply)(const Product& product);
};

const LinearKernels& linear_kernels(Isa isa);

}  // namespace octavo
