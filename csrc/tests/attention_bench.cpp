// Timings of paged attention over all layers of a model on a pool of workers, beside what the machine can do: bytes of
// keys and values a second, and multiply-adds. Not a test.
//
// Arguments: types ("f16,bf16,int8"), threads (2), level (the highest), repetitions (5), a part of the cases' names.

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <optional>

#include "ops/ops.h"
#include "ops_check.h"
#include "pool/float_mode.h"
#include "pool/pool.h"
#include "program/memory.h"

using namespace octavo;
using namespace octavo::test;

namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class Body> double median_s(int repetitions, const Body& body) {
  body();
  std::vector<double> times;
  for (int i = 0; i < repetitions; i++) {
    const double start = now_s();
    body();
    times.push_back(now_s() - start);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Model {
  const char* name;
  int32_t layers, heads, kv_heads, head_dim;
};

struct Case {
  const char* what;
  int32_t rows, tokens, context;  // of each row: the last `tokens` of `context` positions
  int32_t shared = 0;             // positions whose pages all rows have in common
  bool sharing = true;            // whether a plan may use that
};

// One step's attention of all layers, as a program would run it.
struct LayersJob final : Job {
  const OpKernels& ops;
  const AttentionPlan& plan;
  std::vector<AttentionCall> calls;
  std::vector<float*> workspaces;
  int64_t merge_grain = 64;

  LayersJob(const OpKernels& ops, const AttentionPlan& plan) : ops(ops), plan(plan) {}
  int num_stages() const override { return int(calls.size()) * 2; }
  int64_t merges() const { return int64_t(plan.merges.size()) * calls[0].num_heads; }
  int64_t chunks(int stage) override {
    return stage % 2 == 0 ? int64_t(plan.chunks.size()) : (merges() + merge_grain - 1) / merge_grain;
  }
  void work(int stage, int64_t chunk, int worker) override {
    const AttentionCall& call = calls[size_t(stage / 2)];
    if (stage % 2 == 0)
      ops.attention(call, plan.items.data(), chunk == 0 ? 0 : plan.chunks[size_t(chunk - 1)], plan.chunks[size_t(chunk)],
                    workspaces[size_t(worker)]);
    else
      ops.attention_merge(call, plan.merges.data(), chunk * merge_grain, std::min(merges(), (chunk + 1) * merge_grain));
  }
};

float* aligned_floats(int64_t n) { return static_cast<float*>(std::aligned_alloc(64, size_t(n * 4 + 63) / 64 * 64)); }

// Page tables in random order; the first `shared` positions are at the same pages.
std::vector<int32_t> make_table(const Case& c, int32_t page_size, int64_t* pages, int64_t* width) {
  *width = (c.context + page_size - 1) / page_size;
  const int64_t common = c.shared / page_size, own = *width - common;
  *pages = common + own * c.rows;
  std::vector<int32_t> free(static_cast<size_t>(*pages)), table;
  for (int64_t i = 0; i < *pages; i++) free[size_t(i)] = int32_t(i);
  Random random{1};
  for (size_t i = free.size(); i > 1; i--) std::swap(free[i - 1], free[size_t(random.below(int64_t(i)))]);
  for (int64_t r = 0; r < c.rows; r++)
    for (int64_t p = 0; p < *width; p++) table.push_back(free[size_t(p < common ? p : common + r * own + p - common)]);
  return table;
}

// Numbers between about 0.06 and 1 of both signs in either type of 16 bits, and any scales for bytes.
void fill(uint8_t* memory, int64_t bytes, KvType type) {
  Random random{3};
  std::vector<uint16_t> block(1 << 19);
  for (uint16_t& word : block)
    word = uint16_t((type == KvType::bf16 ? 0x3d80 : 0x2c00) + (random.next() & (type == KvType::bf16 ? 0x81ff : 0x8fff)));
  for (int64_t at = 0; at < bytes; at += int64_t(block.size()) * 2)
    std::memcpy(memory + at, block.data(), size_t(std::min(bytes - at, int64_t(block.size()) * 2)));
}

void bench(Pool& pool, Isa isa, const Model& model, KvType type, const Case& c, int repetitions) {
  const OpKernels& ops = op_kernels(isa);
  const int32_t page_size = 16;
  int64_t pages = 0, width = 0;
  const std::vector<int32_t> table = make_table(c, page_size, &pages, &width);
  const int64_t page_bytes = kv_page_bytes(type, page_size, model.kv_heads, model.head_dim, model.layers);
  Mapping memory(size_t(pages * page_bytes + kv_slack));
  fill(memory.data(), pages * page_bytes, type);
  std::vector<int32_t> positions, starts = {0};
  for (int32_t r = 0; r < c.rows; r++) {
    for (int32_t t = 0; t < c.tokens; t++) positions.push_back(c.context - c.tokens + t);
    starts.push_back(int32_t(positions.size()));
  }
  const int64_t q_width = int64_t(model.heads) * model.head_dim;
  const std::vector<float> q = Random{2}.normals(positions.size() * size_t(q_width));
  std::vector<float> out(q.size());
  AttentionPlan plan;
  const int64_t limit = attention_partial_limit(c.rows, c.context);
  std::vector<int32_t> planned = table;
  if (!c.sharing)
    for (int64_t r = 0; r < c.rows; r++) planned[size_t(r * width)] = int32_t(r);  // as if no page were shared
  plan_attention({starts.data(), c.rows, positions.data(), planned.data(), width, page_size},
                 {model.kv_heads, model.heads / model.kv_heads, model.head_dim, 0}, pool.size(), limit, 1, plan);
  std::vector<float> partials(size_t(plan.num_partials * attention_partial_floats(model.heads, model.head_dim)));
  LayersJob job(ops, plan);
  for (int i = 0; i < pool.size(); i++) job.workspaces.push_back(aligned_floats(attention_workspace_floats(model.head_dim)));
  for (int32_t layer = 0; layer < model.layers; layer++) {
    const KvView view{memory.data(), page_bytes, type, page_size, model.kv_heads, model.head_dim, layer};
    job.calls.push_back({q.data(), q_width, out.data(), q_width, view, table.data(), width, positions.data(),
                         plan.entries.data(), model.heads, 0, 0.1f, 0, nullptr, partials.data()});
  }
  const double s = median_s(repetitions, [&] { pool.run(job); });
  double keys = 0;
  for (int32_t p : positions) keys += p + 1;
  const double bytes = double(pages * page_bytes), flops = keys * double(q_width) * 4 * model.layers;
  static const char* names[] = {"f32", "f16", "bf16", "int8"};
  std::printf("%-9s %-5s %-22s %9.3f ms a step  %6.1f GB/s of KV  %6.1f GFLOP/s  (%zu items, %zu chunks, %d partials)\n",
              model.name, names[int(type)], c.what, s * 1e3, bytes / s * 1e-9, flops / s * 1e-9, plan.items.size(),
              plan.chunks.size(), plan.num_partials);
  std::fflush(stdout);
  for (float* w : job.workspaces) std::free(w);
}

// What one linear walk over memory gives with all workers.
double memory_limit(Pool& pool) {
  Mapping memory(size_t{1} << 29);
  std::memset(memory.data(), 1, memory.bytes());
  std::vector<uint64_t> sums(size_t(pool.size()) * 8);
  const double s = median_s(3, [&] {
    pool.parallel(512, 1, [&](int64_t begin, int64_t, int worker) {
      const auto* words = reinterpret_cast<const uint64_t*>(memory.data() + (begin << 20));
      uint64_t a = 0, b = 0, c = 0, d = 0;
      for (int64_t i = 0; i < (1 << 17); i += 4) a += words[i], b += words[i + 1], c += words[i + 2], d += words[i + 3];
      sums[size_t(worker) * 8] += a + b + c + d;
    });
  });
  return double(memory.bytes()) / s * 1e-9;
}

std::optional<KvType> type_named(const std::string& name) {
  if (name == "f32") return KvType::f32;
  if (name == "f16") return KvType::f16;
  if (name == "bf16") return KvType::bf16;
  if (name == "int8") return KvType::int8;
  return std::nullopt;
}

}  // namespace

int main(int count, char** arguments) {
  const std::string types = std::string(count > 1 ? arguments[1] : "f16,bf16,int8") + ",";
  Pool pool(count > 2 ? std::atoi(arguments[2]) : 2);
  Isa isa = detect_machine();
  for (Isa level : machine_levels())
    if (count > 3 && isa_name(level) == std::string(arguments[3])) isa = level;
  const int repetitions = count > 4 ? std::atoi(arguments[4]) : 5;
  std::printf("%s, %d workers, one linear walk %.1f GB/s\n", isa_name(isa), pool.size(), memory_limit(pool));
  const Model smol{"30x9/3x64", 30, 9, 3, 64}, llama{"16x32/8x64", 16, 32, 8, 64};
  const std::vector<Case> cases = {
      {"1 x 128", 1, 1, 128}, {"1 x 1k", 1, 1, 1024}, {"1 x 16k", 1, 1, 16384}, {"8 x 128", 8, 1, 128},
      {"8 x 256", 8, 1, 256}, {"8 x 1k", 8, 1, 1024}, {"32 x 256", 32, 1, 256}, {"32 x 1k", 32, 1, 1024},
      {"32 x 1120, alone", 32, 1, 1120, 1024, false}, {"32 x 1120, 1024 shared", 32, 1, 1120, 1024, true},
      {"8 x 8k, 7k shared", 8, 1, 8192, 7168, true}, {"prompt of 512", 1, 512, 512}, {"prompt of 2048", 1, 2048, 2048}};
  for (size_t at = 0, end; (end = types.find(',', at)) != std::string::npos; at = end + 1) {
    const std::optional<KvType> type = type_named(types.substr(at, end - at));
    if (!type) {
      std::printf("no KV type %s\n", types.substr(at, end - at).c_str());
      return 1;
    }
    const auto wanted = [&](const Case& c) { return count < 6 || std::string(c.what).find(arguments[5]) != std::string::npos; };
    for (const Case& c : cases)
      if (wanted(c)) bench(pool, isa, smol, *type, c, repetitions);
    for (const Case& c : {cases[6], cases[7], cases[11]})
      if (wanted(c)) bench(pool, isa, llama, *type, c, repetitions);
  }
}
