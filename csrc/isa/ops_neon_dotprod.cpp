// The kernels of csrc/ops at the level neon_dotprod, which neon_i8mm shares: as neon, with the products of int8 pages by
// its own instruction.

#define OCTAVO_ISA neon_dotprod
#include "../ops/vec_neon.h"

#include "../ops/table.inl"
