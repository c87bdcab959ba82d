// Sampling against the definition of sampling.h written out plainly (full sorts, float64), on every level: each token
// must be the same; log-sum-exp and the n largest.

#include "ops/sampling.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "grid.h"
#include "ops_check.h"

using namespace octavo;
using namespace octavo::test;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

uint64_t mix(uint64_t z) { return Random{z}.next(); }

double noise(uint64_t seed, int32_t position, int64_t token) {
  const uint64_t h = mix(mix(seed) ^ mix(uint64_t(position) * 0x9E3779B97F4A7C15u + uint64_t(token)));
  return -std::log(-std::log((double(h >> 40) + 0.5) / 16777216.0));
}

std::vector<int64_t> descending(const std::vector<float>& z) {
  std::vector<int64_t> order(z.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) { return z[size_t(a)] > z[size_t(b)]; });
  return order;
}

int64_t plain_sample(const std::vector<float>& logits, const SampleControls& controls) {
  if (controls.temperature == 0) return std::max_element(logits.begin(), logits.end()) - logits.begin();
  std::vector<float> z;
  for (float x : logits) z.push_back(x / controls.temperature);
  const auto drop = [&](auto keep) {
    for (float& x : z)
      if (!keep(x)) x = -infinity;
  };
  const float most = *std::max_element(z.begin(), z.end());
  if (controls.min_p > 0) drop([&](float x) { return x - most >= float(std::log(double(controls.min_p))); });
  if (controls.top_k > 0 && controls.top_k < int64_t(z.size())) {
    std::vector<float> sorted = z;
    std::sort(sorted.rbegin(), sorted.rend());
    const float least = sorted[size_t(controls.top_k - 1)];
    drop([&](float x) { return x >= least; });
  }
  if (controls.top_p < 1) {
    const std::vector<int64_t> order = descending(z);
    double total = 0, sum = 0;
    for (int64_t i : order) total += std::exp(double(z[size_t(i)] - most));
    size_t kept = 0;
    while (kept < order.size() && sum < double(controls.top_p) * total)
      sum += std::exp(double(z[size_t(order[kept++])] - most));
    for (size_t i = std::max<size_t>(kept, 1); i < order.size(); i++) z[size_t(order[i])] = -infinity;
  }
  int64_t best = 0;
  double top = -INFINITY;
  for (size_t i = 0; i < z.size(); i++) {
    if (z[i] == -infinity) continue;
    const double value = double(z[i]) + noise(controls.seed, controls.position, int64_t(i));
    if (value <= top) continue;
    top = value;
    best = int64_t(i);
  }
  return best;
}

struct Workspace {
  std::vector<uint8_t> bytes;
  explicit Workspace(int64_t vocab) : bytes(sample_workspace_bytes(vocab) + 64, 0xff) {}
  void* at() { return bytes.data() + (64 - reinterpret_cast<uintptr_t>(bytes.data()) % 64) % 64; }
};

std::vector<float> make_logits(Random& random, int64_t vocab, int kind) {
  std::vector<float> x = random.normals(size_t(vocab), 3);
  if (kind == 1)  // a language model's: few likely tokens
    for (int i = 0; i < 20; i++) x[size_t(random.below(vocab))] += 10 * float(random.uniform());
  if (kind == 2)  // many ties
    for (float& v : x) v = std::round(v);
  if (kind == 3)  // a grammar: most are not allowed
    for (size_t i = 0; i < x.size(); i++)
      if (i != 5 % x.size() && random.below(50) != 0) x[i] = -infinity;
  if (kind == 4)
    for (float& v : x) v = 1.5f;
  if (kind == 5)  // far from zero
    for (float& v : x) v = v * 20 - 1000;
  return x;
}

void test_draws(Isa isa) {
  const OpKernels& ops = op_kernels(isa);
  Random random{11};
  int64_t checked = 0;
  for (int64_t vocab : {1, 2, 15, 16, 17, 100, 1000, 1025, 5000, 40000})
    for (int kind = 0; kind < 6; kind++)
      for (int round = 0; round < (vocab > 5000 || small_grid() ? 6 : 24); round++) {
        const std::vector<float> logits = make_logits(random, vocab, kind);
        const auto pick = [&](std::vector<float> values) { return values[size_t(random.below(int64_t(values.size())))]; };
        SampleControls controls{pick({0, 0.3f, 1, 1, 1.7f, 100}), int32_t(pick({0, 0, 1, 2, 40, 900, 100000})),
                                pick({1, 1, 0.999f, 0.95f, 0.5f, 1e-6f}), pick({0, 0, 0, 0.05f, 0.5f, 1, 1e-6f}),
                                random.next(), int32_t(random.below(1 << 20))};
        Workspace workspace(vocab);
        const int32_t got = sample_row(ops, logits.data(), vocab, controls, workspace.at());
        const int64_t want = plain_sample(logits, controls);
        checked++;
        if (got != want)
          fail("%s vocab %ld kind %d temperature %g top_k %d top_p %g min_p %g: %d, expected %ld", isa_name(isa),
               long(vocab), kind, double(controls.temperature), controls.top_k, double(controls.top_p),
               double(controls.min_p), got, long(want));
      }
  if (checked < 300) fail("only %ld draws", long(checked));
}

