// Times the pool: the border between two stages, and how much is left when other processes want the same cores.
//   pool_bench [threads=all] [spinning processes=1]
// A border is what a stage of one chunk of 2 us for each worker takes beyond that chunk. The second part runs steps of 300 stages, each cut
// into 8 chunks of about 10 us (a decode step of a small model), alone and beside processes in sessions of their own that
// never sleep. Not a test: asserts nothing.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>
#include <vector>

#include "pool/pool.h"

using namespace octavo;

namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Stages final : Job {
  int stages;
  int64_t count;
  double chunk_s;
  Stages(int stages, int64_t count, double chunk_s) : stages(stages), count(count), chunk_s(chunk_s) {}
  int num_stages() const override { return stages; }
  int64_t chunks(int) override { return count; }
  // Work of a fixed amount, not of a fixed time: a worker that is taken away has it all left to do.
  void work(int, int64_t, int) override {
    volatile double x = 1;
    for (int64_t i = static_cast<int64_t>(chunk_s * rounds_per_s); i > 0; --i) x = x * 1.000001;
  }
  static double rounds_per_s;
};
double Stages::rounds_per_s = 0;

void calibrate() {
  Stages::rounds_per_s = 1e9;
  Stages one(1, 1, 0.05);
  one.work(0, 0, 0);
  const double begin = now_s();
  one.work(0, 0, 0);
  Stages::rounds_per_s *= 0.05 / (now_s() - begin);
}

// Steps per second, with pauses as a server's bookkeeping makes them.
double steps_per_s(Pool& pool, double seconds) {
  Stages step(300, 8, 10e-6);
  int done = 0;
  const double begin = now_s();
  while (now_s() - begin < seconds) {
    pool.run(step);
    ++done;
    usleep(300);
  }
  return done / (now_s() - begin);
}

pid_t start_spinner() {
  const pid_t child = fork();
  if (child != 0) return child;
  setsid();
  volatile uint64_t turns = 0;
  for (;;) turns = turns + 1;
}

}  // namespace

int main(int argc, char** argv) {
  Pool pool(argc > 1 ? std::stoi(argv[1]) : 0);
  const int spinners = argc > 2 ? std::stoi(argv[2]) : 1;
  calibrate();
  std::vector<double> borders;
  for (int run = 0; run < 20; ++run) {
    Stages even(2000, pool.size(), 2e-6);
    const double begin = now_s();
    for (int chunk = 0; chunk < even.stages; ++chunk) even.work(0, 0, 0);
    const double middle = now_s();
    pool.run(even);
    borders.push_back((now_s() - middle - (middle - begin)) / even.stages);
  }
  std::sort(borders.begin(), borders.end());
  std::printf("%d workers: a border costs %.0f ns (median; best %.0f)\n", pool.size(), 1e9 * borders[10],
              1e9 * borders[0]);
  steps_per_s(pool, 0.3);
  const double alone = steps_per_s(pool, 1.5);
  std::vector<pid_t> children;
  for (int i = 0; i < spinners; ++i) children.push_back(start_spinner());
  const double beside = steps_per_s(pool, 3);
  for (pid_t child : children) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  std::printf("alone %.1f steps/s, beside %d spinning processes %.1f: %.0f%%\n", alone, spinners, beside,
              100 * beside / alone);
}
