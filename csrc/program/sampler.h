// Draws and log-probabilities for many rows of logits over the pool, each row with its own controls.
//
// Owns the workers' scratch. Knows nothing of Python.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>

#include "isa/isa.h"
#include "ops/sampling.h"
#include "pool/pool.h"
#include "program/memory.h"

namespace octavo {

// Arrays by row; logits are [rows][vocab].
struct SampleArrays {
  int64_t rows, vocab;
  const float* logits;
  const float *temperature, *top_p, *min_p;
  const int32_t *top_k, *positions;
  const uint64_t* seeds;
};

// In place of a token: every logit of the row is -inf, or one is a NaN.
constexpr int32_t nothing_left = -1, not_a_number = -2;

// Natural log-probabilities by row: of a given token, how many are greater plus one, and of the num_top best.
struct LogprobArrays {
  int64_t num_top;
  const int32_t* tokens;
  double* values;
  int32_t* ranks;
  int32_t* top_ids;    // [rows][num_top]
  double* top_values;  // the same
};

class Sampler {
 public:
  Sampler(std::shared_ptr<Pool> pool, Isa isa);

  void sample(const SampleArrays& in, int32_t* out);
  void logprobs(const float* logits, int64_t rows, int64_t vocab, const LogprobArrays& out);

  // What rows of `vocab` logits need of memory.
  static size_t bytes_of(int workers, int64_t vocab);

 private:
  void reserve(int64_t vocab);
  uint8_t* workspace(int worker) const { return memory_->data() + worker_bytes_ * static_cast<size_t>(worker); }

  std::shared_ptr<Pool> pool_;
  const OpKernels& kernels_;
  std::unique_ptr<Mapping> memory_;
  size_t worker_bytes_ = 0;
  std::mutex running_;
};

}  // namespace octavo
