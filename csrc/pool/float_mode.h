// One floating-point mode for every worker: subnormals are flushed to zero, rounding is to nearest.
//
// Owns the control register while in scope and gives back what it found (the caller of a step is a Python thread).
#pragma once

#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace octavo {

class FloatMode {
 public:
#if defined(__x86_64__)
  FloatMode() : saved_(_mm_getcsr()) { _mm_setcsr(0x1f80u | 0x8040u); }  // all exceptions masked, FTZ, DAZ
  ~FloatMode() { _mm_setcsr(saved_); }
#elif defined(__aarch64__)
  FloatMode() {
    asm volatile("mrs %0, fpcr" : "=r"(saved_));
    asm volatile("msr fpcr, %0" ::"r"(uint64_t{1} << 24));  // FZ
  }
  ~FloatMode() { asm volatile("msr fpcr, %0" ::"r"(saved_)); }
#else
#error "Octavo knows the floating-point control of x86-64 and aarch64"
#endif
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
#if defined(__x86_64__)
  uint32_t saved_;
#else
  uint64_t saved_;
#endif
};

// A short pause inside a spinning loop.
inline void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace octavo
