// The limit loops over the workers of a pool, as kernels run: in chunks that workers take, stage after stage.
//
// Owns the memory that they read. Knows nothing of kernels, programs or models.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>

#include "limits/loops.h"
#include "pool/pool.h"
#include "program/memory.h"

namespace octavo {

// Times are seconds of wall time.
class Limits {
 public:
  // Touches `bytes` with all workers. Throws std::bad_alloc.
  Limits(std::shared_ptr<Pool> pool, Isa isa, int64_t bytes);

  // Reads the first `bytes` of the memory `repeats` times; throws std::invalid_argument beyond the memory.
  double read(int64_t bytes, int64_t repeats);
  // Copies the first `bytes` / 2 to the second, `repeats` times.
  double copy(int64_t bytes, int64_t repeats);
  // Repeats the multiply instruction on every worker at once; throws std::invalid_argument where the level has none.
  double multiply(Arithmetic arithmetic, int64_t rounds);
  // Operations that `multiply` does with so many rounds, on all workers.
  int64_t operations(Arithmetic arithmetic, int64_t rounds) const;

 private:
  double walk(int64_t bytes, int64_t repeats, bool copying);

  std::shared_ptr<Pool> pool_;
  const LimitLoops& loops_;
  Mapping memory_;
  std::atomic<uint64_t> sink_{0};
};

}  // namespace octavo
