// The kernels other than products with weights: the interface over raw pointers.
//
// Every function works on a range [begin, end) of rows or work items, so that any thread may compute any chunk: what a
// row gets depends on that row alone, never on the range, the neighbours or the thread. Nothing here allocates, locks
// or keeps state. Activations are float32 rows; ld* are floats between two rows. Outputs may be the same memory as an
// input of the same row unless said otherwise; other overlaps are not allowed. Per-row arrays (positions, pages, ...)
// are indexed by the absolute row, so a chunk passes the same base pointers as the whole.
//
// Row reductions: 16 lanes, lane i takes elements i, i + 16, ... ascending, absent elements add nothing; then the lanes
// are added pairwise at distance 8, 4, 2, 1. Multiply-adds are explicit. exp, tanh, erf are polynomials of our own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "../isa/isa.h"
#include "attention.h"
#include "kv_layout.h"

namespace octavo {

enum class Activation : int32_t { silu = 0, gelu_tanh = 1, gelu = 2, relu = 3 };

// Rows of a matrix: row r begins at data + r * ld.
struct Rows {
  float* data;
  int64_t ld;
};
struct ConstRows {
  const float* data;
  int64_t ld;
};

struct OpKernels {
  // --- Norms. Each row holds `groups` groups of `width` adjacent values (groups = 1: over the whole row; else per
  // head); one weight [width] serves all groups. out = x * (1 / sqrt(mean(x^2) + eps)) * w.
  void (*rms_norm)(ConstRows x, const float* w, float eps, Rows out, int64_t begin, int64_t end, int64_t groups,
                   int64_t width);
  // sum = x + residual, stored to sum (which may be x or residual), then out = rms_norm(sum); groups = 1.
  void (*add_rms_norm)(ConstRows x, ConstRows residual, const float* w, float eps, Rows sum, Rows out, int64_t begin,
                       int64_t end, int64_t width);
  // (x - mean) * (1 / sqrt(var + eps)) * w + b; b may be null.
  void (*layer_norm)(ConstRows x, const float* w, const float* b, float eps, Rows out, int64_t begin, int64_t end,
                     int64_t width);

  // --- Rotary embedding. Pair i of a head is (x[i], x[i + half]); values from 2 * half to head_dim pass through.
  // table: rows of 2 * half floats as rope_table writes them, one per token.
  void (*rope)(ConstRows x, const float* table, int64_t half, Rows out, int64_t begin, int64_t end, int64_t heads,
               int64_t head_dim);

  // --- KV pages. Row t of k and v [.., G * head_dim] goes to the token place (pages[t], offsets[t]) of kv; a page
  // below zero is skipped (a window that lies before the token's page). Narrow types round to nearest, ties to even,
  // with the same bits on every level; beyond the range of f16 comes an infinity, NaN stays NaN.
  void (*store_kv)(ConstRows k, ConstRows v, const KvView& kv, const int32_t* pages, const int32_t* offsets,
                   int64_t begin, int64_t end);

  // --- Attention (attention.h). Work w is item w / num_kv_heads at key/value head w % num_kv_heads. workspace:
  // attention_workspace_floats() that no other thread uses, aligned to 64 bytes.
  void (*attention)(const AttentionCall& call, const AttentionItem* items, int64_t begin, int64_t end,
                    float* workspace);
  // Work w is merge w / num_heads at query head w % num_heads. After all attention work of the plan.
  void (*attention_merge)(const AttentionCall& call, const AttentionMerge* merges, int64_t begin, int64_t end);

  // --- Element by element, rows of `width`.
  void (*gated)(ConstRows gate, ConstRows up, Rows out, int64_t begin, int64_t end, int64_t width,
                Activation activation);
  void (*activate)(ConstRows x, Rows out, int64_t begin, int64_t end, int64_t width, Activation activation);
  void (*add)(ConstRows a, ConstRows b, Rows out, int64_t begin, int64_t end, int64_t width);
  void (*add_bias)(ConstRows x, const float* bias, Rows out, int64_t begin, int64_t end, int64_t width);
  void (*scale)(ConstRows x, float factor, Rows out, int64_t begin, int64_t end, int64_t width);
  // factor * x, then cap * tanh(. / cap).
  void (*soft_cap)(ConstRows x, float factor, float cap, Rows out, int64_t begin, int64_t end, int64_t width);
  // Row r of out is row indices[r] of x; out must not overlap x.
  void (*gather_rows)(ConstRows x, const int32_t* indices, Rows out, int64_t begin, int64_t end, int64_t width);

  // --- Parts of sampling (sampling.h) over one row of n values.
  int64_t (*argmax)(const float* x, int64_t n);                       // the first NaN, else the first maximum
  double (*log_sum_exp)(const float* x, int64_t n);                   // -inf where all are -inf
  // out = x / divisor, with -inf for NaN; whether there was any.
  bool (*divide)(const float* x, float divisor, float* out, int64_t n);
  void (*exp_minus)(const float* x, float maximum, float* out, int64_t n);  // exp(x - maximum)
  void (*block_max)(const float* x, int64_t n, int64_t block, float* out);  // of each `block` values and the rest
  double (*mass_at_least)(const float* x, const float* mass, int64_t n, float threshold);  // sum of mass where x >= it
  int64_t (*count_at_least)(const float* x, int64_t n, float threshold);
  int64_t (*count_greater)(const float* x, int64_t n, float value);
  // Indices with low <= x <= high, ascending, to ids (room for n); how many.
  int64_t (*select_between)(const float* x, int64_t n, float low, float high, int32_t* ids);
  // Indices i with x[i] >= threshold whose x[i] + g(first_id + i) may be at least `best`, ascending, to ids (room for
  // n); how many. May give a few too many, never misses one. row_key = mix(seed).
  int64_t (*gumbel_candidates)(const float* x, int64_t n, int64_t first_id, uint64_t row_key, int32_t position,
                               float threshold, float best, int32_t* ids);
};

// The kernels of one instruction-set level.
const OpKernels& op_kernels(Isa isa);

// cos and sin of the tokens [begin, end), the same on every level. Row t of table, 2 * half floats: factor *
// cos(a_i) for i < half, then factor * sin(a_i), in float64 until stored, where a_i is float32(position) * inv_freq[i]
// rounded to float32.
void rope_table(const int32_t* positions, const float* inv_freq, int64_t half, double factor, float* table,
                int64_t begin, int64_t end);

}  // namespace octavo
