// How a step's attention is cut into work. Knows no kernel; what it decides never changes a result.

#include "attention.h"

#include <algorithm>
#include <utility>

namespace octavo {

namespace {

constexpr int64_t max_partials_of_plan = 2048;
constexpr int64_t sharing_rows = 16;  // query rows at one key/value head from which a row does not join others

// Nanoseconds on the highest level, roughly: only the cut follows.
constexpr double item_ns = 150, row_ns = 15, key_bytes_per_ns = 18, products_per_ns = 60;
constexpr double shortest_chunk_ns = 2e3, longest_chunk_ns = 40e3, shortest_piece_ns = 5e3;
constexpr int64_t chunks_per_worker = 4, pieces_per_worker = 8;

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

class Planner {
 public:
  Planner(const AttentionRows& rows, const AttentionHeads& heads, int64_t workers, int64_t max_partials,
          double slowness, AttentionPlan& plan)
      : rows_(rows), heads_(heads), workers_(workers), max_partials_(max_partials), slowness_(slowness), plan_(plan) {}

  void run();

 private:
  int32_t tokens_of(int64_t row) const { return rows_.row_starts[row + 1] - rows_.row_starts[row]; }
  int32_t position_of(int64_t row) const { return rows_.positions[rows_.row_starts[row]]; }
  int32_t last_position_of(int64_t row) const { return rows_.positions[rows_.row_starts[row + 1] - 1]; }
  double cost(int64_t num_tokens, int64_t splits) const;
  int64_t common_splits(int64_t a, int64_t b) const;
  void share_prefixes();
  void share(const std::vector<int32_t>& members, int64_t splits);
  void cut_row(int64_t row, int64_t most);
  void add(AttentionItem item, const AttentionEntry* entries, int32_t offset);
  void cut_item(size_t index, double limit);
  void split_long_items();
  void cut_chunks();

