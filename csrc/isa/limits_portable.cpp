// The limit loops of the level portable.
#define OCTAVO_ISA portable
#include "simd_portable.h"

#include "../limits/loops.inl"
