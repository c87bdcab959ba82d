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

// Groups that stay together: kernels walk them side by side, and a pair makes a whole block of activations.
constexpr int64_t kUnit = 2;
static_assert(kUnit * lanes == act_block);

double chunk_ns(double total_ns, int workers) {
  return std::clamp(total_ns / (kChunksPerWorker * workers), kShortest, kLongest);
}

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// As many pieces for every worker, so that nobody waits for one that is left over.
int64_t for_all(int64_t count, int workers) { return count <= 1 ? count : ceil_div(count, workers) * workers; }

// `units` of `unit_ns` each in pieces of about `wanted` nanoseconds, at most `most`.
Pieces pieces_of(int64_t units, double unit_ns, double wanted, int workers, int64_t most) {
  if (units <= 0) return {};
  if (workers == 1) return {units, 1};
  const auto fitting = static_cast<int64_t>(static_cast<double>(units) * unit_ns / wanted + 0.5);
  return {units, std::clamp<int64_t>(for_all(fitting, workers), 1, std::min(units, most))};
}

Pieces pieces_of(int64_t units, double unit_ns, int workers) {
  const double wanted = chunk_ns(static_cast<double>(units) * unit_ns, workers);
  return pieces_of(units, unit_ns, wanted, workers, Pool::kMaxChunks);
}

}  // namespace

RowStage::RowStage(Extent extent, std::vector<std::unique_ptr<RowOp>> ops) : extent_(extent), ops_(std::move(ops)) {
  for (const auto& op : ops_) row_ns_ += op->row_ns();
}

int64_t RowStage::open(const Frame& f) {
  if (rows_ != f.rows(extent_)) {
    rows_ = f.rows(extent_);
    pieces_ = pieces_of(rows_, row_ns_ * f.slowness, f.num_workers);
  }
  return pieces_.count;
}

void RowStage::work(const Frame& f, int64_t chunk, int) const {
  for (const auto& op : ops_) op->run(f, pieces_.begin(chunk), pieces_.end(chunk));
}

namespace {

// Cost of one group of 16 outputs: its bytes are streamed once per tile of rows, its products made for every row.
double group_ns(const Frame& f, const PackedWeight& w, int64_t rows) {
  const double products = static_cast<double>(rows * w.k * lanes) / multiply_rate(act_kind(w.format)) * f.slowness;
  return std::max(static_cast<double>(group_bytes(w.format, w.k)) / kStreamBytes, products);
}

// The cut of one product into parts of about `wanted` nanoseconds, at most `most`; `weights` products are made in each
// part.
Cut cut_of(const Frame& f, const PackedWeight& w, int64_t rows, double wanted, int64_t weights, int64_t most) {
  Cut cut{};
  cut.groups = group_count(w.n);
  cut.unit = std::min(kUnit, cut.groups);
  cut.row_tile = std::min(rows, kLargestTile);
  const auto ns = [&] { return static_cast<double>(weights * cut.unit) * group_ns(f, w, cut.row_tile); };
  while (cut.row_tile > kSmallestTile && ns() > wanted) cut.row_tile = (cut.row_tile + 1) / 2;
  const int64_t tiles = ceil_div(rows, cut.row_tile);
  cut.pieces = pieces_of(ceil_div(cut.groups, cut.unit), ns(), wanted, f.num_workers, std::max<int64_t>(1, most / tiles));
  return cut;
}

int64_t count_parts(const Cut& cut, int64_t rows) { return cut.pieces.count * ceil_div(rows, cut.row_tile); }

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

// The weights that a worker busy with `chunk` probably takes next, in this stage or the one after: workers take turns.
const uint8_t* weights_after(const Frame& f, const Stage& stage, int64_t chunk, int64_t chunks) {
  const int64_t next = chunk + f.num_workers;
  if (next < chunks) return stage.weights_of(next);
  return stage.follower != nullptr ? stage.follower->weights_of(next - chunks) : nullptr;
}

void add_bias(const Frame& f, const VectorRef& bias, int64_t column, Rows out, int64_t rows, int64_t width) {
  if (bias) f.ops->add_bias({out.data, out.ld}, bias->values.data() + column, out, 0, rows, width);
}

}  // namespace

Part Cut::part(int64_t chunk, int64_t rows) const {
  const int64_t local = chunk - first_chunk;
  const int64_t row = local / pieces.count * row_tile, piece = local % pieces.count;
  return {row, std::min(row_tile, rows - row), unit * pieces.begin(piece), std::min(groups, unit * pieces.end(piece))};
}

LinearStage::LinearStage(Extent extent, std::vector<LinearTask> tasks)
    : extent_(extent), tasks_(std::move(tasks)), cuts_(tasks_.size()) {}

