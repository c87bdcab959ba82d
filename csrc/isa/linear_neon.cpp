// The linear kernels of the level neon.
#if defined(__aarch64__)
#define OCTAVO_ISA neon
#include "simd_neon.h"

#include "../linear/kernels.inl"
#endif
