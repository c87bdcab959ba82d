// The kernels of csrc/ops at the level avx512_bf16: as avx512, with the products of bf16 pages by its own instruction.

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wuninitialized"  // GCC 12's own header of max and convert intrinsics
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif

#define OCTAVO_ISA avx512_bf16
#include "../ops/vec_avx512.h"

#include "../ops/table.inl"
