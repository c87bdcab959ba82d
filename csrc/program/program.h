// A program: stages over one arena, replayed for any step within its limits.
//
// Built once (add_*, then seal), then prepared and run many times; throws std::logic_error where that order is broken.
// One step at a time. Knows nothing of Python.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "isa/isa.h"
#include "pool/pool.h"
#include "program/kv_pages.h"
#include "program/memory.h"
#include "program/profile.h"
#include "program/stages.h"

namespace octavo {

class Program {
 public:
  Program(std::shared_ptr<Pool> pool, Isa isa, StepLimits limits);
  ~Program();

  // The index of an attention shape for AttentionTask::shape.
  size_t add_shape(const AttentionShape& shape);
  void add(std::unique_ptr<Stage> stage);
  // Bytes per token, per sample, fixed, and per worker; allocates the arena.
  void seal(int64_t token_bytes, int64_t sample_bytes, int64_t fixed_bytes, int64_t worker_bytes);

  static size_t arena_bytes(const StepLimits& limits, int64_t token_bytes, int64_t sample_bytes, int64_t fixed_bytes,
                            int64_t worker_bytes);

  std::shared_ptr<const Step> prepare(const StepArrays& arrays) const;
  // Starts a step on the workers but the caller, who takes part in `join`, until the end (pool.h). Throws
  // std::invalid_argument for a step that another program prepared, std::logic_error for a second submit before the
  // join, or a join without a submit.
  void submit(std::shared_ptr<const Step> step);
  void join();

  // Measures runs from here on; takes give what was found since the last one. Throw std::logic_error where it is off.
  void start_profile(int64_t max_events);
  void stop_profile();
  std::vector<StageTotals> take_totals();
  std::vector<ChunkEvent> take_events();

  // [offset, offset + bytes) of the fixed part; throws std::out_of_range.
  uint8_t* fixed(int64_t offset, int64_t bytes) const;
  size_t bytes() const { return arena_ ? arena_->bytes() : 0; }
  const StepLimits& limits() const { return limits_; }
  int num_stages() const { return static_cast<int>(stages_.size()); }

 private:
  void check_open() const;
  void check_sealed() const;
  void check_idle() const;
  Profile& profile() const;

  const uint64_t serial_;  // unlike any other program's, also of one that is gone
  std::shared_ptr<Pool> pool_;
  StepLimits limits_;
  std::vector<AttentionShape> shapes_;
  std::vector<std::unique_ptr<Stage>> stages_;
  std::unique_ptr<Mapping> arena_;
  int64_t fixed_bytes_ = 0;
  Frame frame_{};
  std::unique_ptr<Profile> profile_;
  std::shared_ptr<const Step> step_;  // submitted and not joined yet
  std::unique_ptr<Job> replay_;
  std::atomic<bool> busy_{false};     // from submit to the end of join
};

}  // namespace octavo
