// Times all products of a model in the order of a step, cut into chunks between borders as the program does, beside the
// limits of the machine measured in the same run over the same memory.
//   linear_walk [135m | 1b] [formats, comma-separated] [rows, comma-separated] [level] [runs=5] [threads=2]
// Per format and number of rows: milliseconds of the layers and of the head (prompts, 128 rows on: of one row) by the
// clock, and by processor time (without what other programs and waiting cost); tokens per second, GB/s of packed
// weights, Gop/s, and the fraction of the limit max(bytes / bandwidth, operations / peak). Of the 1b shape 4 of 16
// layers are walked and counted four times. Not a test: asserts nothing.
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <atomic>
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

struct Shape {
  const char* name;
  int64_t hidden, mlp, kv, vocab, layers, walked;
};
constexpr Shape shapes[] = {{"135m", 576, 1536, 192, 49152, 30, 30}, {"1b", 2048, 8192, 512, 128256, 16, 4}};

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Threads in step: everyone calls wait() and goes on when all have.
class Border {
 public:
  explicit Border(int threads) : threads_(threads) {}
  void wait() {
    const int turn = turn_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == threads_) {
      arrived_.store(0, std::memory_order_relaxed);
      turn_.store(turn + 1, std::memory_order_release);
    } else {
      while (turn_.load(std::memory_order_acquire) == turn) {}
    }
  }

 private:
  const int threads_;
  std::atomic<int> arrived_{0}, turn_{0};
};

template <class Body> double time_team(int threads, const Body& body) {
  Border border(threads);
  double begin = 0, end = 0;
  const auto part = [&](int t) {
    border.wait();
    if (t == 0) begin = now();
    body(t, border);
    border.wait();
    if (t == 0) end = now();
  };
  std::vector<std::thread> others;
  for (int t = 1; t < threads; t++) others.emplace_back(part, t);
  part(0);
  for (std::thread& other : others) other.join();
  return end - begin;
}

// ---- Limits

