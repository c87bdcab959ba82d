// How a step's attention is cut into work. Knows no kernel; what it decides never changes a result.

#include "attention.h"

#include <algorithm>

namespace octavo {

namespace {

constexpr int64_t items_per_worker = 4;
constexpr int64_t long_context = 1024;  // keys from which reading them fewer times is worth coarser work


int64_t cut_tiles(const int32_t* row_starts, int64_t rows, const int32_t* positions, int64_t group, int64_t window,
                  std::vector<AttentionItem>& items) {
  int64_t splits = 0;
  for (int64_t r = 0; r < rows; r++) {
    int64_t count = 0;
    for (int64_t t = row_starts[r]; t < row_starts[r + 1]; t += count) {
      const int64_t most = positions[t] < long_context ? attention_block_rows / 2 : attention_block_rows;
      count = std::min<int64_t>(std::max<int64_t>(1, most / group), row_starts[r + 1] - t);
      const int64_t low = window > 0 ? std::max<int64_t>(0, positions[t] - window + 1) : 0;
      AttentionItem item{};
      item.row = int32_t(r);
      item.first_token = int32_t(t);
      item.num_tokens = int32_t(count);
      item.split_begin = int32_t(low / attention_split);
      item.split_end = int32_t(positions[t + count - 1] / attention_split + 1);
      item.partial = -1;
      splits += item.split_end - item.split_begin;
      items.push_back(item);
    }
  }
  return splits;
}

}  // namespace

int64_t attention_workspace_floats(int64_t head_dim) {
  const int64_t width = (head_dim + 15) / 16 * 16;
  return attention_block_rows * (3 * width + attention_split) + 2 * attention_split * width;
}

int64_t attention_partial_limit(int64_t max_rows, int64_t max_context, int64_t workers) {
  const int64_t splits = (max_context + attention_split - 1) / attention_split;
  const int64_t rows = std::min(max_rows, items_per_worker * workers);
  return workers > 1 && splits > 1 ? std::min<int64_t>(rows * splits, 4096) : 0;
}

void plan_attention(const int32_t* row_starts, int64_t rows, const int32_t* positions, int64_t num_kv_heads,
                    int64_t group, int64_t window, int64_t workers, int64_t max_partials, AttentionPlan& plan) {
  plan.items.clear();
  plan.merges.clear();
  plan.num_partials = 0;
  const int64_t splits = cut_tiles(row_starts, rows, positions, group, window, plan.items);
  const int64_t wanted = items_per_worker * workers;
  const int64_t whole = int64_t(plan.items.size());
  if (workers > 1 && whole * num_kv_heads < wanted) {
    // Splits of one item so that about `wanted` items times heads come out.
    const int64_t share = std::max<int64_t>(1, splits * num_kv_heads / wanted);
    for (int64_t i = 0; i < whole; i++) {
      const AttentionItem tile = plan.items[size_t(i)];
      const int64_t length = tile.split_end - tile.split_begin;
      if (length <= share || plan.num_partials + length * tile.num_tokens > max_partials) continue;
      for (int32_t t = 0; t < tile.num_tokens; t++)
        plan.merges.push_back({tile.first_token + t, int32_t(plan.num_partials + t * length), int32_t(length)});
      for (int64_t s = 0; s < length; s += share) {
        AttentionItem piece = tile;
        piece.split_begin = int32_t(tile.split_begin + s);
        piece.split_end = int32_t(std::min<int64_t>(tile.split_begin + s + share, tile.split_end));
        piece.partial = int32_t(plan.num_partials + s);
        piece.partial_stride = int32_t(length);
        if (s == 0) plan.items[size_t(i)] = piece;
        else plan.items.push_back(piece);
      }
      plan.num_partials += int32_t(length * tile.num_tokens);
    }
  }
  // Long work first, so that no worker is left with a long item at the end.
  std::stable_sort(plan.items.begin(), plan.items.end(), [](const AttentionItem& a, const AttentionItem& b) {
    return a.split_end - a.split_begin > b.split_end - b.split_begin;
  });
}

}  // namespace octavo
