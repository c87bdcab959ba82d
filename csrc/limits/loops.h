// Loops that show what the machine can do: reading memory, copying it, and the multiply instructions of a level.
//
// For one thread, over raw pointers. They work as kernels do, several streams at once. Nothing here knows a kernel.
#pragma once

#include <cstdint>

#include "../isa/isa.h"

namespace octavo {

// Which multiply instruction a loop repeats.
enum class Arithmetic : int32_t { f32 = 0, bf16 = 1, int8 = 2 };

// The loops of one instruction-set level, for one thread.
struct LimitLoops {
  // Reads `bytes` (a multiple of kLimitLine) in several streams; returns something that depends on all of them.
  uint64_t (*read)(const uint8_t* data, int64_t bytes);
  // Copies `bytes` (a multiple of kLimitLine) from one place to another.
  void (*copy)(const uint8_t* from, uint8_t* to, int64_t bytes);
  // Repeats independent multiply-adds over registers; the result depends on all of them.
  uint64_t (*multiply[3])(int64_t rounds);
  // Operations of a round, two for a multiply-add; 0 where the level has no instruction for that arithmetic.
  int64_t round_operations[3];
};

constexpr int64_t kLimitStreams = 8;
constexpr int64_t kLimitLine = 64 * kLimitStreams;

const LimitLoops& limit_loops(Isa isa);

}  // namespace octavo
