// How many cores this process may use: affinity mask, sibling threads, cgroup quota.
#include <algorithm>
#include <cmath>
#include <fstream>
#include <set>
#include <string>
#include <thread>

#include "pool/pool.h"

#if defined(__linux__)
#include <sched.h>
#endif

namespace octavo {

namespace {

#if defined(__linux__)

bool read_number(const std::string& path, long long& value) {
  std::ifstream file(path);
  return static_cast<bool>(file >> value);
}

// Cores of the affinity mask; two hardware threads of one core count once.
int cores_by_affinity() {
  // The kernel's mask may be wider than cpu_set_t: ask with growing buffers.
  for (int cpus = 1024; cpus <= 1 << 16; cpus *= 4) {
    cpu_set_t* mask = CPU_ALLOC(cpus);
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    if (mask == nullptr) return 0;
    if (sched_getaffinity(0, bytes, mask) != 0) {
      CPU_FREE(mask);
      continue;
    }
    std::set<std::string> cores;  // by the list of their hardware threads: core numbers repeat between dies
    for (int cpu = 0; cpu < cpus; ++cpu) {
      if (!CPU_ISSET_S(cpu, bytes, mask)) continue;
      std::ifstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list");
      std::string siblings;
      if (!std::getline(file, siblings) || siblings.empty()) siblings = "cpu" + std::to_string(cpu);
      cores.insert(siblings);
    }
    CPU_FREE(mask);
    return static_cast<int>(cores.size());
  }
  return 0;
}

// The path of this process's cgroup in hierarchy v2 ("0::/path").
std::string cgroup_path() {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);)
    if (line.rfind("0::", 0) == 0) return line.substr(3);
  return "/";
}

// Cores that the cgroup's quota allows, as a fraction; infinity without one. Every ancestor may set a quota.
double cores_by_quota() {
  double allowed = INFINITY;
  for (std::string path = cgroup_path();;) {
    std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
    std::string quota;
    double period = 0;
    if (file >> quota >> period && quota != "max" && period > 0)
      allowed = std::min(allowed, std::strtod(quota.c_str(), nullptr) / period);
    const size_t slash = path.find_last_of('/');
    if (slash == std::string::npos || path.size() <= 1) break;
    path.resize(std::max<size_t>(slash, 1));
  }
  long long quota = 0, period = 0;
  if (read_number("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", quota) &&
      read_number("/sys/fs/cgroup/cpu/cpu.cfs_period_us", period) && quota > 0 && period > 0)
    allowed = std::min(allowed, static_cast<double>(quota) / static_cast<double>(period));
  return allowed;
}

#endif

}  // namespace

int Pool::allowed_cores() {
  int cores = 0;
#if defined(__linux__)
  cores = cores_by_affinity();
  const double quota = cores_by_quota();
  if (std::isfinite(quota)) cores = std::min(cores, std::max(1, static_cast<int>(quota)));
#endif
  if (cores <= 0) cores = static_cast<int>(std::thread::hardware_concurrency());
  return std::clamp(cores, 1, kMaxThreads);
}

}  // namespace octavo
