// Where instructions find their operands while a program runs: buffers in the arena, the step, the kernels.
#pragma once

#include <cstdint>

#include "linear/linear.h"
#include "ops/ops.h"
#include "program/step.h"

namespace octavo {

// How many rows a value has: the step's tokens or its samples.
enum class Extent : int32_t { tokens = 0, samples = 1 };

// The arena's parts. Offsets in `tokens` and `samples` count bytes per row of that extent and are multiplied by the
// step's rows, so that a small step touches little memory; those in `fixed` are plain bytes.
enum class Region : int32_t { tokens = 0, samples = 1, fixed = 2 };

struct Buffer {
  Region region;
  int64_t offset;
  int64_t stride;  // bytes between two rows
};

struct Frame {
  const Step* step;
  uint8_t* tokens;
  uint8_t* samples;
  uint8_t* fixed;
  uint8_t* workers;
  int64_t worker_bytes;
  int num_workers;
  double slowness;  // how much slower than AVX-512 the level's kernels are, roughly
  const LinearKernels* linear;
  const OpKernels* ops;

  int64_t rows(Extent extent) const { return extent == Extent::tokens ? step->tokens : step->samples; }

  uint8_t* at(const Buffer& b) const {
    switch (b.region) {
      case Region::tokens: return tokens + b.offset * step->tokens;
      case Region::samples: return samples + b.offset * step->samples;
      case Region::fixed: break;
    }
    return fixed + b.offset;
  }
  Rows out(const Buffer& b) const { return {reinterpret_cast<float*>(at(b)), b.stride / 4}; }
  ConstRows in(const Buffer& b) const { return {reinterpret_cast<const float*>(at(b)), b.stride / 4}; }
  uint8_t* worker(int index) const { return workers + index * worker_bytes; }
};

}  // namespace octavo
