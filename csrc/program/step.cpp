// Checks of a step's arrays and the tables derived from them. See step.h.
#include "program/step.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace octavo {

namespace {

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument("StepInputs: " + message); }

void check_bound(const char* what, int64_t count, int64_t limit) {
  if (count < 0 || count > limit)
    fail(std::string(what) + ": " + std::to_string(count) + " are more than the program's limit of " +
         std::to_string(limit));
}

void check_rows(const StepArrays& in, const StepLimits& limits) {
  if (in.row_starts[0] != 0 || in.row_starts[in.rows] != in.tokens) fail("row_starts must span all tokens");
  for (int64_t r = 0; r < in.rows; ++r) {
    const auto fail_row = [r](const char* array, const std::string& what) {
      fail(std::string(array) + ": row " + std::to_string(r) + " " + what);
    };
    const int32_t begin = in.row_starts[r], end = in.row_starts[r + 1];
    if (begin >= end || begin < 0 || end > in.tokens) fail_row("row_starts", "has no tokens");
    if (in.positions[begin] < 0) fail_row("positions", "begins below zero");
    for (int32_t t = begin + 1; t < end; ++t)
      if (in.positions[t] != int64_t{in.positions[t - 1]} + 1) fail_row("positions", "does not rise by one");
    if (in.context_lens[r] != int64_t{in.positions[end - 1]} + 1)
      fail_row("context_lens", "does not end at its last token");
    if (in.context_lens[r] > limits.max_context)
      fail_row("context_lens", "has " + std::to_string(in.context_lens[r]) + " tokens, more than the limit of " +
                                   std::to_string(limits.max_context));
  }
}

// The part of a page table that the step reads, with every page that any token may see checked.
GroupTable group_table(const StepArrays& in, const StepLimits& limits, size_t g) {
  GroupTable table;
  const std::string name = "page_tables[" + std::to_string(g) + "]";
  int64_t longest = 0;
  for (int64_t r = 0; r < in.rows; ++r) longest = std::max<int64_t>(longest, in.context_lens[r]);
  table.width = (longest + limits.page_size - 1) / limits.page_size;
  if (table.width > in.table_widths[g]) fail(name + ": too few columns for the longest row");
  table.pages.assign(static_cast<size_t>(in.rows * table.width), -1);
  table.token_pages.resize(static_cast<size_t>(in.tokens));
  for (int64_t r = 0; r < in.rows; ++r) {
    const int32_t* source = in.page_tables[g] + r * in.table_widths[g];
    int32_t* row = table.pages.data() + r * table.width;
    const int64_t used = (int64_t{in.context_lens[r]} + limits.page_size - 1) / limits.page_size;
    std::copy(source, source + used, row);
    for (int64_t p = 0; p < used; ++p)
      if (row[p] < -1 || row[p] >= limits.num_pages)
        fail(name + ": row " + std::to_string(r) + " names page " + std::to_string(row[p]) + " of " +
             std::to_string(limits.num_pages));
    for (int32_t t = in.row_starts[r]; t < in.row_starts[r + 1]; ++t)
      table.token_pages[static_cast<size_t>(t)] = row[in.positions[t] / limits.page_size];
  }
  return table;
}

void check_window(const StepArrays& in, const StepLimits& limits, const GroupTable& table,
                  const AttentionShape& shape) {
  for (int64_t r = 0; r < in.rows; ++r) {
    const int64_t first = in.positions[in.row_starts[r]];
    const int64_t begin = shape.window > 0 ? std::max<int64_t>(0, first - shape.window + 1) : 0;
    for (int64_t p = begin / limits.page_size; p * limits.page_size < in.context_lens[r]; ++p)
      if (table.pages[static_cast<size_t>(r * table.width + p)] < 0)
        fail("page_tables[" + std::to_string(shape.group) + "]: row " + std::to_string(r) +
             " needs a page that it does not have, at column " + std::to_string(p));
  }
}

}  // namespace

Step::Step(const StepArrays& in, const StepLimits& limits, const std::vector<AttentionShape>& shapes)
    : tokens(in.tokens), rows(in.rows), samples(in.samples) {
  check_bound("tokens", tokens, limits.max_tokens);
  check_bound("rows", rows, limits.max_rows);
  check_bound("sample_rows", samples, limits.max_samples);
  if (tokens == 0 || rows == 0) fail("a step has at least one row and one token");
  if (static_cast<int32_t>(in.page_tables.size()) != limits.num_groups)
    fail("page_tables: " + std::to_string(in.page_tables.size()) + " given for " + std::to_string(limits.num_groups) +
         " KV groups");
  check_rows(in, limits);
  for (int64_t t = 0; t < tokens; ++t)
    if (in.token_ids[t] < 0 || in.token_ids[t] >= limits.vocab_size)
      fail("token_ids: " + std::to_string(in.token_ids[t]) + " is outside a vocabulary of " +
           std::to_string(limits.vocab_size));
  for (int64_t s = 0; s < samples; ++s)
    if (in.sample_rows[s] < 0 || in.sample_rows[s] >= tokens) fail("sample_rows: no such token");

  token_ids.assign(in.token_ids, in.token_ids + tokens);
  positions.assign(in.positions, in.positions + tokens);
  sample_rows.assign(in.sample_rows, in.sample_rows + samples);
  offsets.resize(static_cast<size_t>(tokens));
  for (int64_t t = 0; t < tokens; ++t) offsets[static_cast<size_t>(t)] = in.positions[t] % limits.page_size;
  for (size_t g = 0; g < in.page_tables.size(); ++g) groups.push_back(group_table(in, limits, g));
  attention.resize(shapes.size());
  for (size_t i = 0; i < shapes.size(); ++i) {
    const AttentionShape& shape = shapes[i];
    check_window(in, limits, groups[static_cast<size_t>(shape.group)], shape);
    const GroupTable& table = groups[static_cast<size_t>(shape.group)];
    const AttentionRows cut{in.row_starts, rows, in.positions, table.pages.data(), table.width, limits.page_size};
    plan_attention(cut, {shape.num_kv_heads, shape.heads_per_kv, shape.head_dim, shape.window}, limits.workers,
                   limits.max_partials, limits.slowness, attention[i]);
  }
}

}  // namespace octavo
