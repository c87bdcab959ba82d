// The limit loops of the level avx512_bf16.
#if defined(__x86_64__)
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12's own header of conversions
#endif
#define OCTAVO_ISA avx512_bf16
#include "simd_avx512.h"

#include "../limits/loops.inl"
#endif
