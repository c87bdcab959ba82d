// Sampling of one row: vector passes find thresholds, only what lies around a cut is ever sorted.

#include "sampling.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace octavo {

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();
constexpr int64_t small_set = 1024;     // candidates that are cheaper to take one by one
constexpr int64_t sorted_range = 1024;  // bisection stops when so few values lie around the cut

struct Row {
  const OpKernels& kernels;
  int64_t n;
  float* z;      // scaled logits, without NaN
  float* mass;   // scratch of n floats: exp(z - max), or copies
  int32_t* ids;  // scratch of n
};

uint64_t mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

double gumbel(uint64_t row_key, int32_t position, int64_t token) {
  const uint64_t h = mix(row_key ^ mix(uint64_t(int64_t(position)) * 0x9E3779B97F4A7C15u + uint64_t(token)));
  const double u = (double(h >> 40) + 0.5) * 0x1p-24;
  return -std::log(-std::log(u));
}

size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

Row divide_workspace(const OpKernels& kernels, int64_t n, void* workspace) {
  auto* at = static_cast<uint8_t*>(workspace);
  const size_t step = aligned(size_t(n) * 4);
  return {kernels, n, reinterpret_cast<float*>(at), reinterpret_cast<float*>(at + step),
          reinterpret_cast<int32_t*>(at + 2 * step)};
}

// The k-th largest of z, 0 < k <= n. The k-th largest of the maxima of small blocks is a lower bound that leaves few
// values to look at.
float kth_largest(const Row& row, int64_t k) {
  const auto nth = [&](int64_t count) {
    std::nth_element(row.mass, row.mass + k - 1, row.mass + count, std::greater<float>());
    return row.mass[k - 1];
  };
  const int64_t block = row.n / (8 * k);
  if (block < 8) {
    std::copy(row.z, row.z + row.n, row.mass);
    return nth(row.n);
  }
  row.kernels.block_max(row.z, row.n, block, row.mass);
  const float bound = nth((row.n + block - 1) / block);
  const int64_t found = row.kernels.select_between(row.z, row.n, bound, infinity, row.ids);
  for (int64_t i = 0; i < found; i++) row.mass[i] = row.z[row.ids[i]];
  return nth(found);
}

// The least z with z - maximum >= log(min_p) in float32: found among the floats by their order as integers.
float min_p_threshold(float maximum, float min_p) {
  const float wanted = float(std::log(double(min_p)));
  const auto to_float = [](int64_t key) { return std::bit_cast<float>(int32_t(key >= 0 ? key : -0x80000000ll - key)); };
  const auto to_key = [](float x) {
    const int64_t bits = std::bit_cast<int32_t>(x);
    return bits >= 0 ? bits : -0x80000000ll - bits;
  };
  int64_t high = to_key(maximum), low = to_key(-infinity);  // high is kept, low is not
  while (high - low > 1) {
    const int64_t middle = (high + low) / 2;
    (to_float(middle) - maximum >= wanted ? high : low) = middle;
  }
  return to_float(high);
}

struct Cut {
  float value;  // kept: z > value, or z == value and id <= id
  int64_t id;
};

void sort_ids(const float* z, int32_t* ids, int64_t count) {
  std::sort(ids, ids + count, [z](int32_t a, int32_t b) { return z[a] > z[b] || (z[a] == z[b] && a < b); });
}

// `nucleus` where few values are left (after top-k, mostly): nothing but them is looked at.
Cut small_nucleus(const Row& row, float maximum, float threshold, float top_p) {
  const int64_t count = row.kernels.select_between(row.z, row.n, threshold, infinity, row.ids);
  sort_ids(row.z, row.ids, count);
  for (int64_t i = 0; i < count; i++) row.mass[i] = row.z[row.ids[i]];
  row.kernels.exp_minus(row.mass, maximum, row.mass, count);
  double total = 0, sum = 0;
  for (int64_t i = 0; i < count; i++) total += double(row.mass[i]);
  const double target = double(top_p) * total;
  int64_t last = 0;
  for (; last < count - 1; last++)
    if ((sum += double(row.mass[last])) >= target) break;
  return {row.z[row.ids[last]], row.ids[last]};
}