#if defined(__x86_64__)
// Loops of one instruction over twelve registers, which neither memory nor dependencies hold up.
constexpr int64_t peak_rounds = 1000000;
#define OCTAVO_LOOP(op, r)                                                                                            \
  asm volatile("1:\n" op r "13, " r "13, " r "0\n" op r "13, " r "13, " r "1\n" op r "13, " r "13, " r "2\n"           \
               op r "13, " r "13, " r "3\n" op r "13, " r "13, " r "4\n" op r "13, " r "13, " r "5\n"                  \
               op r "13, " r "13, " r "6\n" op r "13, " r "13, " r "7\n" op r "13, " r "13, " r "8\n"                  \
               op r "13, " r "13, " r "9\n" op r "13, " r "13, " r "10\n" op r "13, " r "13, " r "11\ndec %0\njnz 1b"  \
               : "+r"(rounds) : : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",     \
                 "xmm10", "xmm11", "cc")

void peak_loop(ActKind kind) {
  int64_t rounds = peak_rounds;
  asm volatile("vpxor %%xmm13, %%xmm13, %%xmm13" : : : "xmm13");
  if (kind == ActKind::q8 && detect_machine() >= Isa::avx512) OCTAVO_LOOP("vpdpbusd ", "%%zmm");
  else if (kind == ActKind::bf16 && detect_machine() >= Isa::avx512_bf16) OCTAVO_LOOP("vdpbf16ps ", "%%zmm");
  else OCTAVO_LOOP("vfmadd231ps ", "%%ymm");
}

__attribute__((target("avx2"))) uint64_t read_streams(const uint8_t* from, size_t bytes) {
  constexpr int streams = 4;
  const size_t part = bytes / streams / 256 * 256;
  __m256i acc[streams] = {};
  for (size_t i = 0; i < part; i += 128)
#pragma GCC unroll 4
    for (int s = 0; s < streams; s++) {
      const __m256i* p = reinterpret_cast<const __m256i*>(from + size_t(s) * part + i);
      const __m256i low = _mm256_xor_si256(_mm256_load_si256(p), _mm256_load_si256(p + 1));
      const __m256i high = _mm256_xor_si256(_mm256_load_si256(p + 2), _mm256_load_si256(p + 3));
      acc[s] = _mm256_xor_si256(acc[s], _mm256_xor_si256(low, high));
    }
  __m256i sum = acc[0];
  for (int s = 1; s < streams; s++) sum = _mm256_xor_si256(sum, acc[s]);
  return uint64_t(_mm256_extract_epi64(sum, 0));
}
#endif

volatile uint64_t sink_bits;

// Gop/s of products of a format's kind, nothing else, from registers.
double peak(ActKind kind, int threads) {
#if defined(__x86_64__)
  const bool int8 = kind == ActKind::q8 && detect_machine() >= Isa::avx512;
  const bool bf16 = kind == ActKind::bf16 && detect_machine() >= Isa::avx512_bf16;
  double best = 1e9;
  for (int run = 0; run < 5; run++)
    time_team(threads, [&](int t, Border&) {
      const double begin = processor_now();
      peak_loop(kind);
      if (t == 0) best = std::min(best, processor_now() - begin);
    });
  const double ops = 12 * (int8 ? 128 : bf16 ? 64 : 16);
  return ops * double(peak_rounds) * threads / best / 1e9;
#else
  (void)kind, (void)threads;
  return 0;
#endif
}

double read_rate(const uint8_t* from, size_t bytes, int threads) {
#if defined(__x86_64__)
  const size_t piece = size_t(256) << 10;
  const double s = time_team(threads, [&](int t, Border&) {
    uint64_t sum = 0;
    for (size_t at = piece * size_t(t); at + piece <= bytes; at += piece * size_t(threads))
      sum ^= read_streams(from + at, piece);
    sink_bits = sum;
  });
  return double(bytes) / s / 1e9;
#else
  (void)from, (void)bytes, (void)threads;
  return 0;
#endif
}

// ---- The walk

struct Stage {
  std::vector<PackedWeight> weights;  // products of the same rows
  bool is_head = false;
};

struct Model {
  std::vector<Stage> stages;
  const uint8_t* memory = nullptr;
  size_t bytes = 0, layer_bytes = 0, head_bytes = 0;  // bytes: all of the memory
  double layer_macs = 0, head_macs = 0;
};

Model build(Format format, const Shape& s) {
  struct Size { int64_t n, k; };
  const std::vector<std::vector<Size>> layer = {{{s.hidden, s.hidden}, {s.kv, s.hidden}, {s.kv, s.hidden}},
                                                {{s.hidden, s.hidden}},
                                                {{s.mlp, s.hidden}, {s.mlp, s.hidden}},
                                                {{s.hidden, s.mlp}}};
  Model m;
  for (const auto& stage : layer)
    for (const Size& z : stage) m.layer_bytes += packed_bytes(format, z.n, z.k), m.layer_macs += double(z.n * z.k);
  m.head_bytes = packed_bytes(format, s.vocab, s.hidden);
  m.head_macs = double(s.vocab * s.hidden);
  m.bytes = m.layer_bytes * size_t(s.walked) + m.head_bytes;
  uint8_t* to = huge(m.bytes);
  m.memory = to;
  const auto place = [&](Size z) {
    const int64_t few = std::min<int64_t>(z.n, 256);
    const std::vector<uint8_t> file = random_file(format, few, z.k, 1);
    std::vector<int64_t> index(static_cast<size_t>(z.n));
    for (int64_t i = 0; i < z.n; i++) index[size_t(i)] = i % few;
    pack(format, z.n, z.k, file.data(), row_bytes(format, z.k), index.data(), to, 0, group_count(z.n));
    const PackedWeight w{format, z.n, z.k, to};
    to += packed_bytes(format, z.n, z.k);
    return w;
  };
  for (int64_t l = 0; l < s.walked; l++)
    for (const auto& sizes : layer) {
      Stage stage;
      for (const Size& z : sizes) stage.weights.push_back(place(z));
      m.stages.push_back(stage);
    }
  m.stages.push_back({{place({s.vocab, s.hidden})}, true});
  return m;
}

// Chunks by cost, of several groups each. The program (csrc/program/stages.cpp) cuts equal shares for its team instead.
struct Chunk { size_t weight; int64_t row, rows, begin, end; };

std::vector<Chunk> cut(const Stage& stage, int64_t rows, int threads) {
  const auto group_ns = [&](const PackedWeight& w, int64_t r) {
    const double rate = act_kind(w.format) == ActKind::q8 ? 150 : act_kind(w.format) == ActKind::bf16 ? 60 : 25;
    return std::max(double(group_bytes(w.format, w.k)) / 15, double(r * w.k * lanes) / rate);
  };
  double total = 0;
  for (const PackedWeight& w : stage.weights) total += group_ns(w, rows) * double(group_count(w.n));
  const double wanted = std::clamp(total / (4 * threads), 2e3, 40e3);
  std::vector<Chunk> out;
  for (size_t i = 0; i < stage.weights.size(); i++) {
    const PackedWeight& w = stage.weights[i];
    int64_t tile = std::min<int64_t>(rows, 256);
    while (tile > 64 && group_ns(w, tile) > wanted) tile = (tile + 1) / 2;
    int64_t grain = int64_t(wanted / group_ns(w, tile));
    if (grain > 4) grain -= grain % 4;
    else if (rows <= 4) grain = 4;
    grain = std::clamp<int64_t>(grain, 1, group_count(w.n));
    for (int64_t row = 0; row < rows; row += tile)
      for (int64_t g = 0; g < group_count(w.n); g += grain)
        out.push_back({i, row, std::min(tile, rows - row), g, std::min(g + grain, group_count(w.n))});
  }
  return out;
}

struct Buffers {
  size_t stride;
  uint8_t* act;
  float* out;
  std::vector<uint8_t*> scratch;
};

struct Seconds { double wall, processor; };

// processor: time on a processor inside the products, by thread; what a machine without other load would take.
Seconds walk(const LinearKernels& kernels, const Model& m, const Buffers& b, int64_t rows, int threads, bool head) {
  std::vector<const Stage*> stages;
  std::vector<std::vector<Chunk>> chunks;
  for (const Stage& stage : m.stages)
    if (stage.is_head == head) stages.push_back(&stage), chunks.push_back(cut(stage, rows, threads));
  std::vector<std::atomic<size_t>> next(stages.size());
  for (auto& n : next) n = 0;
  std::vector<double> processor(size_t(threads), 0.0);
  const double wall = time_team(threads, [&](int t, Border& border) {
    double own = 0;
    for (size_t i = 0; i < stages.size(); i++) {
      const double begin = processor_now();
      for (size_t c; (c = next[i].fetch_add(1, std::memory_order_relaxed)) < chunks[i].size();) {
        const Chunk& chunk = chunks[i][c];
        const PackedWeight& w = stages[i]->weights[chunk.weight];
        const bool more = c + size_t(threads) < chunks[i].size();
        const Stage* then = more ? stages[i] : i + 1 < stages.size() ? stages[i + 1] : nullptr;
        const size_t place = more ? c + size_t(threads) : c + size_t(threads) - chunks[i].size();
        const bool known = then != nullptr && place < chunks[more ? i : i + 1].size();
        const Chunk* other = known ? &chunks[more ? i : i + 1][place] : nullptr;
        const PackedWeight* soon = known ? &then->weights[other->weight] : nullptr;
        kernels.multiply({w, b.act + size_t(chunk.row) * b.stride, b.stride, chunk.rows, b.out + chunk.row * w.n, w.n,
                          chunk.begin, chunk.end, Epilogue::store, b.scratch[size_t(t)],
                          soon ? soon->data + size_t(other->begin) * group_bytes(soon->format, soon->k) : nullptr});
      }
      own += processor_now() - begin;
      border.wait();
    }
    processor[size_t(t)] = own;
  });
  double sum = 0;
  for (double s : processor) sum += s;
  return {wall, sum / threads};
}

double median(std::vector<double> v) {
  std::sort(v.begin(), v.end());
  return v[v.size() / 2];
}

void bench(const LinearKernels& kernels, Format format, const Shape& s, const std::vector<int64_t>& row_counts,
           int runs, int threads) {
  const Model m = build(format, s);
  const ActKind kind = act_kind(format);
  const int64_t widest = std::max(s.hidden, s.mlp), most = *std::max_element(row_counts.begin(), row_counts.end());
  Buffers b;
  b.stride = act_bytes(kind, widest);
  b.act = huge(b.stride * size_t(most));
  const std::vector<float> x = random_activations(most, widest);
  kernels.quantize(kind, x.data(), widest, most, widest, b.act);
  b.out = reinterpret_cast<float*>(huge(size_t(std::max(std::min<int64_t>(most, 64) * s.vocab, most * s.mlp)) * 4));
  for (int t = 0; t < threads; t++) b.scratch.push_back(huge(scratch_bytes(format, widest) + 64));
  const double top = peak(kind, threads);
  std::printf("%s %s: %.1f MB a step, peak %.0f Gop/s\n", s.name, format_name(format),
              double(m.layer_bytes * size_t(s.layers) + m.head_bytes) / 1e6, top);
  const double times = double(s.layers) / double(s.walked);
  for (int64_t rows : row_counts) {
    const int64_t head_rows = rows > 64 ? 1 : rows;
    std::vector<double> layers, head, reads, processor;
    for (int run = 0; run < runs; run++) {
      reads.push_back(read_rate(m.memory, m.bytes, threads));
      const Seconds a = walk(kernels, m, b, rows, threads, false), z = walk(kernels, m, b, head_rows, threads, true);
      layers.push_back(a.wall * times);
      head.push_back(z.wall);
      processor.push_back(a.processor * times + z.processor);
    }
    const double bytes = double(m.layer_bytes * size_t(s.layers) + m.head_bytes), rate = median(reads);
    const double ops = 2 * (m.layer_macs * double(s.layers * rows) + m.head_macs * double(head_rows));
    const double wall = median(layers) + median(head), busy = *std::min_element(processor.begin(), processor.end());
    const double limit = std::max(bytes / rate, ops / top) / 1e9;
    std::printf("  rows %4lld  layers %7.2f head %6.2f ms = %3.0f%% of the limit | processor %7.2f ms  %6.0f tok/s  "
                "%5.1f GB/s of %5.1f  %4.0f Gop/s (%2.0f%%) = %3.0f%%\n", (long long)rows, median(layers) * 1e3,
                median(head) * 1e3, 100 * limit / wall, busy * 1e3, double(rows) / busy, bytes / busy / 1e9, rate,
                ops / busy / 1e9, ops / busy / 1e7 / top, 100 * limit / busy);
    std::fflush(stdout);
  }
  munmap(const_cast<uint8_t*>(m.memory), m.bytes);
}

}  // namespace

int main(int argc, char** argv) {
  const auto argument = [&](int i, const char* otherwise) { return std::string(argc > i ? argv[i] : otherwise); };
  std::vector<int64_t> rows;
  for (const std::string& r : split(argument(3, "1,2,4,8,16,32,64,128,512"))) rows.push_back(std::stoll(r));
  Isa isa = detect();
  for (Isa level : {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    if (argument(4, "") == isa_name(level) && level <= detect_machine()) isa = level;
  const int runs = std::stoi(argument(5, "5")), threads = std::stoi(argument(6, "2"));
  std::printf("level %s, %d threads\n", isa_name(isa), threads);
  for (const Shape& shape : shapes)
    if (argument(1, "135m") == shape.name)
      for (const std::string& name : split(argument(2, "Q8_0,Q4_0,Q4_K,Q6_K,BF16")))
        for (Format format : all_formats)
          if (name == format_name(format) && shape.hidden % block_length(format) == 0)
            bench(linear_kernels(isa), format, shape, rows, runs, threads);
}
