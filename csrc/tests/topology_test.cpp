// Machines described by files: cores, nodes, quotas, and where workers go on them.
#include "pool/topology.h"

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>

using namespace octavo;
namespace fs = std::filesystem;

namespace {

void require(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "FAILED: %s\n", what);
  std::_Exit(1);
}

// A folder with the files of a machine, gone at the end.
class Machine {
 public:
  Machine() : root_(fs::temp_directory_path() / ("octavo-topology-" + std::to_string(std::rand()))) {
    fs::remove_all(root_);
  }
  ~Machine() { fs::remove_all(root_); }
  void write(const std::string& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text << "\n";
  }
  void siblings(int cpu, const std::string& list) {
    write("sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/topology/thread_siblings_list", list);
  }
  // Two nodes of four cores with two hardware threads each: CPUs 0-3 and 8-11, 4-7 and 12-15.
  void two_sockets() {
    write("sys/devices/system/node/online", "0-1");
    write("sys/devices/system/node/node0/cpulist", "0-3,8-11");
    write("sys/devices/system/node/node1/cpulist", "4-7,12-15");
    for (int cpu = 0; cpu < 16; ++cpu)
      siblings(cpu, std::to_string(cpu % 8) + "," + std::to_string(cpu % 8 + 8));
  }
  Topology read(const std::vector<int>& allowed) const { return read_topology(root_.string(), allowed); }

 private:
  fs::path root_;
};

std::vector<int> range(int begin, int end) {
  std::vector<int> found;
  for (int i = begin; i < end; ++i) found.push_back(i);
  return found;
}

void lists() {
  require(parse_cpu_list("0-3,8,10-11") == std::vector<int>({0, 1, 2, 3, 8, 10, 11}), "ranges and single numbers");
  require(parse_cpu_list("").empty() && parse_cpu_list("x").empty(), "no list, no CPUs");
}

void cores_and_nodes() {
  Machine machine;
  machine.two_sockets();
  const Topology all = machine.read(range(0, 16));
  require(all.nodes.size() == 2 && all.nodes[0].cores == 4 && all.nodes[1].cores == 4, "two nodes of four cores");
  require(all.cores() == 8, "hardware threads of a core count once");
  require(all.node_of(12) == 1 && all.node_of(3) == 0 && all.node_of(99) == 0, "the node of a CPU");
  const Topology some = machine.read({4, 5, 12});
  require(some.nodes.size() == 1 && some.nodes[0].id == 1 && some.cores() == 2, "a mask leaves a node out");
  require(machine.read({}).cores() == 1, "there is always one worker");
  const Topology bare = Machine().read({0, 1});
  require(bare.nodes.size() == 1 && bare.cores() == 2 && std::isinf(bare.quota), "a machine without these files");
}

void quotas() {
  Machine machine;
  machine.two_sockets();
  machine.write("proc/self/cgroup", "0::/a/b");
  machine.write("sys/fs/cgroup/a/b/cpu.max", "max 100000");
  require(std::isinf(machine.read(range(0, 16)).quota), "max is no quota");
  machine.write("sys/fs/cgroup/a/cpu.max", "350000 100000");
  require(machine.read(range(0, 16)).cores() == 3, "an ancestor's quota counts, whole cores of it");
  machine.write("sys/fs/cgroup/a/b/cpu.max", "50000 100000");
  require(machine.read(range(0, 16)).cores() == 1, "less than a core is one worker");

  Machine old;
  old.two_sockets();
  old.write("proc/self/cgroup", "4:memory:/m\n2:cpu,cpuacct:/docker/x\n1:cpuset:/");
  old.write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "200000");
  old.write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_period_us", "100000");
  require(old.read(range(0, 16)).cores() == 2, "quotas of hierarchy v1");
  old.write("sys/fs/cgroup/cpu,cpuacct/docker/x/cpu.cfs_quota_us", "-1");
  require(old.read(range(0, 16)).cores() == 8, "-1 is no quota");
}

void placements() {
  Machine machine;
  machine.two_sockets();
  const Topology two = machine.read(range(0, 16));
  const std::vector<int> near{0, 1, 2, 3, 8, 9, 10, 11}, far{4, 5, 6, 7, 12, 13, 14, 15};

  const Placement spread = place(two, Numa::automatic, 0, 1);
  require(spread.workers == 8 && spread.weight_nodes == std::vector<int>({0, 1}), "several nodes: distributed");
  for (int w = 1; w < 8; ++w) require(spread.worker_cpus[size_t(w)] == (w < 4 ? near : far), "workers in blocks");
  require(spread.worker_cpus[0].empty(), "the caller is never bound");
  require(place(two, Numa::distribute, 4, 12).worker_cpus[1] == far, "the first block is on the caller's node");
  require(place(two, Numa::distribute, 3, 0).worker_cpus[2] == far, "an odd team");

  const Placement alone = place(two, Numa::isolate, 0, 5);
  require(alone.workers == 4 && alone.weight_nodes.empty(), "isolated: the cores of one node");
  for (int w = 1; w < 4; ++w) require(alone.worker_cpus[size_t(w)] == far, "isolated: on the caller's node");
  require(place(two, Numa::isolate, 6, 5).workers == 6, "a number that was asked for stays");

  const Placement none = place(two, Numa::off, 0, 0);
  require(none.workers == 8 && none.weight_nodes.empty() && none.worker_cpus[5].empty(), "off: nothing is bound");
  const Placement one = place(machine.read(range(0, 4)), Numa::automatic, 0, 0);
  require(one.workers == 4 && one.weight_nodes.empty() && one.worker_cpus[3].empty(), "one node: nothing is bound");
  require(place(Topology{{}, INFINITY}, Numa::distribute, 0, 0).workers == 1, "no CPUs known");
}

}  // namespace

int main() {
  lists();
  cores_and_nodes();
  quotas();
  placements();
#if defined(__linux__)
  require(!allowed_cpus().empty() && current_cpu() >= 0, "this process may run somewhere");
  bind_thread({current_cpu()});
  require(allowed_cpus().size() == 1 && read_topology("", allowed_cpus()).cores() == 1, "a bound thread has one CPU");
#endif
  require(read_topology("", allowed_cpus()).cores() >= 1, "this machine has a core");
  std::puts("topology: ok");
}
