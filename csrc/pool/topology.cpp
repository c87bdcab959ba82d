// See topology.h.
#include "pool/topology.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#if defined(__linux__)
#include <sched.h>
#endif

namespace octavo {

namespace {

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// Calls visit(path) for a cgroup and all its ancestors: each may set a quota.
template <typename Visit>
void each_ancestor(std::string path, const Visit& visit) {
  for (;;) {
    visit(path == "/" ? "" : path);
    const size_t slash = path.find_last_of('/');
    if (slash == std::string::npos || path.size() <= 1) return;
    path.resize(std::max<size_t>(slash, 1));
  }
}

double quota_v2(const std::string& folder) {
  std::istringstream line(first_line(folder + "/cpu.max"));
  std::string quota;
  double period = 0;
  if (line >> quota >> period && quota != "max" && period > 0) return std::strtod(quota.c_str(), nullptr) / period;
  return INFINITY;
}

double quota_v1(const std::string& folder) {
  const double quota = std::atof(first_line(folder + "/cpu.cfs_quota_us").c_str());
  const double period = std::atof(first_line(folder + "/cpu.cfs_period_us").c_str());
  return quota > 0 && period > 0 ? quota / period : INFINITY;
}

// A line of proc/self/cgroup is id:controllers:path; hierarchy v2 has the id 0 and no controllers.
double quota_of(const std::string& root) {
  double allowed = INFINITY;
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const std::string path = line.substr(second + 1);
    if (controllers == ",,")
      each_ancestor(path, [&](const std::string& at) {
        for (const char* mount : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"})
          allowed = std::min(allowed, quota_v2(root + mount + at));
      });
    else if (controllers.find(",cpu,") != std::string::npos)
      each_ancestor(path, [&](const std::string& at) {
        for (const char* mount : {"/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct"})
          allowed = std::min(allowed, quota_v1(root + mount + at));
      });
  }
  return allowed;
}

// By the list of their hardware threads: core numbers repeat between dies.
int cores_of(const std::string& root, const std::vector<int>& cpus) {
  std::set<std::string> cores;
  for (int cpu : cpus) {
    const std::string name = "cpu" + std::to_string(cpu);
    const std::string siblings =
        first_line(root + "/sys/devices/system/cpu/" + name + "/topology/thread_siblings_list");
    cores.insert(siblings.empty() ? name : siblings);
  }
  return static_cast<int>(cores.size());
}

}  // namespace

std::vector<int> parse_cpu_list(const std::string& text) {
  std::vector<int> cpus;
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    int first = 0, last = 0;
    const int read = std::sscanf(part.c_str(), "%d-%d", &first, &last);
    if (read < 1) break;
    for (int cpu = first; cpu <= (read == 2 ? last : first); ++cpu) cpus.push_back(cpu);
  }
  return cpus;
}

int Topology::cores() const {
  int found = 0;
  for (const Node& node : nodes) found += node.cores;
  if (std::isfinite(quota)) found = std::min(found, std::max(1, static_cast<int>(quota)));
  return std::max(found, 1);
}

size_t Topology::node_of(int cpu) const {
  for (size_t n = 0; n < nodes.size(); ++n)
    if (std::binary_search(nodes[n].cpus.begin(), nodes[n].cpus.end(), cpu)) return n;
  return 0;
}

Topology read_topology(const std::string& root, const std::vector<int>& allowed) {
  Topology found{{}, quota_of(root)};
  const std::string folder = root + "/sys/devices/system/node/";
  std::vector<int> left = allowed;
  std::sort(left.begin(), left.end());
  for (int id : parse_cpu_list(first_line(folder + "online"))) {
    std::vector<int> cpus = parse_cpu_list(first_line(folder + "node" + std::to_string(id) + "/cpulist")), both, rest;
    std::sort(cpus.begin(), cpus.end());
    std::set_intersection(left.begin(), left.end(), cpus.begin(), cpus.end(), std::back_inserter(both));
    std::set_difference(left.begin(), left.end(), both.begin(), both.end(), std::back_inserter(rest));
    if (!both.empty()) found.nodes.push_back({id, both, cores_of(root, both)});
    left = rest;
  }
  // A system that names no nodes has one.
  if (found.nodes.empty() && !left.empty()) found.nodes.push_back({0, left, cores_of(root, left)});
  return found;
}

std::vector<int> allowed_cpus() {
  std::vector<int> found;
#if defined(__linux__)
  // The kernel's mask may be wider than cpu_set_t: ask with growing buffers.
  for (int cpus = 1024; cpus <= 1 << 16 && found.empty(); cpus *= 4) {
    cpu_set_t* mask = CPU_ALLOC(cpus);
    if (mask == nullptr) break;
    const size_t bytes = CPU_ALLOC_SIZE(cpus);
    if (sched_getaffinity(0, bytes, mask) == 0)
      for (int cpu = 0; cpu < cpus; ++cpu)
        if (CPU_ISSET_S(cpu, bytes, mask)) found.push_back(cpu);
    CPU_FREE(mask);
  }
#endif
  return found;
}

int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

void bind_thread([[maybe_unused]] const std::vector<int>& cpus) {
#if defined(__linux__)
  if (cpus.empty()) return;
  const int last = *std::max_element(cpus.begin(), cpus.end());
  cpu_set_t* mask = CPU_ALLOC(last + 1);
  if (mask == nullptr) return;
  const size_t bytes = CPU_ALLOC_SIZE(last + 1);
  CPU_ZERO_S(bytes, mask);
  for (int cpu : cpus) CPU_SET_S(cpu, bytes, mask);
  (void)sched_setaffinity(0, bytes, mask);
  CPU_FREE(mask);
#endif
}

Placement place(const Topology& topology, Numa numa, int num_workers, int caller_cpu) {
  if (numa == Numa::automatic) numa = topology.nodes.size() > 1 ? Numa::distribute : Numa::off;
  const int cores = topology.cores();
  Placement found{num_workers > 0 ? num_workers : cores, cores, {}, {}};
  if (numa == Numa::isolate && !topology.nodes.empty()) {
    const Topology::Node& own = topology.nodes[topology.node_of(caller_cpu)];
    found.cores = std::min(cores, own.cores);
    if (num_workers == 0) found.workers = found.cores;
    found.worker_cpus.assign(static_cast<size_t>(found.workers), own.cpus);
  } else if (numa == Numa::distribute && !topology.nodes.empty()) {
    // Blocks begin at the caller's node: its number lies in the first.
    const size_t nodes = topology.nodes.size(), first = topology.node_of(caller_cpu);
    for (int w = 0; w < found.workers; ++w) {
      const size_t block = static_cast<size_t>(w) * nodes / static_cast<size_t>(found.workers);
      found.worker_cpus.push_back(topology.nodes[(first + block) % nodes].cpus);
    }
    for (const Topology::Node& node : topology.nodes) found.weight_nodes.push_back(node.id);
  } else {
    found.worker_cpus.resize(static_cast<size_t>(found.workers));
  }
  if (!found.worker_cpus.empty()) found.worker_cpus[0].clear();
  return found;
}

}  // namespace octavo