// The shortest prefix, in descending order, of z >= threshold whose mass is at least top_p of the whole.
Cut nucleus(const Row& row, float maximum, float threshold, float top_p) {
  const OpKernels& kernels = row.kernels;
  if (threshold > -infinity && kernels.count_at_least(row.z, row.n, threshold) <= sorted_range)
    return small_nucleus(row, maximum, threshold, top_p);
  kernels.exp_minus(row.z, maximum, row.mass, row.n);
  const double target = double(top_p) * kernels.mass_at_least(row.z, row.mass, row.n, threshold);
  // The cut lies in [low, high): the mass from low on reaches the target, that from high on does not.
  float low = std::max(threshold, maximum - 88.0f), high = infinity;
  int64_t inside = kernels.count_at_least(row.z, row.n, low), above = 0;
  while (inside - above > sorted_range) {
    const float top = std::min(high, maximum);
    const float middle = low + (top - low) * 0.5f;
    if (!(middle > low && middle < high)) break;  // many equal values
    const bool reached = kernels.mass_at_least(row.z, row.mass, row.n, middle) >= target;
    (reached ? inside : above) = kernels.count_at_least(row.z, row.n, middle);
    (reached ? low : high) = middle;
  }
  double sum = above > 0 ? kernels.mass_at_least(row.z, row.mass, row.n, high) : 0.0;
  const float last = high == infinity ? infinity : std::nextafter(high, -infinity);
  const int64_t count = kernels.select_between(row.z, row.n, low, last, row.ids);
  sort_ids(row.z, row.ids, count);
  for (int64_t i = 0; i < count; i++) {
    sum += double(row.mass[row.ids[i]]);
    if (sum >= target || i == count - 1) return {row.z[row.ids[i]], row.ids[i]};
  }
  return {low, row.n};
}

// Gumbel-max over what the cut keeps; `first` is the first maximum of z.
int32_t draw(const Row& row, const Cut& cut, int64_t first, uint64_t seed, int32_t position) {
  const uint64_t key = mix(seed);
  int64_t chosen = first;
  double best = double(row.z[first]) + gumbel(key, position, first);
  const auto consider = [&](int64_t id) {
    const float z = row.z[id];
    if (z == cut.value && id > cut.id) return;
    const double value = double(z) + gumbel(key, position, id);
    if (value > best || (value == best && id < chosen)) {
      best = value;
      chosen = id;
    }
  };
  const float least = std::max(cut.value, std::numeric_limits<float>::lowest());
  if (row.kernels.count_at_least(row.z, row.n, least) <= small_set) {
    const int64_t count = row.kernels.select_between(row.z, row.n, least, infinity, row.ids);
    for (int64_t i = 0; i < count; i++) consider(row.ids[i]);
    return int32_t(chosen);
  }
  for (int64_t start = 0; start < row.n; start += small_set) {
    float below = float(best);
    if (double(below) > best) below = std::nextafter(below, -infinity);
    const int64_t length = std::min(small_set, row.n - start);
    const int64_t count = row.kernels.gumbel_candidates(row.z + start, length, start, key, position, least, below,
                                                        row.ids);
    for (int64_t i = 0; i < count; i++) consider(start + row.ids[i]);
  }
  return int32_t(chosen);
}

}  // namespace

size_t sample_workspace_bytes(int64_t vocab) { return 3 * aligned(size_t(vocab) * 4); }

int32_t sample_row(const OpKernels& kernels, const float* logits, int64_t vocab, const SampleControls& controls,
                   void* workspace) {
  if (controls.temperature <= 0) return int32_t(kernels.argmax(logits, vocab));
  const Row row = divide_workspace(kernels, vocab, workspace);
  if (kernels.divide(logits, controls.temperature, row.z, vocab)) return int32_t(kernels.argmax(logits, vocab));
  const int64_t first = kernels.argmax(row.z, vocab);
  const float maximum = row.z[first];
  Cut cut{-infinity, vocab};
  if (controls.min_p > 0) cut.value = min_p_threshold(maximum, controls.min_p);
  if (controls.top_k > 0 && controls.top_k < vocab) cut.value = std::max(cut.value, kth_largest(row, controls.top_k));
  if (controls.top_p < 1) cut = nucleus(row, maximum, cut.value, controls.top_p);
  return draw(row, cut, first, controls.seed, controls.position);
}

int64_t top_of_row(const OpKernels& kernels, const float* logits, int64_t vocab, int64_t n, int32_t* ids,
                   float* values, void* workspace) {
  n = std::min(n, vocab);
  if (n <= 0) return 0;
  const Row row = divide_workspace(kernels, vocab, workspace);
  kernels.divide(logits, 1.0f, row.z, vocab);
  const float least = kth_largest(row, n);
  int64_t count = kernels.select_between(row.z, vocab, least, infinity, row.ids);
  if (count > 2 * n + small_set) {  // many equal to the last: the lowest ids win
    const int64_t above = kernels.select_between(row.z, vocab, std::nextafter(least, infinity), infinity, row.ids);
    int64_t kept = above;
    for (int64_t i = 0; kept < n; i++)
      if (row.z[i] == least) row.ids[kept++] = int32_t(i);
    count = kept;
  }
  sort_ids(row.z, row.ids, count);
  for (int64_t i = 0; i < n; i++) {
    ids[i] = row.ids[i];
    values[i] = row.z[row.ids[i]];
  }
  return n;
}

}  // namespace octavo
