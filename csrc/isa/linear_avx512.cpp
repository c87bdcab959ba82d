// The linear kernels of the level avx512.
#if defined(__x86_64__)
#define OCTAVO_ISA avx512
#include "simd_avx512.h"

#include "../linear/kernels.inl"
#endif
