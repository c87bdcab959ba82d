// The limit loops over the workers of a pool. See limits.h.
#include "limits/limits.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace octavo {

namespace {

constexpr int64_t kChunk = int64_t{256} << 10;  // what a worker reads at once where there is enough to read
constexpr int64_t kChunksPerWorker = 4;

// Stages of equal chunks: a repeat is a stage, as one kernel after another would be.
struct Repeats final : Job {
  int64_t repeats, num_chunks;
  const std::function<void(int64_t chunk)>& body;
  Repeats(int64_t repeats, int64_t num_chunks, const std::function<void(int64_t)>& body)
      : repeats(repeats), num_chunks(num_chunks), body(body) {}
  int num_stages() const override { return static_cast<int>(repeats); }
  int64_t chunks(int) override { return num_chunks; }
  void work(int, int64_t chunk, int) override { body(chunk); }
};

double seconds_of(Pool& pool, int64_t repeats, int64_t chunks, const std::function<void(int64_t)>& body) {
  Repeats job(repeats, chunks, body);
  const auto begin = std::chrono::steady_clock::now();
  pool.run(job);
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

}  // namespace

Limits::Limits(std::shared_ptr<Pool> pool, Isa isa, int64_t bytes)
    : pool_(std::move(pool)), loops_(limit_loops(isa)), memory_(static_cast<size_t>(bytes)) {
  pool_->parallel(bytes, kChunk, [&](int64_t begin, int64_t end, int) {
    std::memset(memory_.data() + begin, 1, static_cast<size_t>(end - begin));
  });
}

double Limits::read(int64_t bytes, int64_t repeats) { return walk(bytes, repeats, false); }

double Limits::copy(int64_t bytes, int64_t repeats) { return walk(bytes / 2, repeats, true); }

double Limits::walk(int64_t bytes, int64_t repeats, bool copying) {
  const int64_t needed = copying ? 2 * bytes : bytes;
  if (bytes < kLimitLine || needed > static_cast<int64_t>(memory_.bytes()))
    throw std::invalid_argument("the limit loops have another amount of memory");
  if (repeats < 1 || repeats > 1 << 20) throw std::invalid_argument("repeats go from 1 to 1048576");
  bytes = bytes / kLimitLine * kLimitLine;
  const int64_t share = bytes / (kChunksPerWorker * pool_->size()) / kLimitLine * kLimitLine;
  const int64_t chunk = std::clamp(share, kLimitLine, kChunk);
  uint8_t* data = memory_.data();
  return seconds_of(*pool_, repeats, (bytes + chunk - 1) / chunk, [&](int64_t i) {
    const int64_t length = std::min(chunk, bytes - i * chunk);
    if (copying) loops_.copy(data + i * chunk, data + bytes + i * chunk, length);
    else sink_.fetch_add(loops_.read(data + i * chunk, length), std::memory_order_relaxed);
  });
}

double Limits::multiply(Arithmetic arithmetic, int64_t rounds) {
  const auto loop = loops_.multiply[static_cast<int>(arithmetic)];
  if (loop == nullptr) throw std::invalid_argument("this level has no instruction for that arithmetic");
  constexpr int64_t kPieces = 16;
  const int64_t piece = std::max<int64_t>(1, rounds / kPieces);
  return seconds_of(*pool_, 1, kPieces * pool_->size(), [&](int64_t) {
    sink_.fetch_add(loop(piece), std::memory_order_relaxed);
  });
}

int64_t Limits::operations(Arithmetic arithmetic, int64_t rounds) const {
  constexpr int64_t kPieces = 16;
  return loops_.round_operations[static_cast<int>(arithmetic)] * std::max<int64_t>(1, rounds / kPieces) * kPieces *
         pool_->size();
}

}  // namespace octavo
