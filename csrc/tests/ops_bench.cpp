// Timings of the kernels of csrc/ops on one thread: processor time, the best of many repetitions, so that a busy machine
// still shows what the code can do. Not a test.

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>

#include "ops/ops.h"
#include "ops/sampling.h"
#include "ops_check.h"
#include "pool/float_mode.h"

using namespace octavo;
using namespace octavo::test;

namespace {

double thread_seconds() {
  timespec time;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return double(time.tv_sec) + double(time.tv_nsec) * 1e-9;
}

double best_seconds(const std::function<void()>& body, double budget = 0.6) {
  double best = 1e9, spent = 0;
  for (int i = 0; i < 3 || spent < budget; i++) {
    const double start = thread_seconds();
    body();
    const double s = thread_seconds() - start;
    best = std::min(best, s);
    spent += s;
  }
  return best;
}

float* aligned_floats(int64_t n) { return static_cast<float*>(std::aligned_alloc(64, size_t(n * 4 + 63) / 64 * 64)); }

void bench_rows(Isa isa) {
  const OpKernels& ops = op_kernels(isa);
  Random random{2};
  const int64_t width = 4096, rows = 8;
  const std::vector<float> x = random.normals(size_t(rows * width)), w = random.normals(size_t(width));
  std::vector<float> out(x.size());
  const auto report = [&](const char* name, const std::function<void()>& body) {
    std::printf("%-8s %-12s %7.3f ns per 16 values\n", isa_name(isa), name, best_seconds(body, 0.1) / double(rows * width / 16) * 1e9);
  };
  const ConstRows in{x.data(), width};
  const Rows to{out.data(), width};
  report("rms_norm", [&] { ops.rms_norm(in, w.data(), 1e-5f, to, 0, rows, 1, width); });
  report("rms_norm 64", [&] { ops.rms_norm(in, w.data(), 1e-5f, to, 0, rows, 64, 64); });
  report("silu", [&] { ops.gated(in, in, to, 0, rows, width, Activation::silu); });
  report("gelu_tanh", [&] { ops.gated(in, in, to, 0, rows, width, Activation::gelu_tanh); });
  report("gelu", [&] { ops.gated(in, in, to, 0, rows, width, Activation::gelu); });
  report("add", [&] { ops.add(in, in, to, 0, rows, width); });
  report("rope 128", [&] { ops.rope(in, x.data(), 64, to, 0, rows, 32, 128); });
  std::vector<uint8_t> page(size_t(kv_page_bytes(KvType::bf16, 16, 32, 128, 1)));
  const KvView view{page.data(), int64_t(page.size()), KvType::bf16, 16, 32, 128, 0};
  const std::vector<int32_t> pages(16, 0), offsets = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  report("store_kv", [&] { ops.store_kv(in, in, view, pages.data(), offsets.data(), 0, rows); });
}

void bench_sampling(Isa isa) {
  const OpKernels& ops = op_kernels(isa);
  Random random{3};
  const int64_t vocab = 128256;
  std::vector<float> peaked = random.normals(size_t(vocab), 2), flat = random.normals(size_t(vocab), 0.5f);
  for (int i = 0; i < 30; i++) peaked[size_t(random.below(vocab))] += 16 * float(random.uniform());
  float* workspace = aligned_floats(int64_t(sample_workspace_bytes(vocab)) / 4);
  const auto report = [&](const char* name, const std::vector<float>& logits, SampleControls controls) {
    controls.seed = 9;
    const double s = best_seconds([&] {
      controls.position++;
      sample_row(ops, logits.data(), vocab, controls, workspace);
    }, 0.15);
    std::printf("%-8s sample %-22s %8.1f us\n", isa_name(isa), name, s * 1e6);
  };
  report("greedy", peaked, {0, 0, 1, 0, 0, 0});
  report("temperature", peaked, {1, 0, 1, 0, 0, 0});
  report("top_k 40", peaked, {1, 40, 1, 0, 0, 0});
  report("top_p 0.95", peaked, {1, 0, 0.95f, 0, 0, 0});
  report("min_p 0.05", peaked, {1, 0, 1, 0.05f, 0, 0});
  report("temperature, flat", flat, {1, 0, 1, 0, 0, 0});
  report("top_p 0.95, flat", flat, {1, 0, 0.95f, 0, 0, 0});
  std::vector<int32_t> ids(20);
  std::vector<float> values(20);
  std::printf("%-8s top 20 %8.1f us, log_sum_exp %8.1f us\n", isa_name(isa),
              best_seconds([&] { top_of_row(ops, peaked.data(), vocab, 20, ids.data(), values.data(), workspace); }, 0.1) * 1e6,
              best_seconds([&] { ops.log_sum_exp(peaked.data(), vocab); }, 0.1) * 1e6);
  std::free(workspace);
}

}  // namespace

// Arguments: what to time (rows, sampling; default all), then a level (default the highest).
int main(int count, char** arguments) {
  const FloatMode mode;
  const std::string what = count > 1 ? arguments[1] : "all";
  for (Isa isa : machine_levels()) {
    if (count > 2 ? isa_name(isa) != std::string(arguments[2]) : isa != detect_machine()) continue;
    if (what == "rows" || what == "all") bench_rows(isa);
    if (what == "sampling" || what == "all") bench_sampling(isa);
  }
}
