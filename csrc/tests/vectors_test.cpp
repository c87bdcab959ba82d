// Runs every instruction-set level of this machine against a file of the reference backend's inputs and outputs.
//   vectors_test FILE        (python -m tools.kernel_vectors FILE writes it and says how)
//
// Within a tolerance for sums in another order; and bit-equal between levels, where linear.h and ops.h say so, and
// between numbers of rows. Exit code 77 (not tested) where there is no file.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <sstream>

#include "file_reference.h"
#include "linear/linear.h"
#include "ops/ops.h"
#include "ops/sampling.h"
#include "ops_check.h"
#include "pool/float_mode.h"

using namespace octavo;
using namespace octavo::test;

namespace {

[[noreturn]] void broken(const std::string& what) {
  std::printf("vectors_test: the file is not one of kernel_vectors: %s\n", what.c_str());
  std::exit(1);
}

struct Case {
  std::string op, line;
  std::map<std::string, std::string> facts;
  std::map<std::string, std::vector<uint8_t>> arrays;

  const std::string& text(const std::string& name) const {
    const auto found = facts.find(name);
    if (found == facts.end()) broken(line + " without " + name);
    return found->second;
  }
  int64_t whole(const std::string& name) const { return std::stoll(text(name)); }
  float real(const std::string& name) const { return std::stof(text(name)); }
  bool has(const std::string& name) const { return arrays.count(name) != 0; }
  const std::vector<uint8_t>& bytes(const std::string& name) const {
    if (!has(name)) broken(line + " without the array " + name);
    return arrays.at(name);
  }
  template <class T> std::vector<T> values(const std::string& name) const {
    const std::vector<uint8_t>& raw = bytes(name);
    std::vector<T> out(raw.size() / sizeof(T));
    std::memcpy(out.data(), raw.data(), raw.size());
    return out;
  }
  std::vector<float> floats(const std::string& name) const { return values<float>(name); }
};

std::vector<Case> read_cases(std::ifstream& file) {
  std::vector<Case> cases;
  std::string line;
  if (!std::getline(file, line) || line != "octavo-vectors 1") broken("its first line is '" + line + "'");
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string first, name;
    words >> first >> name;
    if (first == "case") {
      cases.push_back({name, line, {}, {}});
      for (std::string fact; words >> fact;) {
        const size_t equals = fact.find('=');
        cases.back().facts[fact.substr(0, equals)] = fact.substr(equals + 1);
      }
      continue;
    }
    size_t count = 0;
    if (cases.empty() || !(words >> count)) broken("the line '" + line + "'");
    std::vector<uint8_t> raw(count * (first == "u8" ? 1 : 4));
    if (!file.read(reinterpret_cast<char*>(raw.data()), std::streamsize(raw.size())) || file.get() != '\n')
      broken("the end of " + name + " of " + cases.back().line);
    cases.back().arrays[name] = std::move(raw);
  }
  return cases;
}

Format format_of(const std::string& name) {
  for (Format format : all_formats)
    if (name == format_name(format)) return format;
  broken("the format " + name);
}

// Relative to the largest output: a small one may be the difference of large products.
void check_close(const std::vector<float>& got, const std::vector<float>& want, float tolerance, const std::string& what) {
  if (got.size() != want.size()) return fail("%s: %zu values, expected %zu", what.c_str(), got.size(), want.size());
  float largest = 0;
  for (float v : want) largest = std::max(largest, std::fabs(v));
  for (size_t i = 0; i < want.size(); i++)
    if (!(std::fabs(got[i] - want[i]) <= tolerance * largest))
      return fail("%s: [%zu] is %.9g, expected %.9g", what.c_str(), i, double(got[i]), double(want[i]));
}

using Run = std::function<std::vector<float>(const OpKernels& ops)>;

