// A program: stages over one arena, replayed for any step within its limits.
//
// Built once (add_*, then seal), then prepared and run many times. Knows nothing of Python.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "isa/isa.h"
#include "pool/pool.h"
#include "program/kv_pages.h"
#include "program/memory.h"
#include "program/stages.h"

namespace octavo {

class Program {
 public:
  Program(std::shared_ptr<Pool> pool, Isa isa, StepLimits limits);

  // The index of an attention shape for AttentionTask::shape.
  size_t add_shape(const AttentionShape& shape);
  void add(std::unique_ptr<Stage> stage) { stages_.push_back(std::move(stage)); }
  // Bytes per token, per sample, fixed, and per worker; allocates the arena.
  void seal(int64_t token_bytes, int64_t sample_bytes, int64_t fixed_bytes, int64_t worker_bytes);

  static size_t arena_bytes(const StepLimits& limits, int64_t token_bytes, int64_t sample_bytes, int64_t fixed_bytes,
                            int64_t worker_bytes);

  std::shared_ptr<const Step> prepare(const StepArrays& arrays) const;
  void run(const Step& step);

  uint8_t* fixed() const { return frame_.fixed; }
  size_t bytes() const { return arena_ ? arena_->bytes() : 0; }
  const StepLimits& limits() const { return limits_; }
  int num_stages() const { return static_cast<int>(stages_.size()); }

 private:
  std::shared_ptr<Pool> pool_;
  StepLimits limits_;
  std::vector<AttentionShape> shapes_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::unique_ptr<Mapping> arena_;
  Frame frame_{};
  std::mutex running_;
};

}  // namespace octavo
