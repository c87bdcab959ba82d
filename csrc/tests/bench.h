// What the benches of kernels share: memory in huge pages, clocks, lists on the command line.
#pragma once

#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

namespace octavo::test {

// Memory in 2 MB pages where the system grants them. Never given back: benches end.
inline uint8_t* huge(size_t bytes) {
  const size_t page = size_t(2) << 20;
  void* base = mmap(nullptr, bytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t* aligned = reinterpret_cast<uint8_t*>((reinterpret_cast<uintptr_t>(base) + page - 1) & ~uintptr_t(page - 1));
  madvise(aligned, bytes, MADV_HUGEPAGE);
  return aligned;
}

// Seconds of processor time of this thread.
inline double processor_now() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + double(t.tv_nsec) * 1e-9;
}

// The parts of a list with commas.
inline std::vector<std::string> split(const std::string& list) {
  std::vector<std::string> out;
  for (size_t at = 0; at <= list.size();) {
    const size_t end = std::min(list.find(',', at), list.size());
    out.push_back(list.substr(at, end - at));
    at = end + 1;
  }
  return out;
}

}  // namespace octavo::test
