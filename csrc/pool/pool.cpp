// Hand-out of chunks, the border between stages, spinning and sleeping. See pool.h.
#include "pool/pool.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <semaphore>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "pool/float_mode.h"
#include "pool/parking.h"

namespace octavo {

namespace {

using Clock = std::chrono::steady_clock;

// How long a worker watches for the next job before it sleeps: shorter than the pause between two steps of an idle server.
constexpr auto kSpin = std::chrono::microseconds(40);

// How long it watches for the next stage while others still hold chunks of this one: longer than a chunk, because waking
// up costs about as much as one. A wait much longer than that means that the system has taken a worker away. For some time
// after, waiting workers then sleep at once: the system gives an idle core to whoever waits for one, among them the
// worker that all others wait for.
constexpr auto kPatience = std::chrono::microseconds(250);
constexpr auto kStall = std::chrono::milliseconds(1);
constexpr auto kImpatience = std::chrono::milliseconds(100);
constexpr auto kImpatientSpin = std::chrono::microseconds(20);

// The ticket word: which stage (a counter that wraps), how many chunks it has, the next chunk. One fetch_add both takes
// a chunk and says whose it is, so a worker that comes late cannot take it for a chunk of another stage. A stage without
// chunks is the end of a job. Nothing but this word may say so: a caller that learnt it elsewhere could publish its next
// job before the end of the last one is published, which would then undo it.
constexpr int kChunkBits = 20;
constexpr uint64_t kChunkMask = (uint64_t{1} << kChunkBits) - 1;

uint64_t ticket_of(uint64_t epoch, uint64_t count) { return (epoch << (2 * kChunkBits)) | (count << kChunkBits); }
uint64_t epoch_of(uint64_t ticket) { return ticket >> (2 * kChunkBits); }
uint64_t count_of(uint64_t ticket) { return (ticket >> kChunkBits) & kChunkMask; }
uint64_t chunk_of(uint64_t ticket) { return ticket & kChunkMask; }

// Threads born meanwhile take no signals: those are the program's, whose own threads may want to be interrupted by them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

}  // namespace

class Pool::Team {
 public:
  Team(const Placement& placement, std::atomic<uint64_t>& heartbeat)
      : pid_(getpid()), heartbeat_(heartbeat), crowded_(placement.workers > placement.cores) {
    const SignalsBlocked blocked;
    threads_.reserve(static_cast<size_t>(placement.workers) - 1);
    try {
      for (int worker = 1; worker < placement.workers; ++worker)
        threads_.emplace_back([this, worker, cpus = placement.worker_cpus[static_cast<size_t>(worker)]] {
          bind_thread(cpus);
          serve(worker);
        });
    } catch (...) {
      stop();
      throw;
    }
  }

  ~Team() { stop(); }

  bool of_this_process() const { return pid_ == getpid(); }

  void submit(Job& job) {
    free_.acquire();
    owner_.store(std::this_thread::get_id(), std::memory_order_relaxed);
    job_ = &job;
    stage_ = -1;
    advance(0);
  }

  void join() {
    FloatMode mode;
    while (take_chunks(0)) {
    }
    job_ = nullptr;
    owner_.store({}, std::memory_order_relaxed);
    free_.release();
  }

  // Whether this thread has submitted a job that nobody joined yet. Only its own writes can make that true.
  bool owned_by_caller() const { return owner_.load(std::memory_order_relaxed) == std::this_thread::get_id(); }

  // All of a job on this thread, as worker 0, who is not in the submitted job yet.
  void run_alone(Job& job) {
    FloatMode mode;
    for (int stage = 0; stage < job.num_stages(); ++stage) {
      const int64_t count = job.chunks(stage);
      heartbeat_.fetch_add(1, std::memory_order_relaxed);
      for (int64_t chunk = 0; chunk < count; ++chunk) job.work(stage, chunk, 0);
    }
  }

 private:
  void stop() {
    stopping_.store(true, std::memory_order_seq_cst);
    parking_.wake_all();
    for (std::thread& thread : threads_) thread.join();
  }

  void serve(int worker) {
    FloatMode mode;
    while (!stopping_.load(std::memory_order_seq_cst)) take_chunks(worker);
  }

  // Takes chunks until the current stage has none left, then waits for the next stage. False tells the caller of a job,
  // which does not wait for another, that it has ended.
  bool take_chunks(int worker) {
    for (;;) {
      const uint64_t ticket = ticket_.fetch_add(1, std::memory_order_acq_rel);
      const uint64_t count = count_of(ticket);
      if (chunk_of(ticket) >= count) {
        if (worker == 0 && count == 0) return false;
        if (count > 0) await_stage(epoch_of(ticket));
        else await(epoch_of(ticket), Clock::now() + kSpin);
        return true;
      }
      // Holding a chunk keeps the stage open, so job_ and stage_ are this chunk's.
      job_->work(stage_, static_cast<int64_t>(chunk_of(ticket)), worker);
      if (done_.fetch_add(1, std::memory_order_acq_rel) + 1 == count) advance(worker);
    }
  }

