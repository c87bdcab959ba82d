// Paged attention: the values that describe a call and how it is cut into work.
//
// Arithmetic of one query row (a token at a query head), which depends on nothing else. Keys are cut at absolute
// positions into splits of 256. In a split: scores s_j = sum over d ascending of fma(scale * q[d], k_j[d], .), then the
// soft cap, -inf where masked; m = max s; p_j = exp(s_j - m); l = sum of p over 16 lanes (lane = position mod 16,
// ascending), then the lane tree of ops.h; acc[d] = sum over j ascending of fma(p_j, v_j[d], .). Splits are merged in
// ascending order: M' = max(M, m), a = exp(M - M'), b = exp(m - M'), L = fma(L, a, l * b), A = fma(A, a, acc * b);
// a split that is masked as a whole changes nothing. A sink z: M' = max(M, z), A = A * exp(M - M'),
// L = fma(L, exp(M - M'), exp(z - M')). The result is A / L as A * (1 / L), with no negative zeros.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kv_layout.h"

namespace octavo {

constexpr int64_t attention_split = 256;      // keys of a split
constexpr int64_t attention_block_rows = 64;  // query rows (tokens x group) that share one pass over the keys, at most

struct AttentionCall {
  const float* q;             // [T][ldq], query head h at h * head_dim
  int64_t ldq;
  float* out;                 // [T][ldo]
  int64_t ldo;
  KvView kv;
  const int32_t* page_table;  // [R][ld_table] pages of the layer's group
  int64_t ld_table;
  const int32_t* positions;   // [T]
  int32_t num_heads;          // a multiple of kv.num_kv_heads
  int32_t window;             // 0: none; the plan must have been made with the same
  float scale;
  float soft_cap;             // 0: none
  const float* sinks;         // [num_heads] or null
  float* partials;            // attention_partial_floats(...) * plan.num_partials, or null where that is 0
};

// A tile of consecutive tokens of one row over a range of splits, for one key/value head at a time.
struct AttentionItem {
  int32_t row;
  int32_t first_token, num_tokens;
  int32_t split_begin, split_end;
  int32_t partial;         // -1: all splits of the tile, writes the output; else token i's split s goes to the partial
  int32_t partial_stride;  // partial + i * partial_stride + (s - split_begin)
};

// The partials of one token, in ascending order of splits.
struct AttentionMerge {
  int32_t token;
  int32_t partial, num_partials;
};

// One step's work for all layers that share window and page table. Results do not depend on how work is cut.
struct AttentionPlan {
  std::vector<AttentionItem> items;
  std::vector<AttentionMerge> merges;
  int32_t num_partials = 0;
};

// Floats of one partial (all query heads of one token and one split).
static constexpr int64_t attention_partial_floats(int64_t num_heads, int64_t head_dim) {
  return (num_heads * (head_dim + 2) + 15) / 16 * 16;
}

// Floats of one worker's workspace.
int64_t attention_workspace_floats(int64_t head_dim);

// The bound on plan.num_partials to give to plan_attention and to plan scratch for. workers: threads of the pool.
int64_t attention_partial_limit(int64_t max_rows, int64_t max_context, int64_t workers);

// Cuts a step. row_starts [rows + 1], positions [T]. group = num_heads / num_kv_heads. Long rows are split over
// workers while items are few (items * num_kv_heads below about 4 per worker) and max_partials allows.
// Reuses the plan's memory.
void plan_attention(const int32_t* row_starts, int64_t rows, const int32_t* positions, int64_t num_kv_heads,
                    int64_t group, int64_t window, int64_t workers, int64_t max_partials, AttentionPlan& plan);

}  // namespace octavo
