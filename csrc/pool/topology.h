// The processors that this process may use, as the system's files describe them, and where workers go on them.
//
// Reads files under a root, so that tests can describe other machines. Starts no threads.
#pragma once

#include <string>
#include <vector>

namespace octavo {

struct Topology {
  struct Node {
    int id;                 // as the system numbers memory nodes
    std::vector<int> cpus;  // allowed ones, ascending
    int cores;              // physical cores among them
  };
  std::vector<Node> nodes;  // those with allowed CPUs
  double quota;             // cores that the cgroups' quota allows; infinity without one

  // Physical cores (hardware threads of one core count once), bounded by the quota; at least 1.
  int cores() const;
  // The node of a CPU, as an index into `nodes`; 0 for a CPU that is not there.
  size_t node_of(int cpu) const;
};

// `root` is "" or a folder with proc/self/cgroup, sys/devices/system and sys/fs/cgroup.
Topology read_topology(const std::string& root, const std::vector<int>& allowed);

// The CPUs of this process's affinity mask (cpusets included); empty where the system has no such thing.
std::vector<int> allowed_cpus();

// The CPU that the calling thread is on; -1 where the system does not say.
int current_cpu();

// Lets the calling thread run on these CPUs alone; nothing for an empty list. The system may decline.
void bind_thread(const std::vector<int>& cpus);

// "0-3,8" as numbers; what cannot be read ends the list.
std::vector<int> parse_cpu_list(const std::string& text);

// What is done on a machine with several memory nodes. Names as in llama.cpp.
enum class Numa {
  automatic,   // distribute where the allowed CPUs lie on several nodes
  off,         // nothing: the system moves workers, pages lie where they are first touched
  distribute,  // workers in equal blocks over all nodes; pages of weights in turn over all nodes
  isolate,     // workers on the caller's node alone; pages are first touched there
};

struct Placement {
  int workers;                                 // the caller included
  int cores;                                   // for them; more workers than cores get in each other's way
  std::vector<std::vector<int>> worker_cpus;   // by worker; empty: anywhere. The caller (worker 0) is never bound
  std::vector<int> weight_nodes;               // ids of nodes that weights' pages go to in turn; empty: first touch
};

// `num_workers` 0 takes all cores (of the caller's node where workers are isolated).
Placement place(const Topology& topology, Numa numa, int num_workers, int caller_cpu);

}  // namespace octavo
