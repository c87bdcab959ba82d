// What the tests of csrc/ops share: random numbers, comparisons, the levels to test, the count of failures.
#pragma once

#include <cmath>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "ops/ops.h"

namespace octavo::test {

struct Random {
  uint64_t state;
  uint64_t next() {
    state += 0x9E3779B97F4A7C15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  double uniform() { return (double(next() >> 11) + 0.5) * 0x1p-53; }
  float normal() { return float(std::sqrt(-2 * std::log(uniform())) * std::cos(6.283185307179586 * uniform())); }
  int64_t below(int64_t n) { return int64_t(next() % uint64_t(n)); }
  std::vector<float> normals(size_t n, float scale = 1) {
    std::vector<float> x(n);
    for (float& v : x) v = normal() * scale;
    return x;
  }
};

inline int failures = 0;

inline void fail(const char* format, ...) {
  if (++failures > 40) return;
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("\n");
}

inline void check_near(const std::vector<float>& got, const std::vector<double>& want, double tolerance,
                       const std::string& what) {
  for (size_t i = 0; i < want.size(); i++) {
    if (std::fabs(got[i] - want[i]) <= tolerance * (1 + std::fabs(want[i]))) continue;
    return fail("%s: [%zu] is %.9g, expected %.9g", what.c_str(), i, double(got[i]), want[i]);
  }
}

template <class T>
void check_same_bits(const std::vector<T>& a, const std::vector<T>& b, const std::string& what) {
  if (a.size() != b.size()) return fail("%s: %zu and %zu values", what.c_str(), a.size(), b.size());
  for (size_t i = 0; i < a.size(); i++)
    if (std::memcmp(&a[i], &b[i], sizeof(T)) != 0)
      return fail("%s: [%zu] differs: %.9g and %.9g", what.c_str(), i, double(a[i]), double(b[i]));
}

// One level of this machine for each table of kernels.
inline std::vector<Isa> op_levels() {
  std::vector<Isa> different;
  for (Isa isa : machine_levels())
    if (different.empty() || &op_kernels(isa) != &op_kernels(different.back())) different.push_back(isa);
  return different;
}

inline int finish(const char* name) {
  if (failures) std::printf("%s: %d failures\n", name, failures);
  else std::printf("%s: ok (%s)\n", name, isa_name(detect_machine()));
  return failures != 0;
}

}  // namespace octavo::test
