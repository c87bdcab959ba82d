// See weights.h.
#include "program/weights.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <utility>

namespace octavo {

namespace {

// Packed bytes of a chunk. Two workers that touch one new huge page at once both clear it, and one of them in vain: of
// large matrices they take whole ones; small matrices are cut finer, so that all workers have some.
constexpr size_t kSmallChunk = size_t{256} << 10, kLargeChunk = size_t{2} << 20;

}  // namespace

size_t Matrix::bytes(Format format, int64_t n, int64_t k) {
  if (!is_known(format))
    throw std::invalid_argument("no kernel for the format number " + std::to_string(static_cast<int>(format)));
  if (n <= 0 || k <= 0 || k % block_length(format) != 0)
    throw std::invalid_argument("a matrix of " + std::to_string(n) + " x " + std::to_string(k) +
                                " is not made of whole blocks of " + std::to_string(block_length(format)));
  return packed_bytes(format, n, k);
}

uint8_t* WeightArena::take(size_t bytes) {
  if (bytes > left_) return nullptr;
  uint8_t* data = memory_.data() + taken_;
  taken_ += bytes;
  left_ -= bytes;
  return data;
}

Matrix::Matrix(std::shared_ptr<WeightArena> arena, Format format, int64_t n, int64_t k)
    : arena_(std::move(arena)), data_(nullptr), packed_{format, n, k, nullptr} {
  const size_t size = bytes(format, n, k);
  if (arena_) data_ = arena_->take(size);
  if (data_ == nullptr) {
    arena_ = std::make_shared<WeightArena>(size);
    data_ = arena_->take(size);
  }
  packed_.data = data_;
}

void Matrix::pack(Pool& pool, const uint8_t* rows, const int64_t* offsets) {
  const size_t group = group_bytes(packed_.format, packed_.k);
  const size_t chunk = std::clamp(bytes() / 8, kSmallChunk, kLargeChunk);
  const int64_t grain = static_cast<int64_t>(std::max<size_t>(1, chunk / group));
  pool.parallel(group_count(packed_.n), grain, [&](int64_t begin, int64_t end, int) {
    octavo::pack(packed_.format, packed_.n, packed_.k, rows, 1, offsets, data_, begin, end);
  });
}

}  // namespace octavo
