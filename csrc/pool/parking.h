// Where waiting workers sleep: a futex on Linux, std::atomic's wait elsewhere.
//
// Waking costs a system call only when somebody sleeps. Knows nothing of what is waited for.
#pragma once

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <climits>
#endif

namespace octavo {

class Parking {
 public:
  // Sleeps until woken, unless `changed()` is already true. May return early; callers check again.
  template <typename Changed>
  void sleep_unless(const Changed& changed) {
    const uint32_t seen = turn_.load(std::memory_order_seq_cst);
    // The sleeper raises its hand and then looks; the waker changes the world and then looks for hands. Both in one
    // total order, so at least one of them sees the other.
    sleepers_.fetch_add(1, std::memory_order_seq_cst);
    if (!changed()) wait(seen);
    sleepers_.fetch_sub(1, std::memory_order_seq_cst);
  }

  // Call after the change that sleepers look for (made with seq_cst).
  void wake_all() {
    if (sleepers_.load(std::memory_order_seq_cst) == 0) return;
    turn_.fetch_add(1, std::memory_order_seq_cst);
#if defined(__linux__)
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&turn_), FUTEX_WAKE_PRIVATE, INT_MAX, nullptr, nullptr, 0);
#else
    turn_.notify_all();
#endif
  }

 private:
  void wait(uint32_t seen) {
#if defined(__linux__)
    syscall(SYS_futex, reinterpret_cast<uint32_t*>(&turn_), FUTEX_WAIT_PRIVATE, seen, nullptr, nullptr, 0);
#else
    turn_.wait(seen, std::memory_order_seq_cst);
#endif
  }

  std::atomic<uint32_t> turn_{0};
  std::atomic<uint32_t> sleepers_{0};
};

}  // namespace octavo
