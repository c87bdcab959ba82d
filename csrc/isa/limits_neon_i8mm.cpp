// The limit loops of the level neon_i8mm.
#if defined(__aarch64__)
#define OCTAVO_ISA neon_i8mm
#include "simd_neon.h"

#include "../limits/loops.inl"
#endif
