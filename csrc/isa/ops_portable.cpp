// The kernels of csrc/ops at the level portable.

#define OCTAVO_ISA portable
#include "../ops/vec_portable.h"

#include "../ops/table.inl"
