// The worker pool: persistent threads that run the stages of a job in step.
//
// Owns threads, the hand-out of chunks and the waiting. Knows nothing of kernels, programs or Python.
//
// A job is a list of stages; a stage is cut into chunks that any worker may take. The border between two stages waits
// for chunks, not for workers: a worker that the system has taken away while it holds no chunk delays nobody.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "pool/topology.h"

namespace octavo {

// What a pool runs. `chunks` is called by one worker at a time, after all chunks of the stages before are done.
class Job {
 public:
  virtual ~Job() = default;
  virtual int num_stages() const = 0;
  // Number of chunks of a stage, at most Pool::kMaxChunks; 0 skips the stage.
  virtual int64_t chunks(int stage) = 0;
  // Computes one chunk. Must not throw. `worker` is in [0, Pool::size()); no two chunks run on one worker at once.
  virtual void work(int stage, int64_t chunk, int worker) = 0;
};

class Pool {
 public:
  static constexpr int64_t kMaxChunks = (int64_t{1} << 20) - 4096;
  static constexpr int kMaxThreads = 1024;

  // num_threads counts the caller; 0 takes the physical cores that this process may use: its affinity mask without
  // sibling threads, bounded by the cgroups' quota. `numa` binds workers where there are several memory nodes.
  explicit Pool(int num_threads = 0, Numa numa = Numa::automatic);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int size() const { return size_; }

  // Runs all stages of a job: submit, then join.
  void run(Job& job);

  // Hands a job to the workers but the caller, who may do something else until `join`, where it takes part as worker 0
  // until the end (a team of one begins there). The job must stay alive until then. Every submit needs its join, from
  // whichever thread. Jobs of several callers wait for each other in submit; one that the submitting thread itself
  // runs before it joins is computed by that thread alone. After a fork, the child's first job starts workers of its
  // own.
  void submit(Job& job);
  void join();

  // One stage over [0, total) cut into chunks of at most `grain`: body(begin, end, worker).
  void parallel(int64_t total, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body);

  // Rises by one with every stage that starts: whoever sees it rise knows that work goes on.
  uint64_t heartbeat() const { return heartbeat_.load(std::memory_order_relaxed); }

  // The nodes over which weights' pages should lie in turn; empty: wherever they are first touched.
  const std::vector<int>& weight_nodes() const { return placement_.weight_nodes; }

  // What `num_threads` 0 takes.
  static int allowed_cores();

 private:
  class Team;
  Placement placement_;
  int size_;
  std::atomic<uint64_t> heartbeat_{0};
  std::unique_ptr<Team> team_;
};

}  // namespace octavo
