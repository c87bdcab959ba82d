// The linear kernels of the level portable.
#define OCTAVO_ISA portable
#include "simd_portable.h"

#include "../linear/kernels.inl"