// One op on all levels: near the reference, and every level like the first, but for those with arithmetic of their own.
template <class Own>
void check_levels(const Case& c, float tolerance, const Own& own, float own_tolerance, const Run& run) {
  const std::vector<float> want = c.floats("out");
  std::vector<float> first;
  for (Isa isa : op_levels()) {
    const std::string what = std::string(isa_name(isa)) + ": " + c.line;
    const std::vector<float> got = run(op_kernels(isa));
    check_close(got, want, own(isa) ? own_tolerance : tolerance, what);
    if (own(isa)) continue;
    if (first.empty()) first = got;
    check_same_bits(first, got, what + ", beside the portable level");
  }
}
void check_levels(const Case& c, float tolerance, const Run& run) {
  check_levels(c, tolerance, [](Isa) { return false; }, tolerance, run);
}

std::vector<float> product(Isa isa, const PackedWeight& weight, const std::vector<float>& x, int64_t rows) {
  const LinearKernels& kernels = linear_kernels(isa);
  const ActKind kind = act_kind(weight.format);
  const size_t stride = act_bytes(kind, weight.k);
  const Aligned act = aligned(stride * size_t(rows)), scratch = aligned(scratch_bytes(weight.format, weight.k));
  kernels.quantize(kind, x.data(), weight.k, rows, weight.k, act.get());
  std::vector<float> out(size_t(rows * weight.n));
  kernels.multiply({weight, act.get(), stride, rows, out.data(), weight.n, 0, group_count(weight.n), Epilogue::store,
                    scratch.get()});
  return out;
}

void check_linear(const Case& c) {
  const Format format = format_of(c.text("format"));
  const int64_t n = c.whole("n"), k = c.whole("k"), rows = c.whole("rows");
  const std::vector<float> x = c.floats("x"), want = c.floats("out");
  const Aligned packed = aligned(packed_bytes(format, n, k));
  pack(format, n, k, c.bytes("w").data(), row_bytes(format, k), nullptr, packed.get(), 0, group_count(n));
  const PackedWeight weight{format, n, k, packed.get()};
  std::vector<float> first;
  for (Isa isa : machine_levels()) {
    const std::string what = std::string(isa_name(isa)) + ": " + c.line;
    const std::vector<float> all = product(isa, weight, x, rows);
    check_close(all, want, 1e-5f, what);
    for (int64_t some : {1, 2, 7, 16})
      check_same_bits(product(isa, weight, x, some), {all.begin(), all.begin() + some * n}, what + ", fewer rows");
    if (first.empty()) first = all;
    if (!(format == Format::BF16 && isa == Isa::avx512_bf16))  // the one level with sums of its own (linear.h)
      check_same_bits(first, all, what + ", beside the portable level");
  }
}

void check_rms_norm(const Case& c) {
  const int64_t rows = c.whole("rows"), width = c.whole("width"), groups = c.whole("groups"), ld = width * groups;
  const std::vector<float> x = c.floats("x"), w = c.floats("w");
  check_levels(c, 2e-6f, [&](const OpKernels& ops) {
    std::vector<float> out(x.size());
    ops.rms_norm({x.data(), ld}, w.data(), c.real("eps"), {out.data(), ld}, 0, rows, groups, width);
    return out;
  });
}

void check_layer_norm(const Case& c) {
  const int64_t rows = c.whole("rows"), width = c.whole("width");
  const std::vector<float> x = c.floats("x"), w = c.floats("w"), b = c.floats("b");
  check_levels(c, 2e-6f, [&](const OpKernels& ops) {
    std::vector<float> out(x.size());
    ops.layer_norm({x.data(), width}, w.data(), b.data(), c.real("eps"), {out.data(), width}, 0, rows, width);
    return out;
  });
}

