// The linear kernels of the level avx512_bf16.
#if defined(__x86_64__)
#define OCTAVO_ISA avx512_bf16
#define OCTAVO_LINEAR_BASE avx512
#include "simd_avx512.h"

#include "../linear/kernels.inl"
#endif
