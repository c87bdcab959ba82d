// The limit loops of the level neon_dotprod.
#if defined(__aarch64__)
#define OCTAVO_ISA neon_dotprod
#include "simd_neon.h"

#include "../limits/loops.inl"
#endif
