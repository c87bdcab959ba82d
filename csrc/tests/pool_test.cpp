// The pool under stress: every chunk exactly once, stages in order, with more and fewer threads than cores.
//
// Built with -fsanitize=thread it also shows that the border between stages orders what workers wrote.
#include "pool/pool.h"

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <random>
#include <thread>
#include <vector>

using namespace octavo;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::_Exit(1);
}

// Every chunk adds up what all chunks of the stage before have left, in plain memory: a chunk that runs early, twice
// or not at all changes the sums.
struct Sums final : Job {
  std::vector<int> sizes;
  std::vector<std::vector<long>> results;
  std::vector<long> expected;
  int workers;

  Sums(std::vector<int> stages, int workers) : sizes(std::move(stages)), workers(workers) {
    long previous = 1;
    for (int size : sizes) {
      results.emplace_back(size, 0);
      expected.push_back(previous);
      if (size > 0) previous = (previous % 1000 + 1) * size;
    }
  }
  int num_stages() const override { return static_cast<int>(sizes.size()); }
  int64_t chunks(int stage) override { return sizes[stage]; }
  long before(int stage) const {
    for (int s = stage - 1; s >= 0; --s) {
      if (sizes[s] == 0) continue;
      long sum = 0;
      for (long value : results[s]) sum += value;
      return sum;
    }
    return 1;
  }
  void work(int stage, int64_t chunk, int worker) override {
    require(worker >= 0 && worker < workers, "a worker has its own number");
    results[stage][chunk] += before(stage) % 1000 + 1;
  }
  void check() const {
    for (int s = 0; s < num_stages(); ++s) require(before(s) == expected[s], "stages run in order, chunks once");
  }
};

void stress(int threads, int jobs) {
  Pool pool(threads);
  std::mt19937 random(threads);
  uint64_t stages = 0;
  for (int job = 0; job < jobs; ++job) {
    std::vector<int> sizes(random() % 40);
    for (int& size : sizes) size = static_cast<int>(random() % 9);
    stages += sizes.size();
    Sums sums(sizes, threads);
    pool.run(sums);
    sums.check();
    // Long enough for workers to fall asleep, now and then.
    if (job % 50 == 0) usleep(300);
  }
  require(pool.heartbeat() == stages, "the heartbeat counts stages");
}

// The end of one job and the start of the next, again and again: the moment when a late worker could do harm.
void many_small_jobs() {
  for (int threads : {2, 6}) {
    Pool pool(threads);
    for (int job = 0; job < 20000; ++job) {
      Sums sums({1 + job % 3}, threads);
      pool.run(sums);
      sums.check();
    }
  }
}

void several_callers() {
  Pool pool(3);
  std::vector<std::thread> callers;
  for (int c = 0; c < 3; ++c)
    callers.emplace_back([&pool, c] {
      for (int job = 0; job < 100; ++job) {
        Sums sums({3, 1, 0, 5, 2 + c}, 3);
        pool.run(sums);
        sums.check();
      }
    });
  for (std::thread& caller : callers) caller.join();
}

void ranges() {
  Pool pool(2);
  for (int64_t total : {0, 1, 7, 1000, 3000000}) {
    std::vector<uint8_t> hits(static_cast<size_t>(total), 0);
    pool.parallel(total, 1, [&](int64_t begin, int64_t end, int) {
      for (int64_t i = begin; i < end; ++i) ++hits[static_cast<size_t>(i)];
    });
    for (uint8_t hit : hits) require(hit == 1, "a range is covered once");
  }
}

void short_lives() {
  for (int i = 0; i < 200; ++i) {
    Pool pool(1 + i % 5);
    if (i % 2 == 0) continue;
    Sums sums({4, 4}, pool.size());
    pool.run(sums);
    sums.check();
  }
}

// Workers begin without the caller, who joins late, early, or from another thread.
void submit_and_join() {
  for (int threads : {1, 2, 5}) {
    Pool pool(threads);
    for (int job = 0; job < 2000; ++job) {
      Sums sums({3, 0, 1 + job % 4, 2}, threads);
      pool.submit(sums);
      if (job % 100 == 0) usleep(200);
      if (job % 3 == 0) {  // what the submitter runs in between is done by it alone, on a number nobody else has
        Sums between({2, 3}, 1);
        pool.run(between);
        between.check();
      }
      if (job % 500 == 1) std::thread([&] { pool.join(); }).join();
      else pool.join();
      sums.check();
    }
  }
}

// With the caller away, the others compute a job to its end.
void others_need_no_caller() {
  Pool pool(2);
  Sums sums({4, 4, 4}, 2);
  const uint64_t before = pool.heartbeat();
  pool.submit(sums);
  while (pool.heartbeat() < before + 3) usleep(50);
  pool.join();
  sums.check();
}

void fork_keeps_working() {
  Pool pool(3);
  Sums first({5, 5}, 3);
  pool.run(first);
  const pid_t child = fork();
  if (child == 0) {
    Sums second({5, 0, 7}, 3);
    pool.run(second);
    second.check();
    std::_Exit(0);
  }
  int status = 1;
  waitpid(child, &status, 0);
  require(status == 0, "a forked child has workers of its own");
  Sums third({2, 2}, 3);
  pool.run(third);
  third.check();
}

double processor_s() {
  timespec used;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + 1e-9 * static_cast<double>(used.tv_nsec);
}

// Between jobs nobody spins for long: ten pauses of 20 ms take well under one of them of processor time.
void idle_uses_no_processor() {
  Pool pool(4);
  double used = 0;
  for (int pause = 0; pause < 10; ++pause) {
    Sums sums({8, 8}, 4);
    pool.run(sums);
    const double before = processor_s();
    usleep(20000);
    used += processor_s() - before;
  }
  require(used < 0.02, "an idle pool sleeps");
}

}  // namespace

int main() {
  for (int threads : {1, 2, 5, 16}) stress(threads, threads > 4 ? 150 : 600);
  many_small_jobs();
  several_callers();
  ranges();
  short_lives();
  idle_uses_no_processor();
  submit_and_join();
  others_need_no_caller();
  // qemu's emulation of a user program does not survive a fork of several threads.
  if (std::getenv("OCTAVO_TEST_EMULATED") != nullptr) std::puts("pool: fork NOT TESTED (emulated processor)");
  else fork_keeps_working();
  require(Pool::allowed_cores() >= 1, "there is a core");
  std::puts("pool: ok");
}
