// Instruction-set levels of the CPU kernels and which one this process uses.
//
// Every level is compiled from the same kernel sources in its own translation unit and namespace (octavo::avx2, ...),
// so that no function compiled for a higher level can be linked into a lower one. Nothing here knows a kernel.
#pragma once

namespace octavo {

// portable is for every processor, the next three are for x86-64, the last three for aarch64.
enum class Isa { portable, avx2, avx512, avx512_bf16, neon, neon_dotprod, neon_i8mm };

// What the products of bytes take on this kind of processor: packed bytes that use all 8 bits are kept as they are
// (signed), or with 128 added (unsigned, beside signed activations).
#if defined(__aarch64__)
constexpr bool signed_bytes = true;
#else
constexpr bool signed_bytes = false;
#endif

// Levels in ascending order: what one level can do, the later ones can do too.
struct IsaLevels {
  Isa at[4];
  int count;
  const Isa* begin() const { return at; }
  const Isa* end() const { return at + count; }
};

// The levels that this machine, its system and this build support; portable is the first.
IsaLevels machine_levels();

// The highest of them.
Isa detect_machine();

// detect_machine(), or what the environment variable OCTAVO_ISA names (as isa_name gives it).
// Throws std::invalid_argument where the variable names no level or one that this machine lacks.
Isa detect();

const char* isa_name(Isa isa);

// The level of that name. Throws std::invalid_argument, with the names there are, for one that this machine lacks.
Isa isa_named(const char* name);

}  // namespace octavo
