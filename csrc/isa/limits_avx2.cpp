// The limit loops of the level avx2.
#if defined(__x86_64__)
#define OCTAVO_ISA avx2
#include "simd_avx2.h"

#include "../limits/loops.inl"
#endif
