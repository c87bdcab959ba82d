// The limit loops of the level neon.
#if defined(__aarch64__)
#define OCTAVO_ISA neon
#include "simd_neon.h"

#include "../limits/loops.inl"
#endif
