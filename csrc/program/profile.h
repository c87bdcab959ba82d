// Time per stage of a program's runs, and each chunk's begin and end for a trace.
//
// Off, it costs one look at a pointer per run. Knows stages by their number alone.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "pool/pool.h"

namespace octavo {

// Sums over all runs since the last take.
struct StageTotals {
  int64_t runs = 0;     // in which the stage had chunks
  int64_t chunks = 0;
  int64_t wall_ns = 0;  // from the stage's opening to that of the next stage, or the end of the run
  int64_t work_ns = 0;  // of chunks, over all workers
};

struct ChunkEvent {
  int32_t worker, stage;
  int64_t begin_ns, end_ns;  // of a steady clock
};

class Profile {
 public:
  // Keeps at most `max_events` chunks (0: totals alone); later ones are left out.
  Profile(int num_stages, int num_workers, int64_t max_events);
  ~Profile();

  // The job to give to a pool instead of `job`, with the clock on; `finish` after its end. One run at a time.
  Job& begin(Job& job);
  void finish();

  // What was measured since the last take; not during a run.
  std::vector<StageTotals> take_totals();
  std::vector<ChunkEvent> take_events();

 private:
  // A worker writes here alone; 128 bytes keep neighbours out of a prefetched pair of lines.
  struct alignas(128) Worker {
    std::vector<int64_t> work_ns, chunks;  // by stage
    std::vector<ChunkEvent> events;
  };
  class Timed;

  std::vector<StageTotals> totals_;
  std::vector<Worker> workers_;
  size_t worker_events_;
  std::unique_ptr<Timed> timed_;
};

}  // namespace octavo
