// What knows Python (with binding_limits.cpp): octavo._kernels, over the kernels, the pool and programs.
//
// Checks shapes and ranges of what comes from Python; long work runs with the interpreter lock released.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <mutex>
#include <optional>
#include <stdexcept>

#include "binding.h"
#include "isa/isa.h"
#include "program/program.h"
#include "program/sampler.h"

namespace nb = nanobind;
using namespace octavo;
using namespace nb::literals;

namespace {

template <typename T>
using Array = nb::ndarray<const T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T>
using Table = nb::ndarray<const T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Release = nb::gil_scoped_release;

Numa numa_of(const std::string& name) {
  if (name == "auto") return Numa::automatic;
  if (name == "distribute") return Numa::distribute;
  if (name == "isolate") return Numa::isolate;
  if (name == "numactl") return Numa::off;  // the mask and the policy that numactl set are all there is
  throw std::invalid_argument("numa is auto, distribute, isolate or numactl, not '" + name + "'");
}

Format format_of(int number) {
  const auto format = static_cast<Format>(number);
  if (!is_known(format)) throw std::invalid_argument("no kernel for the format number " + std::to_string(number));
  return format;
}

void check(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

// ---------------------------------------------------------------- weights

using Part = nb::ndarray<const uint8_t, nb::ndim<2>, nb::device::cpu>;

// Where each row of a matrix lies, as byte offsets from the lowest part.
struct RowPlaces {
  const uint8_t* base = nullptr;
  std::vector<int64_t> offsets;
};

RowPlaces places_of(const std::vector<Part>& parts, size_t bytes, const std::optional<Array<int64_t>>& order) {
  RowPlaces places;
  for (const Part& part : parts) {
    check(part.shape(1) == bytes && (bytes == 1 || part.stride(1) == 1), "a part's rows are not the rows of its format");
    check(part.shape(0) < 2 || part.stride(0) >= 0, "a part's rows run backwards");
    if (places.base == nullptr || part.data() < places.base) places.base = part.data();
  }
  std::vector<int64_t> stored;
  for (const Part& part : parts)
    for (size_t r = 0; r < part.shape(0); ++r)
      stored.push_back(part.data() - places.base + static_cast<int64_t>(r) * part.stride(0));
  if (!order) {
    places.offsets = std::move(stored);
    return places;
  }
  for (size_t i = 0; i < order->size(); ++i) {
    const int64_t row = order->data()[i];
    check(row >= 0 && row < static_cast<int64_t>(stored.size()), "`order` names no stored row");
    places.offsets.push_back(stored[static_cast<size_t>(row)]);
  }
  return places;
}

std::shared_ptr<Matrix> make_matrix(Pool& pool, int number, int64_t n, int64_t k, const std::vector<Part>& parts,
                                    const std::optional<Array<int64_t>>& order, std::shared_ptr<WeightArena> arena) {
  const Format format = format_of(number);
  Matrix::bytes(format, n, k);  // throws where blocks do not fit
  const RowPlaces places = places_of(parts, row_bytes(format, k), order);
  check(static_cast<int64_t>(places.offsets.size()) == n, "the stored rows are not as many as the matrix has");
  auto matrix = std::make_shared<Matrix>(std::move(arena), format, n, k);
  Release release;
  matrix->pack(pool, places.base, places.offsets.data());
  return matrix;
}

void matrix_row(const Matrix& matrix, int64_t row, nb::ndarray<float, nb::ndim<1>, nb::c_contig, nb::device::cpu> out) {
  check(row >= 0 && row < matrix.packed().n, "no such row");
  check(static_cast<int64_t>(out.size()) == matrix.packed().k, "`out` has another length than a row");
  unpack_row(matrix.packed(), row, out.data());
}

void bind_weights(nb::module_& m) {
  nb::class_<WeightArena>(m, "WeightArena")
      .def(nb::new_([](size_t nbytes) { return std::make_shared<WeightArena>(nbytes); }), "nbytes"_a)
      .def("lock", [](WeightArena& self) { return self.memory().lock(); })
      .def("interleave", [](WeightArena& self, const std::vector<int>& nodes) {
             return self.memory().interleave(nodes);
           }, "nodes"_a)
      .def_prop_ro("left", &WeightArena::left);
  nb::class_<Matrix>(m, "Matrix")
      .def(nb::new_(&make_matrix), "pool"_a, "format"_a, "n"_a, "k"_a, "parts"_a,
           "order"_a.none() = nb::none(), "arena"_a.none() = nb::none())
      .def("row", &matrix_row, "row"_a, "out"_a.noconvert())
      .def_prop_ro("nbytes", [](const Matrix& self) { return self.bytes(); });
  nb::class_<Vector>(m, "Vector")
      .def(nb::new_([](Array<float> values) {
             return std::make_shared<Vector>(Vector{{values.data(), values.data() + values.size()}});
           }),
           "values"_a)
      .def("__len__", [](const Vector& self) { return self.values.size(); });
  m.def("has_format", [](int format) { return is_known(static_cast<Format>(format)); }, "format"_a);
  m.def("matrix_bytes", [](int format, int64_t n, int64_t k) { return Matrix::bytes(format_of(format), n, k); },
        "format"_a, "n"_a, "k"_a);
  m.def("act_kind", [](int format) { return static_cast<int>(act_kind(format_of(format))); }, "format"_a);
  m.def("act_bytes", [](int kind, int64_t k) { return act_bytes(static_cast<ActKind>(kind), k); }, "kind"_a, "k"_a);
  m.def("gated_scratch_bytes", [](int gate, int up, int64_t k) {
    return GatedStage::worker_bytes(format_of(gate), format_of(up), k);
  }, "gate"_a, "up"_a, "k"_a);
  m.def("linear_scratch_bytes", [](int format, int64_t k) { return scratch_bytes(format_of(format), k); }, "format"_a,
        "k"_a);
}

// ---------------------------------------------------------------- KV pages

std::shared_ptr<KvPages> make_pages(int type, int32_t page_size, int32_t num_kv_heads, int32_t head_dim,
                                    int32_t layers_per_page, int64_t num_pages) {
  check(type >= 0 && type <= 3, "KV types are 0 (f32), 1 (f16), 2 (bf16) and 3 (int8)");
  check(page_size > 0 && page_size % kv_tile == 0, "page_size must be a multiple of 16");
  check(num_kv_heads > 0 && head_dim > 0 && layers_per_page > 0 && num_pages > 0, "KV sizes must be positive");
  check(head_dim % kv_step(static_cast<KvType>(type)) == 0, "head_dim is no multiple of what pages of that type need");
  return std::make_shared<KvPages>(static_cast<KvType>(type), page_size, num_kv_heads, head_dim, layers_per_page,
                                   num_pages);
}

void bind_pages(nb::module_& m) {
  nb::class_<KvPages>(m, "KvPages")
      .def(nb::new_(&make_pages), "type"_a, "page_size"_a, "num_kv_heads"_a, "head_dim"_a, "layers_per_page"_a,
           "num_pages"_a)
      .def("zero", [](KvPages& self, const std::vector<int64_t>& pages) {
             for (int64_t page : pages) self.zero(page);
           }, "pages"_a, nb::call_guard<Release>())
      .def("copy", [](KvPages& self, int64_t src, int64_t dst) { self.copy(src, dst); }, "src"_a, "dst"_a,
           nb::call_guard<Release>())
      .def("lock", [](KvPages& self) { return self.memory().lock(); })
      .def_prop_ro("num_pages", &KvPages::num_pages)
      .def_prop_ro("page_bytes", &KvPages::page_bytes);
  m.def("attention_partial_floats", &attention_partial_floats, "num_heads"_a, "head_dim"_a);
  m.def("attention_partial_limit", &attention_partial_limit, "max_rows"_a, "max_context"_a);
  m.def("attention_workspace_floats", &attention_workspace_floats, "head_dim"_a);
}

// ---------------------------------------------------------------- programs

// A chain of row operations being put together.
struct RowChain {
  RowChain() = default;
  RowChain(const RowChain&) = delete;
  std::vector<std::unique_ptr<RowOp>> ops;
  std::vector<std::pair<std::shared_ptr<const KvPages>, int32_t>> stores;  // pages that the ops write, and their group
  template <typename Op, typename... Args>
  void add(Args&&... args) {
    ops.push_back(std::make_unique<Op>(std::forward<Args>(args)...));
  }
};

struct LinearBatch {
  std::vector<LinearTask> tasks;
};

void bind_row_chain(nb::module_& m) {
  nb::class_<Buffer>(m, "Buffer").def("__init__", [](Buffer* self, int region, int64_t offset, int64_t stride) {
    check(region >= 0 && region <= 2 && offset >= 0 && stride >= 0, "no such buffer");
    new (self) Buffer{static_cast<Region>(region), offset, stride};
  }, "region"_a, "offset"_a, "stride"_a);
  nb::class_<RowChain>(m, "RowChain")
      .def(nb::init<>())
      .def("embed", [](RowChain& c, Buffer out, std::shared_ptr<Matrix> w, float scale) {
             c.add<Embed>(out, std::move(w), scale);
           }, "out"_a, "weight"_a, "scale"_a)
      .def("rms_norm", [](RowChain& c, Buffer x, Buffer out, std::shared_ptr<Vector> w, float eps, int64_t groups,
                          int64_t width) {
             check(static_cast<int64_t>(w->values.size()) == width, "rms_norm: the weight has another width");
             c.add<RmsNorm>(x, out, std::move(w), eps, groups, width);
           }, "x"_a, "out"_a, "weight"_a, "eps"_a, "groups"_a, "width"_a)
      .def("layer_norm", [](RowChain& c, Buffer x, Buffer out, std::shared_ptr<Vector> w, std::shared_ptr<Vector> b,
                            float eps, int64_t width) {
             check(static_cast<int64_t>(w->values.size()) == width, "layer_norm: the weight has another width");
             check(!b || static_cast<int64_t>(b->values.size()) == width, "layer_norm: the bias has another width");
             c.add<LayerNorm>(x, out, std::move(w), std::move(b), eps, width);
           }, "x"_a, "out"_a, "weight"_a, "bias"_a.none(), "eps"_a, "width"_a)
      .def("quantize", [](RowChain& c, Buffer x, Buffer out, int kind, int64_t width) {
             c.add<Quantize>(x, out, static_cast<ActKind>(kind), width);
           }, "x"_a, "out"_a, "kind"_a, "width"_a)
      .def("rope_table", [](RowChain& c, Buffer out, std::vector<float> inv_freq, float factor) {
             c.add<RopeTable>(out, std::move(inv_freq), factor);
           }, "out"_a, "inv_freq"_a, "factor"_a)
      .def("rope", [](RowChain& c, Buffer x, Buffer table, Buffer out, int64_t half, int64_t heads, int64_t head_dim) {
             check(2 * half <= head_dim, "rope: more pairs than a head has");
             c.add<Rope>(x, table, out, half, heads, head_dim);
           }, "x"_a, "table"_a, "out"_a, "half"_a, "heads"_a, "head_dim"_a)
      .def("store_kv", [](RowChain& c, Buffer k, Buffer v, std::shared_ptr<KvPages> pages, int32_t place,
                          int32_t group) {
             c.add<StoreKv>(k, v, pages, place, group);
             c.stores.emplace_back(std::move(pages), group);
           }, "k"_a, "v"_a, "pages"_a, "place"_a, "group"_a)
      .def("gated", [](RowChain& c, Buffer gate, Buffer up, Buffer out, int64_t width, int activation) {
             c.add<Gated>(gate, up, out, width, static_cast<Activation>(activation));
           }, "gate"_a, "up"_a, "out"_a, "width"_a, "activation"_a)
      .def("activate", [](RowChain& c, Buffer x, Buffer out, int64_t width, int activation) {
             c.add<Activate>(x, out, width, static_cast<Activation>(activation));
           }, "x"_a, "out"_a, "width"_a, "activation"_a)
      .def("add", [](RowChain& c, Buffer a, Buffer b, Buffer out, int64_t width) { c.add<Add>(a, b, out, width); },
           "a"_a, "b"_a, "out"_a, "width"_a)
      .def("scale", [](RowChain& c, Buffer x, Buffer out, float factor, int64_t width) {
             c.add<Scale>(x, out, factor, width);
           }, "x"_a, "out"_a, "factor"_a, "width"_a)
      .def("gather", [](RowChain& c, Buffer x, Buffer out, int64_t width) { c.add<Gather>(x, out, width); }, "x"_a,
           "out"_a, "width"_a);
  nb::class_<LinearBatch>(m, "LinearBatch")
      .def(nb::init<>())
      .def("product", [](LinearBatch& b, std::shared_ptr<Matrix> w, Buffer act, Buffer out, bool add,
                         std::shared_ptr<Vector> bias, float factor, float soft_cap) {
             check(!bias || static_cast<int64_t>(bias->values.size()) == w->packed().n,
                   "linear: the bias has another width");
             const Epilogue epilogue = add ? Epilogue::add : Epilogue::store;
             b.tasks.push_back({std::move(w), act, out, epilogue, std::move(bias), factor, soft_cap});
           }, "weight"_a, "act"_a, "out"_a, "add"_a, "bias"_a.none(), "factor"_a, "soft_cap"_a);
}

Extent extent_of(int number) {
  check(number == 0 || number == 1, "extents are 0 (tokens) and 1 (samples)");
  return static_cast<Extent>(number);
}

// A step names pages and offsets within the program's limits: they must exist in the pages that a stage uses.
void check_pages(const StepLimits& limits, const KvPages& pages, int32_t group) {
  check(group >= 0 && group < limits.num_groups, "there is no such KV group");
  check(pages.num_pages() >= limits.num_pages, "the KV cache has fewer pages than the program's limit");
  check(pages.page_size() == limits.page_size, "the KV cache has another page size than the program");
}

void add_attention(Program& program, Buffer q, Buffer out, std::shared_ptr<KvPages> pages, int32_t place,
                   int32_t group, int32_t num_heads, int32_t window, float scale, float soft_cap,
                   std::shared_ptr<Vector> sinks, Buffer partials) {
  const KvView kv = pages->layer(place);
  check_pages(program.limits(), *pages, group);
  check(num_heads > 0 && num_heads % kv.num_kv_heads == 0, "attention: heads are no multiple of key/value heads");
  check(!sinks || static_cast<int32_t>(sinks->values.size()) == num_heads, "attention: one sink per head is needed");
  AttentionTask task{q, out, std::move(pages), kv, 0, {}, scale, soft_cap, std::move(sinks), partials};
  task.facts = {group, window, kv.num_kv_heads, num_heads / kv.num_kv_heads, kv.head_dim};
  task.shape = program.add_shape(task.facts);
  program.add(std::make_unique<AttentionStage>(task));
  program.add(std::make_unique<MergeStage>(task));
}

void add_gated(Program& program, int extent, std::shared_ptr<Matrix> gate, std::shared_ptr<Matrix> up, Buffer act,
               Buffer out, std::shared_ptr<Vector> gate_bias, std::shared_ptr<Vector> up_bias, int activation,
               int kind) {
  const PackedWeight &g = gate->packed(), &u = up->packed();
  check(g.n == u.n && g.k == u.k, "gated: gate and up differ in shape");
  check(act_kind(g.format) == act_kind(u.format), "gated: gate and up read different activations");
  check(kind == 0 || g.n % act_block == 0, "gated: outputs are not whole blocks of activations");
  for (const auto& bias : {gate_bias, up_bias})
    check(!bias || static_cast<int64_t>(bias->values.size()) == g.n, "gated: a bias has another width");
  GatedTask task{std::move(gate), std::move(up), act, out, std::move(gate_bias), std::move(up_bias),
                 static_cast<Activation>(activation), static_cast<ActKind>(kind)};
  program.add(std::make_unique<GatedStage>(extent_of(extent), std::move(task)));
}

std::shared_ptr<const Step> prepare(const Program& program, Array<int32_t> token_ids, Array<int32_t> positions,
                                    Array<int32_t> row_starts, Array<int32_t> context_lens,
                                    const std::vector<Table<int32_t>>& page_tables, Array<int32_t> sample_rows) {
  StepArrays in;
  in.tokens = static_cast<int64_t>(token_ids.size());
  in.rows = static_cast<int64_t>(context_lens.size());
  in.samples = static_cast<int64_t>(sample_rows.size());
  check(positions.size() == token_ids.size(), "StepInputs: positions and token_ids differ in length");
  check(row_starts.size() == context_lens.size() + 1, "StepInputs: row_starts must have one more than context_lens");
  in.token_ids = token_ids.data();
  in.positions = positions.data();
  in.row_starts = row_starts.data();
  in.context_lens = context_lens.data();
  in.sample_rows = sample_rows.data();
  for (const auto& table : page_tables) {
    check(static_cast<int64_t>(table.shape(0)) == in.rows, "StepInputs: page_tables have one row per row");
    in.page_tables.push_back(table.data());
    in.table_widths.push_back(static_cast<int64_t>(table.shape(1)));
  }
  return program.prepare(in);
}

// A view of [rows, width] floats in the fixed part of the arena, alive as long as the program.
auto view(nb::handle self, int64_t offset, size_t rows, size_t width) {
  const auto& program = nb::cast<const Program&>(self);
  check(width == 0 || rows <= (size_t{1} << 60) / width, "no arena has as many values");
  auto* data = reinterpret_cast<float*>(program.fixed(offset, static_cast<int64_t>(rows * width * sizeof(float))));
  return nb::ndarray<nb::numpy, float, nb::ndim<2>>(data, {rows, width}, self);
}

StepLimits limits_of(int64_t max_tokens, int64_t max_rows, int64_t max_samples, int64_t max_context,
                     int64_t vocab_size, int32_t page_size, int64_t num_pages, int32_t num_groups,
                     int64_t max_partials) {
  check(max_tokens > 0 && max_rows > 0 && max_samples >= 0 && max_context > 0, "limits must be positive");
  check(page_size > 0 && page_size % kv_tile == 0, "page_size must be a multiple of 16");
  StepLimits limits{};
  limits.max_tokens = max_tokens;
  limits.max_rows = max_rows;
  limits.max_samples = max_samples;
  limits.max_context = max_context;
  limits.vocab_size = vocab_size;
  limits.page_size = page_size;
  limits.num_pages = num_pages;
  limits.num_groups = num_groups;
  limits.max_partials = max_partials;
  return limits;
}

nb::list take_events(Program& program) {
  std::vector<ChunkEvent> events;
  {
    Release release;
    events = program.take_events();
  }
  nb::list found;
  for (const ChunkEvent& e : events) found.append(nb::make_tuple(e.worker, e.stage, e.begin_ns, e.end_ns));
  return found;
}

void bind_program(nb::module_& m) {
  nb::class_<StageTotals>(m, "StageTotals")
      .def_ro("runs", &StageTotals::runs)
      .def_ro("chunks", &StageTotals::chunks)
      .def_ro("wall_ns", &StageTotals::wall_ns)
      .def_ro("work_ns", &StageTotals::work_ns);
  nb::class_<Step>(m, "Step")
      .def_prop_ro("num_tokens", [](const Step& self) { return self.tokens; })
      .def_prop_ro("num_samples", [](const Step& self) { return self.samples; });
  nb::class_<StepLimits>(m, "StepLimits")
      .def(nb::new_(&limits_of), "max_tokens"_a, "max_rows"_a, "max_samples"_a, "max_context"_a, "vocab_size"_a,
           "page_size"_a, "num_pages"_a, "num_groups"_a, "max_partials"_a);
  nb::class_<Program>(m, "Program")
      .def(nb::new_([](std::shared_ptr<Pool> pool, const std::string& isa, const StepLimits& limits) {
             return std::make_shared<Program>(std::move(pool), isa_named(isa.c_str()), limits);
           }), "pool"_a, "isa"_a, "limits"_a)
      .def("add_rows", [](Program& self, int extent, RowChain& chain) {
             check(!chain.ops.empty(), "a chain of rows has at least one operation");
             for (const auto& [pages, group] : chain.stores) check_pages(self.limits(), *pages, group);
             self.add(std::make_unique<RowStage>(extent_of(extent), std::move(chain.ops)));
           }, "extent"_a, "chain"_a)
      .def("add_linear", [](Program& self, int extent, LinearBatch& batch) {
             check(!batch.tasks.empty(), "a linear stage has at least one product");
             self.add(std::make_unique<LinearStage>(extent_of(extent), std::move(batch.tasks)));
           }, "extent"_a, "batch"_a)
      .def("add_gated", &add_gated, "extent"_a, "gate"_a, "up"_a, "act"_a, "out"_a, "gate_bias"_a.none(),
           "up_bias"_a.none(), "activation"_a, "kind"_a)
      .def("add_attention", &add_attention, "q"_a, "out"_a, "pages"_a, "place"_a, "group"_a, "num_heads"_a,
           "window"_a, "scale"_a, "soft_cap"_a, "sinks"_a.none(), "partials"_a)
      .def("seal", &Program::seal, "token_bytes"_a, "sample_bytes"_a, "fixed_bytes"_a, "worker_bytes"_a)
      .def("prepare", &prepare, "token_ids"_a.noconvert(), "positions"_a.noconvert(), "row_starts"_a.noconvert(),
           "context_lens"_a.noconvert(), "page_tables"_a.noconvert(), "sample_rows"_a.noconvert())
      .def("submit", &Program::submit, "step"_a, nb::call_guard<Release>())
      .def("join", &Program::join, nb::call_guard<Release>())
      .def("start_profile", &Program::start_profile, "max_events"_a, nb::call_guard<Release>())
      .def("stop_profile", &Program::stop_profile, nb::call_guard<Release>())
      .def("take_totals", &Program::take_totals, nb::call_guard<Release>())
      .def("take_events", &take_events)
      .def("view", &view, "offset"_a, "rows"_a, "width"_a)
      .def_prop_ro("num_stages", &Program::num_stages)
      .def_prop_ro("nbytes", &Program::bytes);
  m.def("arena_bytes", [](const StepLimits& limits, int64_t workers, int64_t token_bytes, int64_t sample_bytes,
                          int64_t fixed_bytes, int64_t worker_bytes) {
    StepLimits with = limits;
    with.workers = workers;
    return Program::arena_bytes(with, token_bytes, sample_bytes, fixed_bytes, worker_bytes);
  }, "limits"_a, "workers"_a, "token_bytes"_a, "sample_bytes"_a, "fixed_bytes"_a, "worker_bytes"_a);
}

// ---------------------------------------------------------------- sampling

template <typename T> using Out = nb::ndarray<T, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
template <typename T> using OutTable = nb::ndarray<T, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

void sample(Sampler& sampler, Table<float> logits, Array<float> temperature, Array<int32_t> top_k, Array<float> top_p,
            Array<float> min_p, Array<uint64_t> seeds, Array<int32_t> positions, Out<int32_t> out) {
  const size_t rows = logits.shape(0), vocab = logits.shape(1);
  for (size_t length : {temperature.size(), top_k.size(), top_p.size(), min_p.size(), seeds.size(), positions.size(),
                        out.size()})
    check(length == rows, "sample: every array has one entry per row of logits");
  check(vocab > 0, "sample: logits have no columns");
  const SampleArrays arrays{static_cast<int64_t>(rows), static_cast<int64_t>(vocab), logits.data(),
                            temperature.data(),         top_p.data(),                min_p.data(),
                            top_k.data(),               positions.data(),            seeds.data()};
  int32_t* tokens = out.data();
  Release release;
  sampler.sample(arrays, tokens);
}

void logprobs(Sampler& sampler, Table<float> logits, Array<int32_t> tokens, Out<double> values, Out<int32_t> ranks,
              OutTable<int32_t> top_ids, OutTable<double> top_values) {
  const size_t rows = logits.shape(0), vocab = logits.shape(1);
  for (size_t length : {tokens.size(), values.size(), ranks.size(), top_ids.shape(0), top_values.shape(0)})
    check(length == rows, "logprobs: every array has one entry per row of logits");
  check(top_ids.shape(1) == top_values.shape(1) && top_ids.shape(1) <= vocab, "logprobs: no such number of best tokens");
  for (size_t r = 0; r < rows; ++r)
    check(tokens.data()[r] >= 0 && static_cast<size_t>(tokens.data()[r]) < vocab, "logprobs: no such token");
  const LogprobArrays out{static_cast<int64_t>(top_ids.shape(1)), tokens.data(),  values.data(),
                          ranks.data(),                           top_ids.data(), top_values.data()};
  const float* data = logits.data();
  Release release;
  sampler.logprobs(data, static_cast<int64_t>(rows), static_cast<int64_t>(vocab), out);
}

void bind_sampler(nb::module_& m) {
  nb::class_<Sampler>(m, "Sampler")
      .def(nb::new_([](std::shared_ptr<Pool> pool, const std::string& isa) {
             return std::make_shared<Sampler>(std::move(pool), isa_named(isa.c_str()));
           }), "pool"_a, "isa"_a)
      .def("sample", &sample, "logits"_a.noconvert(), "temperature"_a.noconvert(), "top_k"_a.noconvert(),
           "top_p"_a.noconvert(), "min_p"_a.noconvert(), "seeds"_a.noconvert(), "positions"_a.noconvert(),
           "out"_a.noconvert())
      .def("logprobs", &logprobs, "logits"_a.noconvert(), "tokens"_a.noconvert(), "values"_a.noconvert(),
           "ranks"_a.noconvert(), "top_ids"_a.noconvert(), "top_values"_a.noconvert());
  m.def("sampler_bytes", &Sampler::bytes_of, "workers"_a, "vocab"_a);
}

}  // namespace

NB_MODULE(_kernels, m) {
  m.doc() = "Octavo's CPU kernels: packed weights, paged KV, programs and the pool that runs them.";
  m.def("detect_isa", [] { return std::string(isa_name(detect())); });
  m.def("machine_isas", [] {
    nb::list names;
    for (Isa level : machine_levels()) names.append(isa_name(level));
    return names;
  });
  nb::class_<Pool>(m, "Pool")
      .def(nb::new_([](int threads, const std::string& numa) {
             return std::make_shared<Pool>(threads, numa_of(numa));
           }), "threads"_a = 0, "numa"_a = "auto")
      .def_prop_ro("size", &Pool::size)
      .def_prop_ro("heartbeat", &Pool::heartbeat)
      .def_prop_ro("weight_nodes", &Pool::weight_nodes)
      .def_static("allowed_cores", &Pool::allowed_cores);
  bind_weights(m);
  bind_pages(m);
  bind_row_chain(m);
  bind_program(m);
  bind_limits(m);
  bind_sampler(m);
}