// Draws of one row over positions follow the softmax: chi-square over 8 tokens with 7 degrees of freedom.
void test_distribution() {
  const OpKernels& ops = op_kernels(detect_machine());
  const std::vector<float> logits = {1.0f, 0.0f, -1.0f, 2.0f, 0.5f, 1.5f, -0.5f, 0.2f};
  double total = 0;
  for (float x : logits) total += std::exp(double(x));
  const int draws = 20000;
  std::vector<int> counts(8);
  Workspace workspace(8);
  for (int i = 0; i < draws; i++) counts[size_t(sample_row(ops, logits.data(), 8, {1, 0, 1, 0, 42, i}, workspace.at()))]++;
  double chi = 0;
  for (size_t i = 0; i < 8; i++) {
    const double mean = draws * std::exp(double(logits[i])) / total;
    chi += (counts[i] - mean) * (counts[i] - mean) / mean;
  }
  if (chi > 24.3) fail("chi-square %g over 7 degrees of freedom", chi);  // p = 0.001
}

void test_rows(Isa isa) {
  const OpKernels& ops = op_kernels(isa);
  Random random{5};
  for (int64_t vocab : {1, 2, 16, 33, 1000, 5000, 40000})
    for (int kind = 0; kind < 6; kind++) {
      const std::vector<float> logits = make_logits(random, vocab, kind);
      const double most = *std::max_element(logits.begin(), logits.end());
      double sum = 0;
      for (float x : logits) sum += std::exp(x - most);
      check_near({float(ops.log_sum_exp(logits.data(), vocab))}, {most + std::log(sum)}, 5e-7, "log_sum_exp");
      const std::vector<int64_t> order = descending(logits);
      if (ops.argmax(logits.data(), vocab) != order[0]) fail("argmax");
      for (int64_t n : {int64_t(1), int64_t(5), int64_t(20), vocab}) {
        Workspace workspace(vocab);
        std::vector<int32_t> ids(static_cast<size_t>(n), -1);
        std::vector<float> values(ids.size());
        const int64_t got = top_of_row(ops, logits.data(), vocab, n, ids.data(), values.data(), workspace.at());
        if (got != std::min(n, vocab)) fail("top_of_row gave %ld of %ld", long(got), long(n));
        for (int64_t i = 0; i < got; i++)
          if (ids[size_t(i)] != order[size_t(i)] || values[size_t(i)] != logits[size_t(order[size_t(i)])])
            return fail("%s top %ld of %ld kind %d: [%ld] is %d, expected %ld", isa_name(isa), long(n), long(vocab), kind,
                        long(i), ids[size_t(i)], long(order[size_t(i)]));
      }
      const float x = logits[size_t(random.below(vocab))];
      if (ops.count_greater(logits.data(), vocab, x) !=
          std::count_if(logits.begin(), logits.end(), [x](float y) { return y > x; }))
        fail("count_greater");
    }
  const std::vector<float> nothing(40, -infinity);
  if (ops.log_sum_exp(nothing.data(), 40) != -infinity) fail("log_sum_exp of nothing");
  for (float temperature : {0.0f, 1.0f})
    for (int32_t at : {0, 7, 16, 31, 39}) {
      std::vector<float> broken(40, -infinity);
      broken[3] = 1;
      broken[size_t(at)] = broken[39] = NAN;
      Workspace workspace(40);
      const int32_t got = sample_row(ops, broken.data(), 40, {temperature, 3, 0.9f, 0.1f, 1, 1}, workspace.at());
      if (got != at) fail("%s: the first NaN is %d, not %d", isa_name(isa), at, got);
    }
}

}  // namespace

int main() {
  for (Isa isa : op_levels()) {
    test_draws(isa);
    test_rows(isa);
  }
  test_distribution();
  return finish("sampling_test");
}
