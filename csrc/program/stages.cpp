// How stages are cut. See stages.h.
#include "program/stages.h"

#include <algorithm>

namespace octavo {

namespace {

// A chunk is worth a hand-out from here on, and should not hold up a border for longer than that. Nanoseconds.
constexpr double kShortest = 2e3;
constexpr double kLongest = 40e3;
constexpr double kChunksPerWorker = 4;

// What one worker does per nanosecond on the highest level, roughly.
constexpr double kStreamBytes = 15.0;
double multiply_rate(ActKind kind) { return kind == ActKind::q8 ? 150.0 : kind == ActKind::bf16 ? 60.0 : 25.0; }

// Rows above which a panel of weights is not unpacked for more of them at once, and below which tiles do not shrink.
constexpr int64_t kLargestTile = 256;
constexpr int64_t kSmallestTile = 64;

double chunk_ns(double total_ns, int workers) {
  return std::clamp(total_ns / (kChunksPerWorker * workers), kShortest, kLongest);
}

// Units per chunk so that `units` of `unit_ns` each are cut well.
int64_t grain_of(int64_t units, double unit_ns, int workers) {
  if (workers == 1 || unit_ns <= 0) return std::max<int64_t>(1, units);
  const double wanted = chunk_ns(static_cast<double>(units) * unit_ns, workers) / unit_ns;
  return std::clamp<int64_t>(static_cast<int64_t>(wanted), 1, std::max<int64_t>(1, units));
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

}  // namespace

RowStage::RowStage(Extent extent, std::vector<std::unique_ptr<RowOp>> ops) : extent_(extent), ops_(std::move(ops)) {
  for (const auto& op : ops_) row_ns_ += op->row_ns();
}

int64_t RowStage::open(const Frame& f) {
  rows_ = f.rows(extent_);
  grain_ = std::max(grain_of(rows_, row_ns_ * f.slowness, f.num_workers), ceil_div(rows_, Pool::kMaxChunks));
  return ceil_div(rows_, grain_);
}

void RowStage::work(const Frame& f, int64_t chunk, int) const {
  const int64_t begin = chunk * grain_, end = std::min(rows_, begin + grain_);
  for (const auto& op : ops_) op->run(f, begin, end);
}

LinearStage::LinearStage(Extent extent, std::vector<LinearTask> tasks)
    : extent_(extent), tasks_(std::move(tasks)), cuts_(tasks_.size()) {}

int64_t LinearStage::open(const Frame& f) {
  rows_ = f.rows(extent_);
  if (rows_ == 0) return 0;
  // Cost of one group of 16 outputs: its bytes are streamed once per tile of rows, its products made for every row.
  const auto group_ns = [&](const PackedWeight& w, int64_t rows) {
    const double products = static_cast<double>(rows * w.k * lanes) / multiply_rate(act_kind(w.format)) * f.slowness;
    return std::max(static_cast<double>(group_bytes(w.format, w.k)) / kStreamBytes, products);
  };
  double total = 0;
  for (const LinearTask& task : tasks_) {
    const PackedWeight& w = task.weight->packed();
    total += group_ns(w, rows_) * static_cast<double>(group_count(w.n));
  }
  const double wanted = chunk_ns(total, f.num_workers);
  int64_t chunks = 0;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    const PackedWeight& w = tasks_[i].weight->packed();
    Cut& cut = cuts_[i];
    cut.groups = group_count(w.n);
    cut.row_tile = std::min(rows_, kLargestTile);
    while (cut.row_tile > kSmallestTile && group_ns(w, cut.row_tile) > wanted) cut.row_tile = (cut.row_tile + 1) / 2;
    cut.grain = std::clamp<int64_t>(static_cast<int64_t>(wanted / group_ns(w, cut.row_tile)), 1, cut.groups);
    cut.group_chunks = ceil_div(cut.groups, cut.grain);
    cut.first_chunk = chunks;
    chunks += cut.group_chunks * ceil_div(rows_, cut.row_tile);
  }
  return chunks;
}

void LinearStage::work(const Frame& f, int64_t chunk, int worker) const {
  size_t i = tasks_.size() - 1;
  while (cuts_[i].first_chunk > chunk) --i;
  const Cut& cut = cuts_[i];
  const int64_t local = chunk - cut.first_chunk;
  const int64_t row = local / cut.group_chunks * cut.row_tile;
  const int64_t group = local % cut.group_chunks * cut.grain;
  run(f, tasks_[i], row, std::min(cut.row_tile, rows_ - row), group, std::min(cut.groups, group + cut.grain), worker);
}

void LinearStage::run(const Frame& f, const LinearTask& task, int64_t row, int64_t rows, int64_t group_begin,
                      int64_t group_end, int worker) const {
  const PackedWeight& w = task.weight->packed();
  const Rows out = f.out(task.out);
  Product product;
  product.weight = w;
  product.act = f.at(task.act) + row * task.act.stride;
  product.act_stride = static_cast<size_t>(task.act.stride);
  product.rows = rows;
  product.out = out.data + row * out.ld;
  product.ld_out = out.ld;
  product.group_begin = group_begin;
  product.group_end = group_end;
  product.epilogue = task.epilogue;
  product.scratch = f.worker(worker);
  f.linear->multiply(product);

  const int64_t column = group_begin * lanes, width = std::min(w.n, group_end * lanes) - column;
  const Rows part{product.out + column, out.ld};
  const ConstRows same{part.data, part.ld};
  if (task.bias) f.ops->add_bias(same, task.bias->values.data() + column, part, 0, rows, width);
  if (task.soft_cap > 0) f.ops->soft_cap(same, task.factor, task.soft_cap, part, 0, rows, width);
  else if (task.factor != 1.0f) f.ops->scale(same, task.factor, part, 0, rows, width);
}

namespace {

AttentionCall call_of(const Frame& f, const AttentionTask& task) {
  const Rows out = f.out(task.out);
  const ConstRows q = f.in(task.q);
  const GroupTable& table = f.step->groups[static_cast<size_t>(task.facts.group)];
  AttentionCall call;
  call.q = q.data;
  call.ldq = q.ld;
  call.out = out.data;
  call.ldo = out.ld;
  call.kv = task.kv;
  call.page_table = table.pages.data();
  call.ld_table = table.width;
  call.positions = f.step->positions.data();
  call.num_heads = task.facts.num_kv_heads * task.facts.heads_per_kv;
  call.window = task.facts.window;
  call.scale = task.scale;
  call.soft_cap = task.soft_cap;
  call.sinks = task.sinks ? task.sinks->values.data() : nullptr;
  call.partials = reinterpret_cast<float*>(f.at(task.partials));
  return call;
}

}  // namespace

int64_t AttentionStage::open(const Frame& f) {
  const PlannedAttention& planned = f.step->attention[task_.shape];
  works_ = static_cast<int64_t>(planned.plan.items.size()) * task_.facts.num_kv_heads;
  grain_ = std::max(grain_of(works_, planned.work_ns * f.slowness, f.num_workers), ceil_div(works_, Pool::kMaxChunks));
  return ceil_div(works_, grain_);
}

void AttentionStage::work(const Frame& f, int64_t chunk, int worker) const {
  const int64_t begin = chunk * grain_;
  f.ops->attention(call_of(f, task_), f.step->attention[task_.shape].plan.items.data(), begin,
                   std::min(works_, begin + grain_), reinterpret_cast<float*>(f.worker(worker)));
}

int64_t MergeStage::open(const Frame& f) {
  const AttentionPlan& plan = f.step->attention[task_.shape].plan;
  const int64_t heads = task_.facts.num_kv_heads * task_.facts.heads_per_kv;
  works_ = static_cast<int64_t>(plan.merges.size()) * heads;
  if (works_ == 0) return 0;
  const double splits = static_cast<double>(plan.num_partials) / static_cast<double>(plan.merges.size());
  grain_ = grain_of(works_, splits * (5 + 0.15 * task_.facts.head_dim) * f.slowness, f.num_workers);
  return ceil_div(works_, grain_);
}

void MergeStage::work(const Frame& f, int64_t chunk, int) const {
  const int64_t begin = chunk * grain_;
  f.ops->attention_merge(call_of(f, task_), f.step->attention[task_.shape].plan.merges.data(), begin,
                         std::min(works_, begin + grain_));
}

}  // namespace octavo
