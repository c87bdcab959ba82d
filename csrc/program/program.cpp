// See program.h.
#include "program/program.h"

#include <atomic>
#include <stdexcept>
#include <utility>

namespace octavo {

namespace {

int64_t align(int64_t bytes) { return (bytes + 63) / 64 * 64; }

double slowness_of(Isa isa) {
  switch (isa) {
    case Isa::portable: return 8;
    case Isa::neon: return 4;
    case Isa::avx2:
    case Isa::neon_dotprod:
    case Isa::neon_i8mm: return 2;
    default: return 1;
  }
}

std::atomic<uint64_t> programs_made{0};

struct Replay final : Job {
  const std::vector<std::unique_ptr<Stage>>& stages;
  const Frame& frame;
  Replay(const std::vector<std::unique_ptr<Stage>>& stages, const Frame& frame) : stages(stages), frame(frame) {}
  int num_stages() const override { return static_cast<int>(stages.size()); }
  int64_t chunks(int stage) override { return stages[static_cast<size_t>(stage)]->open(frame); }
  void work(int stage, int64_t chunk, int worker) override {
    stages[static_cast<size_t>(stage)]->work(frame, chunk, worker);
  }
};

}  // namespace

Program::Program(std::shared_ptr<Pool> pool, Isa isa, StepLimits limits)
    : serial_(++programs_made), pool_(std::move(pool)), limits_(limits) {
  limits_.workers = pool_->size();
  frame_.num_workers = pool_->size();
  frame_.slowness = limits_.slowness = slowness_of(isa);
  frame_.linear = &linear_kernels(isa);
  frame_.ops = &op_kernels(isa);
}

void Program::check_open() const {
  if (arena_) throw std::logic_error("a sealed program takes no more stages");
}

void Program::check_sealed() const {
  if (!arena_) throw std::logic_error("a program is sealed before it is used");
}

void Program::add(std::unique_ptr<Stage> stage) {
  check_open();
  stages_.push_back(std::move(stage));
}

size_t Program::add_shape(const AttentionShape& shape) {
  check_open();
  for (size_t i = 0; i < shapes_.size(); ++i)
    if (shapes_[i] == shape) return i;
  shapes_.push_back(shape);
  return shapes_.size() - 1;
}

size_t Program::arena_bytes(const StepLimits& limits, int64_t token_bytes, int64_t sample_bytes, int64_t fixed_bytes,
                            int64_t worker_bytes) {
  const int64_t total = align(token_bytes) * limits.max_tokens + align(sample_bytes) * limits.max_samples +
                        align(fixed_bytes) + align(worker_bytes) * limits.workers;
  return Mapping::rounded(static_cast<size_t>(total));
}

void Program::seal(int64_t token_bytes, int64_t sample_bytes, int64_t fixed_bytes, int64_t worker_bytes) {
  if (arena_) throw std::logic_error("a program is sealed once");
  arena_ = std::make_unique<Mapping>(arena_bytes(limits_, token_bytes, sample_bytes, fixed_bytes, worker_bytes));
  const Stage* follower = nullptr;
  for (size_t s = stages_.size(); s-- > 0;) {
    stages_[s]->follower = follower;
    if (stages_[s]->has_weights()) follower = stages_[s].get();
  }
  fixed_bytes_ = align(fixed_bytes);
  frame_.worker_bytes = align(worker_bytes);
  frame_.workers = arena_->data();
  frame_.fixed = frame_.workers + frame_.worker_bytes * limits_.workers;
  frame_.samples = frame_.fixed + fixed_bytes_;
  frame_.tokens = frame_.samples + align(sample_bytes) * limits_.max_samples;
}

std::shared_ptr<const Step> Program::prepare(const StepArrays& arrays) const {
  check_sealed();
  auto step = std::make_shared<Step>(arrays, limits_, shapes_);
  step->program = serial_;
  return step;
}

uint8_t* Program::fixed(int64_t offset, int64_t bytes) const {
  check_sealed();
  if (offset < 0 || bytes < 0 || offset > fixed_bytes_ || bytes > fixed_bytes_ - offset)
    throw std::out_of_range("the fixed part of the arena ends before that");
  return frame_.fixed + offset;
}

Program::~Program() {
  if (busy_) join();
}

void Program::check_idle() const {
  if (busy_) throw std::logic_error("the program has a step that was submitted and not joined");
}

void Program::submit(std::shared_ptr<const Step> step) {
  check_sealed();
  if (step->program != serial_) throw std::invalid_argument("the step was prepared by another program");
  if (busy_.exchange(true)) throw std::logic_error("the program has a step that was submitted and not joined");
  step_ = std::move(step);
  frame_.step = step_.get();
  replay_ = std::make_unique<Replay>(stages_, frame_);
  pool_->submit(profile_ ? profile_->begin(*replay_) : *replay_);
}

void Program::join() {
  if (!busy_) throw std::logic_error("no step was submitted");
  pool_->join();
  if (profile_) profile_->finish();
  frame_.step = nullptr;
  step_.reset();
  busy_ = false;
}

void Program::start_profile(int64_t max_events) {
  check_sealed();
  check_idle();
  if (max_events < 0) throw std::invalid_argument("a profile keeps no negative number of events");
  profile_ = std::make_unique<Profile>(num_stages(), pool_->size(), max_events);
}

void Program::stop_profile() {
  check_idle();
  profile_.reset();
}

Profile& Program::profile() const {
  check_idle();
  if (!profile_) throw std::logic_error("the program is not profiled");
  return *profile_;
}

std::vector<StageTotals> Program::take_totals() { return profile().take_totals(); }

std::vector<ChunkEvent> Program::take_events() { return profile().take_events(); }

}  // namespace octavo