void check_rope(const Case& c) {
  const int64_t rows = c.whole("rows"), heads = c.whole("heads"), head_dim = c.whole("head_dim"), half = c.whole("half");
  const std::vector<float> x = c.floats("x"), inv_freq = c.floats("inv_freq");
  const std::vector<int32_t> positions = c.values<int32_t>("positions");
  std::vector<float> table(size_t(rows * 2 * half));
  rope_table(positions.data(), inv_freq.data(), half, double(c.real("factor")), table.data(), 0, rows);
  check_levels(c, 1e-6f, [&](const OpKernels& ops) {
    std::vector<float> out(x.size());
    const int64_t ld = heads * head_dim;
    ops.rope({x.data(), ld}, table.data(), half, {out.data(), ld}, 0, rows, heads, head_dim);
    return out;
  });
}

void check_gated(const Case& c) {
  const std::map<std::string, Activation> names = {{"silu", Activation::silu}, {"gelu_tanh", Activation::gelu_tanh},
                                                   {"gelu", Activation::gelu}, {"relu", Activation::relu}};
  const auto activation = names.find(c.text("activation"));
  if (activation == names.end()) broken(c.line);
  const int64_t rows = c.whole("rows"), width = c.whole("width");
  const std::vector<float> gate = c.floats("gate"), up = c.floats("up");
  check_levels(c, 1e-6f, [&](const OpKernels& ops) {
    std::vector<float> out(gate.size());
    ops.gated({gate.data(), width}, {up.data(), width}, {out.data(), width}, 0, rows, width, activation->second);
    return out;
  });
}

// Two rows of a step whose earlier keys are in the pages already.
struct AttentionWorld {
  const Case& c;
  std::vector<int32_t> lengths, before, starts = {0}, positions, table;
  int64_t kv_heads, group, head_dim, table_width = 0;
  KvType type;
  std::vector<uint8_t> pool;

  explicit AttentionWorld(const Case& c)
      : c(c), lengths(c.values<int32_t>("lengths")), before(c.values<int32_t>("before")), kv_heads(c.whole("kv_heads")),
        group(c.whole("group")), head_dim(c.whole("head_dim")),
        type(c.text("dtype") == "f32"    ? KvType::f32
             : c.text("dtype") == "f16"  ? KvType::f16
             : c.text("dtype") == "bf16" ? KvType::bf16
                                         : KvType::int8) {
    for (size_t r = 0; r < lengths.size(); r++) {
      for (int32_t i = 0; i < lengths[r]; i++) positions.push_back(before[r] + i);
      starts.push_back(int32_t(positions.size()));
      table_width = std::max<int64_t>(table_width, (before[r] + lengths[r] + page_size - 1) / page_size);
    }
    const int64_t pages = int64_t(lengths.size()) * table_width;
    for (int64_t p = 0; p < pages; p++) table.push_back(int32_t(pages - 1 - p));
    pool.assign(size_t(pages * page_bytes() + kv_slack), 0);
  }

  static constexpr int64_t page_size = 32;
  int64_t page_bytes() const { return kv_page_bytes(type, page_size, kv_heads, head_dim, 1); }
  KvView view() { return {pool.data(), page_bytes(), type, int32_t(page_size), int32_t(kv_heads), int32_t(head_dim), 0}; }

  void store(const OpKernels& ops) {
    const std::vector<float> k = c.floats("k"), v = c.floats("v");
    std::vector<int32_t> pages, offsets;
    for (size_t r = 0; r < lengths.size(); r++)
      for (int32_t p = 0; p < before[r] + lengths[r]; p++) {
        pages.push_back(table[r * size_t(table_width) + size_t(p / page_size)]);
        offsets.push_back(int32_t(p % page_size));
      }
    const int64_t ld = kv_heads * head_dim;
    ops.store_kv({k.data(), ld}, {v.data(), ld}, view(), pages.data(), offsets.data(), 0, int64_t(pages.size()));
  }

