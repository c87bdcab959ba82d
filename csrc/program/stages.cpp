// How stages are cut. See stages.h.
#include "program/stages.h"

#include <algorithm>
#include <limits>

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
constexpr int64_t kFewRows = 4;

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

namespace {

// Cost of one group of 16 outputs: its bytes are streamed once per tile of rows, its products made for every row.
double group_ns(const Frame& f, const PackedWeight& w, int64_t rows) {
  const double products = static_cast<double>(rows * w.k * lanes) / multiply_rate(act_kind(w.format)) * f.slowness;
  return std::max(static_cast<double>(group_bytes(w.format, w.k)) / kStreamBytes, products);
}

// Groups per part: few rows walk several groups at once, which kernels do for multiples of four.
int64_t rounded_grain(int64_t grain, int64_t rows, int64_t groups) {
  if (grain > 4) grain -= grain % 4;
  else if (rows <= kFewRows) grain = 4;
  return std::clamp<int64_t>(grain, 1, groups);
}

// The cut of one product into parts of about `wanted` nanoseconds; `weights` products are made in each part.
Cut cut_of(const Frame& f, const PackedWeight& w, int64_t rows, double wanted, int64_t weights) {
  Cut cut{};
  cut.groups = group_count(w.n);
  cut.row_tile = std::min(rows, kLargestTile);
  const auto ns = [&] { return static_cast<double>(weights) * group_ns(f, w, cut.row_tile); };
  while (cut.row_tile > kSmallestTile && ns() > wanted) cut.row_tile = (cut.row_tile + 1) / 2;
  cut.grain = rounded_grain(static_cast<int64_t>(wanted / ns()), rows, cut.groups);
  return cut;
}

// How many parts come out; parts grow where there would be more than `most`.
int64_t count_parts(Cut& cut, int64_t rows, int64_t most) {
  const int64_t tiles = ceil_div(rows, cut.row_tile);
  while (ceil_div(cut.groups, cut.grain) * tiles > most) cut.grain *= 2;
  cut.group_chunks = ceil_div(cut.groups, cut.grain);
  return cut.group_chunks * tiles;
}

// Where a part's weights begin.
const uint8_t* weights_at(const PackedWeight& w, const Part& part) {
  return w.data + static_cast<size_t>(part.group_begin) * group_bytes(w.format, w.k);
}

// Products of a part of a weight, its output group_begin at `out`.
void multiply_part(const Frame& f, const PackedWeight& w, const Buffer& act, const Part& part, Rows out,
                   Epilogue epilogue, uint8_t* scratch, const uint8_t* ahead) {
  Product product;
  product.weight = w;
  product.act = f.at(act) + part.row * act.stride;
  product.act_stride = static_cast<size_t>(act.stride);
  product.rows = part.rows;
  product.out = out.data - part.group_begin * lanes;
  product.ld_out = out.ld;
  product.group_begin = part.group_begin;
  product.group_end = part.group_end;
  product.epilogue = epilogue;
  product.scratch = scratch;
  product.ahead = ahead;
  f.linear->multiply(product);
}

void add_bias(const Frame& f, const VectorRef& bias, int64_t column, Rows out, int64_t rows, int64_t width) {
  if (bias) f.ops->add_bias({out.data, out.ld}, bias->values.data() + column, out, 0, rows, width);
}

}  // namespace

Part Cut::part(int64_t chunk, int64_t rows) const {
  const int64_t local = chunk - first_chunk;
  const int64_t row = local / group_chunks * row_tile;
  const int64_t group = local % group_chunks * grain;
  return {row, std::min(row_tile, rows - row), group, std::min(groups, group + grain)};
}

LinearStage::LinearStage(Extent extent, std::vector<LinearTask> tasks)
    : extent_(extent), tasks_(std::move(tasks)), cuts_(tasks_.size()) {}

int64_t LinearStage::open(const Frame& f) {
  rows_ = f.rows(extent_);
  if (rows_ == 0) return 0;
  double total = 0;
  for (const LinearTask& task : tasks_) {
    const PackedWeight& w = task.weight->packed();
    total += group_ns(f, w, rows_) * static_cast<double>(group_count(w.n));
  }
  const int64_t most = Pool::kMaxChunks / static_cast<int64_t>(tasks_.size());
  chunks_ = 0;
  for (size_t i = 0; i < tasks_.size(); ++i) {
    cuts_[i] = cut_of(f, tasks_[i].weight->packed(), rows_, chunk_ns(total, f.num_workers), 1);
    cuts_[i].first_chunk = chunks_;
    chunks_ += count_parts(cuts_[i], rows_, most);
  }
  return chunks_;
}

size_t LinearStage::task_of(int64_t chunk) const {
  size_t i = tasks_.size() - 1;
  while (cuts_[i].first_chunk > chunk) --i;
  return i;
}

// The weights that a worker busy with `chunk` probably takes next: the workers take turns.
const uint8_t* LinearStage::weights_after(const Frame& f, int64_t chunk) const {
  const int64_t next = chunk + f.num_workers;
  if (next >= chunks_) return nullptr;
  const size_t i = task_of(next);
  return weights_at(tasks_[i].weight->packed(), cuts_[i].part(next, rows_));
}

