// Instruction-set levels of the CPU kernels and which one this process uses.
//
// Every level is compiled from the same kernel sources in its own translation unit and namespace (octavo::avx2, ...),
// so that no function compiled for a higher level can be linked into a lower one. Nothing here knows a kernel.
#pragma once

namespace octavo {

// Ascending: a machine that has one level has every level before it.
enum class Isa { portable = 0, avx2 = 1, avx512 = 2, avx512_bf16 = 3 };

// The highest level that this machine, its system and this build support.
Isa detect_machine();

// detect_machine(), lowered by the environment variable OCTAVO_ISA (a name as isa_name gives it).
// Throws std::invalid_argument where the variable names no level or one that this machine lacks.
Isa detect();

const char* isa_name(Isa isa);

}  // namespace octavo
