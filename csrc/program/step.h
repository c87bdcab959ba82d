// The facts of one step, checked and copied: what instructions read while a program runs.
//
// Made by Program::prepare. Knows the limits and the shapes of attention, no weights and no scratch.
#pragma once

#include <cstdint>
#include <vector>

#include "ops/attention.h"

namespace octavo {

// Attention layers that share one cut of the step into work.
struct AttentionShape {
  int32_t group;          // KV group, whose page table is read
  int32_t window;         // 0: none
  int32_t num_kv_heads;
  int32_t heads_per_kv;
  int32_t head_dim;
  bool operator==(const AttentionShape&) const = default;
};

struct StepLimits {
  int64_t max_tokens, max_rows, max_samples, max_context;
  int64_t vocab_size;     // rows of the smallest embedding
  int32_t page_size;
  int64_t num_pages;
  int32_t num_groups;
  int64_t max_partials;   // of one attention plan
  int64_t workers;
  double slowness = 1;    // of the level's kernels, as in Frame
};

// The caller's arrays (StepInputs of backends/ops.py); page_tables[g] is [rows][table_widths[g]].
struct StepArrays {
  int64_t tokens, rows, samples;
  const int32_t* token_ids;
  const int32_t* positions;
  const int32_t* row_starts;
  const int32_t* context_lens;
  const int32_t* sample_rows;
  std::vector<const int32_t*> page_tables;
  std::vector<int64_t> table_widths;
};

struct GroupTable {
  std::vector<int32_t> pages;          // [rows][width]
  int64_t width = 0;
  std::vector<int32_t> token_pages;    // [tokens] page of the token's own position
};

struct Step {
  // Throws std::invalid_argument, naming the array and the place.
  Step(const StepArrays& arrays, const StepLimits& limits, const std::vector<AttentionShape>& shapes);

  uint64_t program = 0;  // Program::serial of the one that prepared it
  int64_t tokens, rows, samples;
  std::vector<int32_t> token_ids, positions, offsets, sample_rows;
  std::vector<GroupTable> groups;
  std::vector<AttentionPlan> attention;  // by shape
};

}  // namespace octavo