  std::vector<float> attend(const OpKernels& ops, int64_t workers) {
    const std::vector<float> q = c.floats("q"), sinks = c.has("sinks") ? c.floats("sinks") : std::vector<float>();
    const int64_t rows = int64_t(lengths.size()), heads = kv_heads * group, window = c.whole("window");
    AttentionPlan plan;
    plan_attention({starts.data(), rows, positions.data(), table.data(), table_width, int32_t(page_size)},
                   {int32_t(kv_heads), int32_t(group), int32_t(head_dim), int32_t(window)}, workers,
                   attention_partial_limit(rows, table_width * page_size), 1, plan);
    std::vector<float> out(q.size());
    std::vector<float> partials(size_t(plan.num_partials * attention_partial_floats(heads, head_dim)));
    const Aligned workspace = aligned(size_t(attention_workspace_floats(head_dim)) * sizeof(float));
    const AttentionCall call{q.data(), heads * head_dim, out.data(), heads * head_dim, view(), table.data(), table_width,
                             positions.data(), plan.entries.data(), int32_t(heads), int32_t(window), c.real("scale"),
                             c.real("cap"), sinks.empty() ? nullptr : sinks.data(), partials.data()};
    ops.attention(call, plan.items.data(), 0, int64_t(plan.items.size()) * kv_heads,
                  reinterpret_cast<float*>(workspace.get()));
    ops.attention_merge(call, plan.merges.data(), 0, int64_t(plan.merges.size()) * heads);
    return out;
  }
};

void check_attention(const Case& c) {
  AttentionWorld world(c);
  const float tolerance = world.type == KvType::int8 ? 4e-4f : 5e-6f;
  const auto own = [&](Isa isa) { return world.type == KvType::bf16 && isa == Isa::avx512_bf16; };
  check_levels(c, tolerance, own, 2e-2f, [&](const OpKernels& ops) {
    world.store(ops);
    const std::vector<float> out = world.attend(ops, 1);
    check_same_bits(out, world.attend(ops, 16), c.line + ", split over 16 workers");
    return out;
  });
}

void check_sample(const Case& c) {
  const int64_t rows = c.whole("rows"), vocab = c.whole("vocab");
  const std::vector<float> logits = c.floats("logits");
  const std::vector<int32_t> want = c.values<int32_t>("out");
  const Aligned workspace = aligned(sample_workspace_bytes(vocab));
  for (Isa isa : op_levels())
    for (int64_t r = 0; r < rows; r++) {
      const SampleControls controls{c.real("temperature"), int32_t(c.whole("top_k")), c.real("top_p"), c.real("min_p"),
                                    uint64_t(r) * uint64_t(c.whole("seed_step")), int32_t(r)};
      const int32_t got = sample_row(op_kernels(isa), logits.data() + r * vocab, vocab, controls, workspace.get());
      if (got != want[size_t(r)]) fail("%s: %s, row %ld: %d, expected %d", isa_name(isa), c.line.c_str(), long(r), got, want[size_t(r)]);
    }
}

}  // namespace

int main(int count, char** arguments) {
  const std::map<std::string, void (*)(const Case&)> checks = {
      {"linear", check_linear}, {"rms_norm", check_rms_norm}, {"layer_norm", check_layer_norm}, {"rope", check_rope},
      {"gated", check_gated},   {"attention", check_attention}, {"sample", check_sample}};
  std::ifstream file(count > 1 ? arguments[1] : "", std::ios::binary);
  if (!file) {
    std::printf("vectors_test: NOT TESTED, no file '%s'; python -m tools.kernel_vectors FILE writes one\n",
                count > 1 ? arguments[1] : "");
    return 77;
  }
  const FloatMode mode;  // as the pool's workers run
  const std::vector<Case> cases = read_cases(file);
  std::map<std::string, int> seen;
  for (const Case& c : cases) {
    if (!checks.count(c.op)) broken(c.line);
    seen[c.op]++;
    checks.at(c.op)(c);
  }
  if (seen.size() != checks.size()) fail("only %zu of %zu ops are in the file", seen.size(), checks.size());
  std::printf("%zu cases. ", cases.size());
  return finish("vectors_test");
}
