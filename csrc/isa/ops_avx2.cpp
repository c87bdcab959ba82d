// The kernels of csrc/ops at the level avx2.

#define OCTAVO_ISA avx2
#include "../ops/vec_avx2.h"

#include "../ops/table.inl"
