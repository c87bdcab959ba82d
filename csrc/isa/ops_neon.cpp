// The kernels of csrc/ops at the level neon, which the levels above it share.

#define OCTAVO_ISA neon
#include "../ops/vec_neon.h"

#include "../ops/table.inl"