  const AttentionRows& rows_;
  const AttentionHeads& heads_;
  const int64_t workers_, max_partials_;
  const double slowness_;
  AttentionPlan& plan_;
  std::vector<int32_t> shared_;  // splits of each row that an item of several rows computes
};

// Of one item at one key/value head.
double Planner::cost(int64_t num_tokens, int64_t splits) const {
  const double keys = static_cast<double>(splits * attention_split);
  const double rows = static_cast<double>(num_tokens * heads_.group);
  const double bytes = keys * 4 * heads_.head_dim / key_bytes_per_ns;
  return slowness_ * (item_ns + rows * row_ns + std::max(bytes, keys * rows * 2 * heads_.head_dim / products_per_ns));
}

// Leading splits that both rows see whole, at the same pages.
int64_t Planner::common_splits(int64_t a, int64_t b) const {
  const int64_t keys = std::min(position_of(a), position_of(b)) + 1;
  const int32_t *one = rows_.page_table + a * rows_.ld_table, *other = rows_.page_table + b * rows_.ld_table;
  const int64_t most = keys / attention_split * attention_split / rows_.page_size;
  int64_t pages = 0;
  while (pages < most && one[pages] == other[pages] && one[pages] >= 0) pages++;
  return pages * rows_.page_size / attention_split;
}

// Rows that begin with the same page are compared with one of them; of those, the set that saves most joins.
void Planner::share_prefixes() {
  std::vector<int32_t> left;
  for (int64_t r = 0; r < rows_.rows; r++) {
    const bool reaches = heads_.window == 0 || last_position_of(r) < heads_.window;
    if (tokens_of(r) * heads_.group <= std::max<int64_t>(sharing_rows, heads_.group) && reaches &&
        position_of(r) + 1 >= attention_split)
      left.push_back(int32_t(r));
  }
  const auto page = [&](int32_t r) { return rows_.page_table[r * rows_.ld_table]; };
  std::stable_sort(left.begin(), left.end(), [&](int32_t a, int32_t b) { return page(a) < page(b); });
  for (size_t begin = 0; begin < left.size();) {
    size_t end = begin + 1;
    while (end < left.size() && page(left[end]) == page(left[begin])) end++;
    std::vector<std::pair<int64_t, int32_t>> run;  // splits in common with the first row, the row
    for (size_t i = begin; i < end; i++) run.push_back({common_splits(left[begin], left[i]), left[i]});
    std::stable_sort(run.begin(), run.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
    int64_t best = 0;
    size_t count = 0;
    for (size_t i = 1; i < run.size(); i++)
      if (int64_t(i) * run[i].first > best) best = int64_t(i) * run[i].first, count = i + 1;
    std::vector<int32_t> members;
    for (size_t i = 0; i < count; i++) members.push_back(run[i].second);
    if (count > 1) share(members, run[count - 1].first);
    // The rest of the run may share among themselves.
    std::vector<int32_t> rest;
    for (size_t i = std::max<size_t>(count, 1); i < run.size(); i++) rest.push_back(run[i].second);
    std::copy(rest.begin(), rest.end(), left.begin() + std::ptrdiff_t(end - rest.size()));
    begin = end - rest.size();
  }
}

// Items of all members for the splits in common, items of each for what is left, and the order of its partials.
void Planner::share(const std::vector<int32_t>& members, int64_t splits) {
  int64_t tokens = 0, own = 0;
  for (int32_t r : members) {
    tokens += tokens_of(r);
    own += tokens_of(r) * (last_position_of(r) / attention_split + 1 - splits);
  }
  const int64_t blocks = ceil_div(tokens, std::max<int64_t>(1, attention_block_rows / heads_.group));
  // What is merged on the spot takes one partial, so that the rest is as little as balance allows.
  int64_t pieces = std::clamp<int64_t>(ceil_div(2 * workers_, blocks * heads_.num_kv_heads), 1, splits);
  if (workers_ == 1) pieces = 1;
  const auto fits = [&](int64_t first) {
    return plan_.num_partials + own + tokens * (splits - first + 1) <= max_partials_;
  };
  if (!fits(splits / pieces)) pieces = 1;
  if (!fits(splits / pieces)) return;
  const int64_t first = splits / pieces, common = splits - first + 1;
  std::vector<AttentionEntry> entries;
  for (int32_t r : members) {
    const int32_t end = int32_t(last_position_of(r) / attention_split + 1), length = int32_t(common + end - splits);
    const size_t begin = entries.size();
    for (int32_t t = rows_.row_starts[r]; t < rows_.row_starts[r + 1]; t++) {
      entries.push_back({t, plan_.num_partials});
      plan_.merges.push_back({t, plan_.num_partials, length});
      plan_.num_partials += length;
    }
    shared_[size_t(r)] = int32_t(splits);
    if (end > splits)
      add({r, 0, tokens_of(r), int32_t(splits), end, AttentionPart::later}, entries.data() + begin, int32_t(common));
  }
  const int64_t even = ceil_div(tokens, blocks);
  for (int64_t i = 0; i < tokens; i += even)
    for (int64_t p = 0; p < pieces; p++) {
      const int64_t begin = p * splits / pieces, end = (p + 1) * splits / pieces;
      add({members[0], 0, int32_t(std::min(even, tokens - i)), int32_t(begin), int32_t(end),
           p == 0 ? AttentionPart::first : AttentionPart::later},
          entries.data() + i, int32_t(p == 0 ? 0 : begin - first + 1));
    }
}

void Planner::add(AttentionItem item, const AttentionEntry* entries, int32_t offset) {
  item.first_entry = int32_t(plan_.entries.size());
  for (int32_t i = 0; i < item.num_tokens; i++)
    plan_.entries.push_back({entries[i].token, entries[i].partial + offset});
  plan_.items.push_back(item);
}

void Planner::cut_row(int64_t row, int64_t most) {
  int64_t count = 0;
  for (int64_t t = rows_.row_starts[row]; t < rows_.row_starts[row + 1]; t += count) {
    count = std::min<int64_t>(most, rows_.row_starts[row + 1] - t);
    const int32_t position = rows_.positions[t];
    const int32_t low = heads_.window > 0 ? std::max(0, position - heads_.window + 1) : 0;
    AttentionItem item{int32_t(row), int32_t(plan_.entries.size()), int32_t(count), low / int32_t(attention_split),
                       int32_t((position + count - 1) / attention_split + 1), AttentionPart::whole};
    for (int64_t i = 0; i < count; i++) plan_.entries.push_back({int32_t(t + i), -1});
    plan_.items.push_back(item);
  }
}

// Pieces of about equal length, each of at most `limit` nanoseconds. The first piece of a token's splits is merged on
// the spot to one partial.
void Planner::cut_item(size_t index, double limit) {
  const AttentionItem whole = plan_.items[index];
  const int64_t length = whole.split_end - whole.split_begin;
  const int64_t pieces = std::min(length, int64_t(cost(whole.num_tokens, length) / limit) + 1);
  if (pieces < 2) return;
  const int64_t first = length / pieces;
  std::vector<AttentionEntry> entries(plan_.entries.begin() + whole.first_entry,
                                      plan_.entries.begin() + whole.first_entry + whole.num_tokens);
  if (whole.part == AttentionPart::first) return;  // its partials are numbered already
  const bool begins = whole.part == AttentionPart::whole;
  if (begins) {
    const int64_t partials = length - first + 1;
    if (plan_.num_partials + partials * whole.num_tokens > max_partials_) return;
    for (AttentionEntry& entry : entries) {
      entry.partial = plan_.num_partials;
      plan_.merges.push_back({entry.token, entry.partial, int32_t(partials)});
      plan_.num_partials += int32_t(partials);
    }
  }
  for (int64_t i = 0; i < pieces; i++) {
    const int64_t begin = i * length / pieces, end = (i + 1) * length / pieces;
    AttentionItem piece = whole;
    piece.split_begin = int32_t(whole.split_begin + begin);
    piece.split_end = int32_t(whole.split_begin + end);
    piece.part = i == 0 && begins ? AttentionPart::first : AttentionPart::later;
    const int32_t offset = int32_t(!begins ? begin : i == 0 ? 0 : begin - first + 1);
    add(piece, entries.data(), offset);
    if (i > 0) continue;
    plan_.items[index] = plan_.items.back();
    plan_.items.pop_back();
  }
}

void Planner::split_long_items() {
  if (workers_ < 2) return;
  double total = 0;
  for (const AttentionItem& item : plan_.items)
    total += cost(item.num_tokens, item.split_end - item.split_begin) * heads_.num_kv_heads;
  const double limit =
      std::max(shortest_piece_ns * slowness_, total / static_cast<double>(pieces_per_worker * workers_));
  const size_t count = plan_.items.size();
  for (size_t i = 0; i < count; i++) cut_item(i, limit);
}

void Planner::cut_chunks() {
  const auto cost_of = [&](const AttentionItem& item) {
    return cost(item.num_tokens, item.split_end - item.split_begin);
  };
  // Long work first, so that no worker is left with a long item at the end.
  std::vector<std::pair<double, AttentionItem>> order;
  double total = 0;
  for (const AttentionItem& item : plan_.items) {
    order.push_back({cost_of(item), item});
    total += order.back().first * heads_.num_kv_heads;
  }
  std::stable_sort(order.begin(), order.end(), [](const auto& a, const auto& b) { return a.first > b.first; });
  const double wanted = workers_ == 1 ? total
                                      : std::clamp(total / static_cast<double>(chunks_per_worker * workers_),
                                                   shortest_chunk_ns, longest_chunk_ns);
  double filled = 0;
  int32_t work = 0;
  for (size_t i = 0; i < order.size(); i++) {
    plan_.items[i] = order[i].second;
    for (int32_t head = 0; head < heads_.num_kv_heads; head++) {
      work++;
      filled += order[i].first;
      if (filled < wanted && work < int32_t(order.size()) * heads_.num_kv_heads) continue;
      plan_.chunks.push_back(work);
      filled = 0;
    }
  }
}

void Planner::run() {
  plan_.items.clear();
  plan_.entries.clear();
  plan_.merges.clear();
  plan_.chunks.clear();
  plan_.num_partials = 0;
  shared_.assign(size_t(rows_.rows), 0);
  if (rows_.rows > 1 && max_partials_ > 0) share_prefixes();
  // Blocks shrink where there would be too few of them for all workers.
  const int64_t tokens = rows_.row_starts[rows_.rows] - rows_.row_starts[0];
  int64_t block = attention_block_rows;
  while (block > attention_block_rows / 4 && workers_ > 1 &&
         tokens * heads_.group / block * heads_.num_kv_heads < pieces_per_worker * workers_)
    block /= 2;
  for (int64_t r = 0; r < rows_.rows; r++)
    if (shared_[size_t(r)] == 0) cut_row(r, std::max<int64_t>(1, block / heads_.group));
  split_long_items();
  cut_chunks();
}

}  // namespace

int64_t attention_workspace_floats(int64_t head_dim) {
  const int64_t width = (head_dim + 15) / 16 * 16;
  return attention_block_rows * (3 * width + attention_split) + 2 * attention_split * width;
}

int64_t attention_partial_limit(int64_t max_rows, int64_t max_context) {
  const int64_t splits = ceil_div(max_context, attention_split);
  return splits > 1 ? std::min<int64_t>(max_rows * splits, max_partials_of_plan) : 0;
}

void plan_attention(const AttentionRows& rows, const AttentionHeads& heads, int64_t workers, int64_t max_partials,
                    double slowness, AttentionPlan& plan) {
  Planner(rows, heads, workers, max_partials, slowness, plan).run();
}

}  // namespace octavo