  // Opens the next stage that has chunks, or ends the job. Called by the worker that finished the last chunk.
  void advance(int worker) {
    done_.store(0, std::memory_order_relaxed);
    // Who submits a job of several stages may be elsewhere until it joins: others go on without it.
    const bool begins = stage_ < 0 && job_->num_stages() > 1;
    while (++stage_ < job_->num_stages()) {
      const int64_t count = job_->chunks(stage_);
      heartbeat_.fetch_add(1, std::memory_order_relaxed);
      if (count > kMaxChunks) std::abort();  // it would spill into the other fields of the ticket
      if (count > 0) {
        publish(static_cast<uint64_t>(count), count > 1 || begins);
        return;
      }
    }
    publish(0, worker != 0);  // only the caller waits for the end of a job
  }

  void publish(uint64_t count, bool wake) {
    const uint64_t next = epoch_of(ticket_.load(std::memory_order_relaxed)) + 1;
    ticket_.exchange(ticket_of(next, count), std::memory_order_seq_cst);
    if (wake) parking_.wake_all();
  }

  // Waits for the chunks that others hold.
  void await_stage(uint64_t epoch) {
    const auto begin = Clock::now();
    const bool calm = !crowded_ && begin >= impatient_until_.load(std::memory_order_relaxed);
    await(epoch, begin + (calm ? std::chrono::nanoseconds(kPatience) : std::chrono::nanoseconds(kImpatientSpin)));
    const auto end = Clock::now();
    if (end - begin >= kStall) impatient_until_.store(end + kImpatience, std::memory_order_relaxed);
  }

  void await(uint64_t epoch, Clock::time_point deadline) {
    const auto changed = [&] {
      return epoch_of(ticket_.load(std::memory_order_seq_cst)) != epoch || stopping_.load(std::memory_order_seq_cst);
    };
    do {
      for (int i = 0; i < 32; ++i) {
        if (changed()) return;
        relax();
      }
    } while (Clock::now() < deadline);
    while (!changed()) parking_.sleep_unless(changed);
  }

  const pid_t pid_;
  std::atomic<uint64_t>& heartbeat_;
  const bool crowded_;
  std::binary_semaphore free_{1};  // no mutex: a job may be joined by another thread than submitted it
  std::atomic<std::thread::id> owner_{};
  std::vector<std::thread> threads_;
  std::atomic<bool> stopping_{false};
  std::atomic<Clock::time_point> impatient_until_{Clock::time_point::min()};
  Job* job_ = nullptr;
  int stage_ = 0;
  alignas(64) std::atomic<uint64_t> ticket_{0};
  alignas(64) std::atomic<uint64_t> done_{0};
  alignas(64) Parking parking_;
};

Pool::Pool(int num_threads, Numa numa) {
  if (num_threads < 0 || num_threads > kMaxThreads)
    throw std::invalid_argument("a pool has 1 to " + std::to_string(kMaxThreads) + " threads");
  placement_ = place(read_topology("", allowed_cpus()), numa, num_threads, current_cpu());
  if (placement_.workers > kMaxThreads) placement_.workers = kMaxThreads;
  size_ = placement_.workers;
  team_ = std::make_unique<Team>(placement_, heartbeat_);
}

int Pool::allowed_cores() { return std::min(read_topology("", allowed_cpus()).cores(), kMaxThreads); }

Pool::~Pool() {
  // In a forked child the threads do not exist; there is nothing to join, and their handles must not be destroyed.
  if (!team_->of_this_process()) (void)team_.release();
}

void Pool::submit(Job& job) {
  if (!team_->of_this_process()) {
    auto team = std::make_unique<Team>(placement_, heartbeat_);
    (void)team_.release();
    team_ = std::move(team);
  }
  team_->submit(job);
}

void Pool::join() { team_->join(); }

void Pool::run(Job& job) {
  if (team_->of_this_process() && team_->owned_by_caller()) return team_->run_alone(job);
  submit(job);
  join();
}

void Pool::parallel(int64_t total, int64_t grain, const std::function<void(int64_t, int64_t, int)>& body) {
  struct Range final : Job {
    int64_t total;
    int64_t grain;
    const std::function<void(int64_t, int64_t, int)>* body;
    int num_stages() const override { return 1; }
    int64_t chunks(int) override { return (total + grain - 1) / grain; }
    void work(int, int64_t chunk, int worker) override {
      (*body)(chunk * grain, std::min(total, (chunk + 1) * grain), worker);
    }
  };
  if (total <= 0) return;
  Range job;
  job.total = total;
  job.grain = std::max({grain, int64_t{1}, (total + kMaxChunks - 1) / kMaxChunks});
  job.body = &body;
  run(job);
}

}  // namespace octavo
