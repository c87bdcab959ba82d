// Times the linear kernels: streams of matrices larger than every cache, by format and number of rows.
//   linear_bench [threads=2] [N=2048] [K=2048] [formats, comma-separated] [rows, comma-separated] [level] [runs=5] [MB=192]
// Prints the median and the best of the runs in Gop/s (2 N K rows) and GB/s of packed weights, and the best by processor
// time of the busiest thread (what a machine without other load would do). Not a test: asserts nothing.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "../linear/linear.h"
#include "bench.h"
#include "file_reference.h"

using namespace octavo;
using namespace octavo::test;

namespace {

double seconds_of(const auto& body) {
  const auto start = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void bench(const LinearKernels& kernels, Format format, int64_t n, int64_t k, const std::vector<int64_t>& row_counts,
           int threads, int runs, size_t megabytes) {
  const size_t bytes = packed_bytes(format, n, k);
  const int64_t matrices = std::max<int64_t>(1, int64_t(megabytes << 20) / int64_t(bytes));
  const std::vector<uint8_t> file = random_file(format, n, k, 1);
  uint8_t* memory = huge(bytes * size_t(matrices));
  const double pack_seconds = seconds_of([&] {
    pack(format, n, k, file.data(), row_bytes(format, k), nullptr, memory, 0, group_count(n));
  });
  for (int64_t i = 1; i < matrices; i++) std::memcpy(memory + size_t(i) * bytes, memory, bytes);
  std::printf("%-5s N %lld K %lld x %lld, pack %.2f GB/s (one thread, first touch)\n", format_name(format),
              (long long)n, (long long)k, (long long)matrices, double(bytes) / pack_seconds / 1e9);
  const ActKind kind = act_kind(format);
  const size_t stride = act_bytes(kind, k);
  uint8_t* scratch = huge(scratch_bytes(format, k) * size_t(threads) + 64);
  for (int64_t rows : row_counts) {
    const std::vector<float> x = random_activations(rows, k);
    uint8_t* act = huge(stride * size_t(rows));
    float* out = reinterpret_cast<float*>(huge(size_t(rows * n) * 4));
    kernels.quantize(kind, x.data(), k, rows, k, act);
    const double quantize_seconds = seconds_of([&] { kernels.quantize(kind, x.data(), k, rows, k, act); });
    const int64_t groups = group_count(n);
    const int64_t used = std::max<int64_t>(1, std::min(matrices, 3000000000 / (n * k / 64 * rows)));
    std::vector<double> processor(size_t(threads), 0.0);
    const auto part = [&](int thread) {
      const double begin = processor_now();
      uint8_t* own = scratch + scratch_bytes(format, k) * size_t(thread);
      for (int64_t i = 0; i < used; i++)
        kernels.multiply({{format, n, k, memory + size_t(i) * bytes}, act, stride, rows, out, n,
                          groups * thread / threads, groups * (thread + 1) / threads, Epilogue::store, own});
      processor[size_t(thread)] = processor_now() - begin;
    };
    std::vector<double> times;
    double busy = 1e9;
    for (int run = 0; run < runs; run++) {
      times.push_back(seconds_of([&] {
        std::vector<std::thread> others;
        for (int t = 1; t < threads; t++) others.emplace_back(part, t);
        part(0);
        for (std::thread& other : others) other.join();
      }));
      busy = std::min(busy, *std::max_element(processor.begin(), processor.end()));
    }
    std::sort(times.begin(), times.end());
    const double ops = 2.0 * double(n * k * rows * used), read = double(bytes) * double(used);
    std::printf("  rows %4lld", (long long)rows);
    const std::pair<const char*, double> kinds[] = {{"median", times[times.size() / 2]}, {"best", times[0]}, {"cpu", busy}};
    for (const auto& [what, s] : kinds) std::printf("   %s %6.1f Gop/s %5.1f GB/s", what, ops / s / 1e9, read / s / 1e9);
    std::printf("   quantize %.1f GB/s\n", double(rows * k) * 4 / quantize_seconds / 1e9);
    std::fflush(stdout);
    munmap(out, size_t(rows * n) * 4);
    munmap(act, stride * size_t(rows));
  }
  munmap(memory, bytes * size_t(matrices));
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, const char* otherwise) { return std::string(argc > i ? argv[i] : otherwise); };
  const int threads = std::stoi(argument(1, "2"));
  const int64_t n = std::stoll(argument(2, "2048")), k = std::stoll(argument(3, "2048"));
  const std::vector<std::string> formats = split(argument(4, "Q8_0,Q4_0,Q4_K,Q6_K,BF16"));
  std::vector<int64_t> rows;
  for (const std::string& r : split(argument(5, "1,2,4,8,16,32,64,512"))) rows.push_back(std::stoll(r));
  Isa isa = detect();
  if (!argument(6, "").empty()) isa = isa_named(argument(6, "").c_str());
  std::printf("level %s, %d threads\n", isa_name(isa), threads);
  for (const std::string& name : formats)
    for (Format format : all_formats)
      if (name == format_name(format)) bench(linear_kernels(isa), format, n, k, rows, threads, std::stoi(argument(7, "5")),
                                             size_t(std::stoi(argument(8, "192"))));
}
