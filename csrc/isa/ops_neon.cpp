// The kernels of csrc/ops at the level neon.

#define OCTAVO_ISA neon
#include "../ops/vec_neon.h"

#include "../ops/table.inl"