int64_t LinearStage::open(const Frame& f) {
  if (rows_ == f.rows(extent_)) return chunks_;
  rows_ = f.rows(extent_);
  chunks_ = 0;
  if (rows_ == 0) return 0;
  double total = 0;
  for (const LinearTask& task : tasks_) {
    const PackedWeight& w = task.weight->packed();
    total += group_ns(f, w, rows_) * static_cast<double>(group_count(w.n));
  }
  const int64_t most = Pool::kMaxChunks / static_cast<int64_t>(tasks_.size());
  for (size_t i = 0; i < tasks_.size(); ++i) {
    cuts_[i] = cut_of(f, tasks_[i].weight->packed(), rows_, chunk_ns(total, f.num_workers), 1, most);
    cuts_[i].first_chunk = chunks_;
    chunks_ += count_parts(cuts_[i], rows_);
  }
  return chunks_;
}

size_t LinearStage::task_of(int64_t chunk) const {
  size_t i = tasks_.size() - 1;
  while (cuts_[i].first_chunk > chunk) --i;
  return i;
}

const uint8_t* LinearStage::weights_of(int64_t chunk) const {
  if (chunk >= chunks_) return nullptr;
  const size_t i = task_of(chunk);
  return weights_at(tasks_[i].weight->packed(), cuts_[i].part(chunk, rows_));
}

void LinearStage::work(const Frame& f, int64_t chunk, int worker) const {
  const size_t i = task_of(chunk);
  const LinearTask& task = tasks_[i];
  const PackedWeight& w = task.weight->packed();
  const Part part = cuts_[i].part(chunk, rows_);
  const int64_t column = part.group_begin * lanes, width = std::min(w.n, part.group_end * lanes) - column;
  const Rows all = f.out(task.out);
  const Rows out{all.data + part.row * all.ld + column, all.ld};
  multiply_part(f, w, task.act, part, out, task.epilogue, f.worker(worker),
                weights_after(f, *this, chunk, chunks_));
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
  if (rows_ == f.rows(extent_)) return ceil_div(parts_, chunk_parts_);
  rows_ = f.rows(extent_);
  parts_ = 0;
  if (rows_ == 0) return 0;
  const PackedWeight &gate = task_.gate->packed(), &up = task_.up->packed();
  const double both = group_ns(f, gate, rows_) + group_ns(f, up, rows_);
  const double wanted = chunk_ns(both * static_cast<double>(group_count(gate.n)), f.num_workers);
  const PackedWeight& larger = group_bytes(gate.format, gate.k) > group_bytes(up.format, up.k) ? gate : up;
  cut_ = cut_of(f, larger, rows_, wanted, 2, std::numeric_limits<int64_t>::max());
  // A part's tiles fit their place. Where parts would then be too many, a chunk is several.
  const int64_t fitting = kTileFloats / (cut_.row_tile * cut_.unit * lanes);
  const int64_t least = for_all(ceil_div(cut_.pieces.units, fitting), f.num_workers);
  cut_.pieces.count = std::min(cut_.pieces.units, std::max(cut_.pieces.count, least));
  parts_ = count_parts(cut_, rows_);
  chunk_parts_ = ceil_div(parts_, Pool::kMaxChunks);
  return ceil_div(parts_, chunk_parts_);
}

const uint8_t* GatedStage::weights_of(int64_t chunk) const {
  const int64_t part = chunk * chunk_parts_;
  return part < parts_ ? weights_at(task_.gate->packed(), cut_.part(part, rows_)) : nullptr;
}

void GatedStage::work(const Frame& f, int64_t chunk, int worker) const {
  const int64_t end = std::min(parts_, (chunk + 1) * chunk_parts_);
  const uint8_t* after = weights_after(f, *this, chunk, ceil_div(parts_, chunk_parts_));
  for (int64_t part = chunk * chunk_parts_; part < end; ++part) {
    const bool last = part + 1 == end;
    const uint8_t* ahead = last ? after : weights_at(task_.gate->packed(), cut_.part(part + 1, rows_));
    compute(f, cut_.part(part, rows_), worker, ahead);
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
  call.entries = f.step->attention[task.shape].entries.data();
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
  return static_cast<int64_t>(f.step->attention[task_.shape].chunks.size());
}

void AttentionStage::work(const Frame& f, int64_t chunk, int worker) const {
  const AttentionPlan& plan = f.step->attention[task_.shape];
  const auto index = static_cast<size_t>(chunk);
  f.ops->attention(call_of(f, task_), plan.items.data(), index == 0 ? 0 : plan.chunks[index - 1], plan.chunks[index],
                   reinterpret_cast<float*>(f.worker(worker)));
}

int64_t MergeStage::open(const Frame& f) {
  const AttentionPlan& plan = f.step->attention[task_.shape];
  const int64_t heads = task_.facts.num_kv_heads * task_.facts.heads_per_kv;
  const int64_t works = static_cast<int64_t>(plan.merges.size()) * heads;
  if (works == 0) return 0;
  const double splits = static_cast<double>(plan.num_partials) / static_cast<double>(plan.merges.size());
  pieces_ = pieces_of(works, splits * (5 + 0.15 * task_.facts.head_dim) * f.slowness, f.num_workers);
  return pieces_.count;
}

void MergeStage::work(const Frame& f, int64_t chunk, int) const {
  f.ops->attention_merge(call_of(f, task_), f.step->attention[task_.shape].merges.data(), pieces_.begin(chunk),
                         pieces_.end(chunk));
}

}  // namespace octavo