void LinearStage::work(const Frame& f, int64_t chunk, int worker) const {
  const size_t i = task_of(chunk);
  const LinearTask& task = tasks_[i];
  const PackedWeight& w = task.weight->packed();
  const Part part = cuts_[i].part(chunk, rows_);
  const int64_t column = part.group_begin * lanes, width = std::min(w.n, part.group_end * lanes) - column;
  const Rows all = f.out(task.out);
  const Rows out{all.data + part.row * all.ld + column, all.ld};
  multiply_part(f, w, task.act, part, out, task.epilogue, f.worker(worker), weights_after(f, chunk));
  add_bias(f, task.bias, column, out, part.rows, width);
  const ConstRows same{out.data, out.ld};
  if (task.soft_cap > 0) f.ops->soft_cap(same, task.factor, task.soft_cap, out, 0, part.rows, width);
  else if (task.factor != 1.0f) f.ops->scale(same, task.factor, out, 0, part.rows, width);
}

GatedStage::GatedStage(Extent extent, GatedTask task)
    : extent_(extent),
      task_(std::move(task)),
      tiles_(worker_bytes(task_.gate->packed().format, task_.up->packed().format, task_.gate->packed().k) -
             2 * kTileFloats * sizeof(float)) {}

size_t GatedStage::worker_bytes(Format gate, Format up, int64_t k) {
  const size_t scratch = std::max(scratch_bytes(gate, k), scratch_bytes(up, k));
  return (scratch + 63) / 64 * 64 + 2 * kTileFloats * sizeof(float);
}

int64_t GatedStage::open(const Frame& f) {
  rows_ = f.rows(extent_);
  if (rows_ == 0) return 0;
  const PackedWeight &gate = task_.gate->packed(), &up = task_.up->packed();
  const double both = group_ns(f, gate, rows_) + group_ns(f, up, rows_);
  const double wanted = chunk_ns(both * static_cast<double>(group_count(gate.n)), f.num_workers);
  cut_ = cut_of(f, group_bytes(gate.format, gate.k) > group_bytes(up.format, up.k) ? gate : up, rows_, wanted, 2);
  // A part's tiles fit their place, and its columns are whole blocks of activations.
  constexpr int64_t pair = act_block / lanes;
  const int64_t fitting = kTileFloats / (cut_.row_tile * act_block) * pair;
  cut_.grain = std::min(std::max(cut_.grain / pair * pair, pair), fitting);
  // Parts may not grow beyond their tiles' place: where they would be too many, a chunk is several.
  parts_ = count_parts(cut_, rows_, std::numeric_limits<int64_t>::max());
  chunk_parts_ = ceil_div(parts_, Pool::kMaxChunks);
  return ceil_div(parts_, chunk_parts_);
}

void GatedStage::work(const Frame& f, int64_t chunk, int worker) const {
  const int64_t end = std::min(parts_, (chunk + 1) * chunk_parts_);
  for (int64_t part = chunk * chunk_parts_; part < end; ++part) {
    // The workers take turns.
    const int64_t next = part + 1 < end ? part + 1 : part + 1 + (f.num_workers - 1) * chunk_parts_;
    const PackedWeight& gate = task_.gate->packed();
    compute(f, cut_.part(part, rows_), worker, next < parts_ ? weights_at(gate, cut_.part(next, rows_)) : nullptr);
  }
}

void GatedStage::compute(const Frame& f, const Part& part, int worker, const uint8_t* ahead) const {
  const PackedWeight &gate = task_.gate->packed(), &up = task_.up->packed();
  const int64_t column = part.group_begin * lanes, width = std::min(gate.n, part.group_end * lanes) - column;
  const int64_t ld = (part.group_end - part.group_begin) * lanes;
  auto* tiles = reinterpret_cast<float*>(f.worker(worker) + tiles_);
  const Rows gates{tiles, ld}, ups{tiles + kTileFloats, ld};
  multiply_part(f, gate, task_.act, part, gates, Epilogue::store, f.worker(worker), weights_at(up, part));
  add_bias(f, task_.gate_bias, column, gates, part.rows, width);
  multiply_part(f, up, task_.act, part, ups, Epilogue::store, f.worker(worker), ahead);
  add_bias(f, task_.up_bias, column, ups, part.rows, width);

  const bool plain = task_.kind == ActKind::f32;
  const Rows all = f.out(task_.out);
  const Rows out = plain ? Rows{all.data + part.row * all.ld + column, all.ld} : gates;
  f.ops->gated({gates.data, ld}, {ups.data, ld}, out, 0, part.rows, width, task_.activation);
  if (plain) return;
  const int64_t offset = task_.kind == ActKind::q8 ? column / act_block * int64_t{sizeof(ActBlock)} : column * 2;
  uint8_t* to = f.at(task_.out) + part.row * task_.out.stride + offset;
  for (int64_t r = 0; r < part.rows; ++r, to += task_.out.stride)
    f.linear->quantize(task_.kind, gates.data + r * ld, ld, 1, width, to);
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
  grain_ = std::max(grain_of(works_, splits * (5 + 0.15 * task_.facts.head_dim) * f.slowness, f.num_workers),
                    ceil_div(works_, Pool::kMaxChunks));
  return ceil_div(works_, grain_);
}

void MergeStage::work(const Frame& f, int64_t chunk, int) const {
  const int64_t begin = chunk * grain_;
  f.ops->attention_merge(call_of(f, task_), f.step->attention[task_.shape].plan.merges.data(), begin,
                         std::min(works_, begin + grain_));
}

}  // namespace octavo
