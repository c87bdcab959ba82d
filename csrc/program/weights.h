// Loaded weights: matrices packed for the kernels, vectors as floats.
//
// Owns their memory. Does not know where the bytes come from.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "linear/linear.h"
#include "pool/pool.h"
#include "program/memory.h"

namespace octavo {

// Memory that the matrices of a model share, handed out from the front. One mapping, because small matrices of their own
// would lie in small pages: a 135M model then takes tens of thousands of page faults to load and a miss for every few
// blocks to read. Not for several threads at once.
class WeightArena {
 public:
  // Throws std::bad_alloc.
  explicit WeightArena(size_t bytes) : memory_(bytes), left_(bytes) {}

  // The next `bytes`, a multiple of 64; null when fewer are left.
  uint8_t* take(size_t bytes);

  Mapping& memory() { return memory_; }
  size_t left() const { return left_; }

 private:
  Mapping memory_;
  size_t left_;
  size_t taken_ = 0;
};

class Matrix {
 public:
  // An N x K matrix in memory of `arena`, or in its own where that is null or has not enough left; zero until packed.
  // Throws std::invalid_argument for a format without kernels or a K that is no multiple of its block.
  Matrix(std::shared_ptr<WeightArena> arena, Format format, int64_t n, int64_t k);

  // Packs the rows, row i at rows + offsets[i], with all workers of the pool.
  void pack(Pool& pool, const uint8_t* rows, const int64_t* offsets);

  const PackedWeight& packed() const { return packed_; }
  size_t bytes() const { return bytes(packed_.format, packed_.n, packed_.k); }

  // What a loaded matrix takes of memory. Throws as the constructor.
  static size_t bytes(Format format, int64_t n, int64_t k);

 private:
  std::shared_ptr<WeightArena> arena_;
  uint8_t* data_;
  PackedWeight packed_;
};

struct Vector {
  std::vector<float> values;
};

}  // namespace octavo
