// See memory.h.
#include "program/memory.h"

#include <sys/mman.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/syscall.h>
#endif

#include <cerrno>
#include <new>

namespace octavo {

namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr int kMaxNode = 1024;
constexpr int kInterleave = 3;  // MPOL_INTERLEAVE of linux/mempolicy.h, which not every system has a copy of

}  // namespace

size_t Mapping::rounded(size_t bytes) {
  static const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

Mapping::Mapping(size_t bytes) : bytes_(rounded(bytes)) {
  if (bytes_ == 0) return;
  const size_t slack = bytes_ >= kHugePage ? kHugePage : 0;
  void* raw = mmap(nullptr, bytes_ + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (raw == MAP_FAILED) throw std::bad_alloc();
  auto* start = static_cast<uint8_t*>(raw);
  data_ = start;
  if (slack != 0) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(start);
    const size_t before = (kHugePage - address % kHugePage) % kHugePage;
    data_ = start + before;
    if (before != 0) munmap(start, before);
    if (slack != before) munmap(data_ + bytes_, slack - before);
#if defined(MADV_HUGEPAGE)
    // Advice for the whole huge pages alone, so that the tail takes no more than it needs. The system may decline.
    (void)madvise(data_, bytes_ / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  }
}

Mapping::~Mapping() {
  if (data_ != nullptr) munmap(data_, bytes_);
}

int Mapping::lock() {
  if (bytes_ == 0) return 0;
#if defined(__linux__) && defined(SYS_mlock2) && defined(MLOCK_ONFAULT)
  return syscall(SYS_mlock2, data_, bytes_, MLOCK_ONFAULT) == 0 ? 0 : errno;
#else
  return mlock(data_, bytes_) == 0 ? 0 : errno;
#endif
}

int Mapping::interleave(const std::vector<int>& nodes) {
  if (bytes_ == 0 || nodes.empty()) return 0;
#if defined(__linux__) && defined(SYS_mbind)
  constexpr int kBits = 8 * sizeof(unsigned long);
  unsigned long mask[kMaxNode / kBits] = {};
  for (const int node : nodes) {
    if (node < 0 || node >= kMaxNode) return EINVAL;
    mask[node / kBits] |= 1ul << (node % kBits);
  }
  // The system counts one bit less than it is told.
  const auto bits = static_cast<unsigned long>(kMaxNode) + 1;
  return syscall(SYS_mbind, data_, bytes_, kInterleave, mask, bits, 0u) == 0 ? 0 : errno;
#else
  return ENOSYS;
#endif
}

}  // namespace octavo
