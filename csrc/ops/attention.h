// Paged attention: the values that describe a call and how it is cut into work.
//
// Arithmetic of one query row (a token at a query head), which depends on nothing else. x = q * (scale * log2 e); keys
// are cut at absolute positions into splits of 256. In a split: scores s_j (below; natural units are s_j * ln 2), then
// the soft cap, -inf where masked; m = max s; p_j = 2^(s_j - m); l = sum of p over 16 lanes (lane = position mod 16,
// ascending), then the lane tree of ops.h; acc[d] = the sum of p_j v_j[d] (below). Splits are merged in ascending order:
// M' = max(M, m), a = 2^(M - M'), b = 2^(m - M'), L = fma(L, a, l * b), A = fma(A, a, acc * b); a split that is masked
// as a whole changes nothing. A sink z: M' = max(M, z log2 e), A = A * 2^(M - M'), L = fma(L, 2^(M - M'),
// 2^(z log2 e - M')). The result is A * (1 / L), with no negative zeros.
//
// The two products, by type of the pages:
// - f32, f16, and bf16 below the level avx512_bf16: s_j = sum over d ascending of fma(x[d], k_j[d], .), acc[d] = sum over
//   j ascending of fma(p_j, v_j[d], .), in float32.
// - bf16 at avx512_bf16: x and p are rounded to bf16; sums over ascending pairs of d and of j by the pair product of that
//   level. l sums p before it is rounded.
// - int8: x is rounded to 16 bits, x ~ X[d] * a with a = max |x| / 32639; s_j = float(sum of X[d] K_j[d]) * (K's scale *
//   a), the sum exact. w_j = p_j * V's scale is rounded to 16 bits, w_j ~ W_j * b with b = max w / 32639 over the split;
//   acc[d] = float(sum of W_j V_j[d]) * b, the sum exact. The same bits on every level.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "kv_layout.h"

namespace octavo {

constexpr int64_t attention_split = 256;      // keys of a split
constexpr int64_t attention_block_rows = 96;  // query rows (tokens x group) that share one pass over the keys, at most

// A token of a work item, and where its first partial result goes.
struct AttentionEntry {
  int32_t token;
  int32_t partial;
};

struct AttentionCall {
  const float* q;             // [T][ldq], query head h at h * head_dim
  int64_t ldq;
  float* out;                 // [T][ldo]
  int64_t ldo;
  KvView kv;
  const int32_t* page_table;  // [R][ld_table] pages of the layer's group
  int64_t ld_table;
  const int32_t* positions;   // [T]
  const AttentionEntry* entries;  // of the plan
  int32_t num_heads;          // a multiple of kv.num_kv_heads
  int32_t window;             // 0: none; the plan must have been made with the same
  float scale;
  float soft_cap;             // 0: none
  const float* sinks;         // [num_heads] or null
  float* partials;            // attention_partial_floats(...) * plan.num_partials, or null where that is 0
};

// What an item does with its splits: all of its tokens' keys, to the output; their first splits, merged to one partial;
// others, a partial for each.
enum class AttentionPart : int32_t { whole = 0, first = 1, later = 2 };

// Tokens over a range of splits, for one key/value head at a time. The tokens are of one row, or of several whose pages
// are the same in that range and lie wholly before them.
struct AttentionItem {
  int32_t row;                     // whose page table is read
  int32_t first_entry, num_tokens;
  int32_t split_begin, split_end;
  AttentionPart part;
};

// The partials of one token, in ascending order of splits.
struct AttentionMerge {
  int32_t token;
  int32_t partial, num_partials;
};

// One step's work for all layers that share window and page table. Results do not depend on how work is cut.
struct AttentionPlan {
  std::vector<AttentionItem> items;
  std::vector<AttentionEntry> entries;
  std::vector<AttentionMerge> merges;
  std::vector<int32_t> chunks;  // ends of runs of work (items x key/value heads) of about equal cost
  int32_t num_partials = 0;
};

// Floats of one partial (all query heads of one token).
static constexpr int64_t attention_partial_floats(int64_t num_heads, int64_t head_dim) {
  return (num_heads * (head_dim + 2) + 15) / 16 * 16;
}

// Floats of one worker's workspace.
int64_t attention_workspace_floats(int64_t head_dim);

// The bound on plan.num_partials to give to plan_attention and to plan scratch for.
int64_t attention_partial_limit(int64_t max_rows, int64_t max_context);

// What a plan is made for.
struct AttentionRows {
  const int32_t* row_starts;  // [rows + 1]
  int64_t rows;
  const int32_t* positions;   // [T]
  const int32_t* page_table;  // [rows][ld_table]
  int64_t ld_table;
  int32_t page_size;
};
struct AttentionHeads {
  int32_t num_kv_heads, group, head_dim;
  int32_t window;
};

// Cuts a step. Rows of few tokens whose page tables begin alike share the work on those pages; what is long is split
// over workers. Both need partials, and are left out where max_partials does not allow them. slowness: how much slower
// than AVX-512 the kernels are, roughly. Reuses the plan's memory.
void plan_attention(const AttentionRows& rows, const AttentionHeads& heads, int64_t workers, int64_t max_partials,
                    double slowness, AttentionPlan& plan);

}  // namespace octavo
