// See profile.h.
#include "program/profile.h"

#include <algorithm>
#include <chrono>

namespace octavo {

namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// A job that asks the clock around everything the other one does.
class Profile::Timed final : public Job {
 public:
  Timed(Profile& profile, Job& job) : profile_(profile), job_(job) {}
  int num_stages() const override { return job_.num_stages(); }
  int64_t chunks(int stage) override {
    // Workers call this one after the other, each after the chunks of the stages before: plain members do.
    close();
    const int64_t count = job_.chunks(stage);
    if (count > 0) ++profile_.totals_[static_cast<size_t>(stage)].runs;
    return count;
  }
  void work(int stage, int64_t chunk, int worker) override {
    const int64_t begin = now_ns();
    job_.work(stage, chunk, worker);
    const int64_t end = now_ns();
    Worker& own = profile_.workers_[static_cast<size_t>(worker)];
    own.work_ns[static_cast<size_t>(stage)] += end - begin;
    ++own.chunks[static_cast<size_t>(stage)];
    if (own.events.size() < profile_.worker_events_) own.events.push_back({worker, stage, begin, end});
  }
  // Ends the open stage and begins the next.
  void close() {
    const int64_t now = now_ns();
    if (open_ >= 0) profile_.totals_[static_cast<size_t>(open_)].wall_ns += now - since_;
    ++open_;
    since_ = now;
  }

 private:
  Profile& profile_;
  Job& job_;
  int open_ = -1;
  int64_t since_ = 0;
};

Profile::Profile(int num_stages, int num_workers, int64_t max_events)
    : totals_(static_cast<size_t>(num_stages)),
      workers_(static_cast<size_t>(num_workers)),
      worker_events_(static_cast<size_t>(max_events / num_workers)) {
  for (Worker& worker : workers_) {
    worker.work_ns.resize(totals_.size());
    worker.chunks.resize(totals_.size());
    worker.events.reserve(worker_events_);  // no growth, and no fresh pages later than the first, while a clock runs
  }
}

Profile::~Profile() = default;

Job& Profile::begin(Job& job) {
  timed_ = std::make_unique<Timed>(*this, job);
  return *timed_;
}

void Profile::finish() { timed_->close(); }

std::vector<StageTotals> Profile::take_totals() {
  std::vector<StageTotals> found(totals_.size());
  found.swap(totals_);
  for (Worker& worker : workers_) {
    for (size_t s = 0; s < found.size(); ++s) {
      found[s].work_ns += worker.work_ns[s];
      found[s].chunks += worker.chunks[s];
    }
    std::fill(worker.work_ns.begin(), worker.work_ns.end(), 0);
    std::fill(worker.chunks.begin(), worker.chunks.end(), 0);
  }
  return found;
}

std::vector<ChunkEvent> Profile::take_events() {
  std::vector<ChunkEvent> found;
  for (Worker& worker : workers_) {
    found.insert(found.end(), worker.events.begin(), worker.events.end());
    worker.events.clear();
  }
  return found;
}

}  // namespace octavo
