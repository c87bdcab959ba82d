// Loaded weights: matrices packed for the kernels, vectors as floats.
//
// Owns their memory. Does not know where the bytes come from.
#pragma once

#include <cstdint>
#include <vector>

#include "linear/linear.h"
#include "pool/pool.h"
#include "program/memory.h"

namespace octavo {

class Matrix {
 public:
  // Packs the N x K matrix whose row i lies at rows + offsets[i], with all workers of the pool. Throws
  // std::invalid_argument for a format without kernels or a K that is no multiple of its block.
  Matrix(Pool& pool, Format format, int64_t n, int64_t k, const uint8_t* rows, const int64_t* offsets);

  const PackedWeight& packed() const { return packed_; }
  size_t bytes() const { return memory_.bytes(); }

  // What a loaded matrix takes of memory. Throws as the constructor.
  static size_t bytes(Format format, int64_t n, int64_t k);

 private:
  Mapping memory_;
  PackedWeight packed_;
};

struct Vector {
  std::vector<float> values;
};

}  // namespace octavo
