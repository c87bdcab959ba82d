// Detection of the instruction-set level: what the processor has and the system saves (the compiler's run-time library
// reads CPUID and XCR0), lowered by OCTAVO_ISA.
#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace octavo {

namespace {

constexpr Isa levels[] = {Isa::portable, Isa::avx2, Isa::avx512, Isa::avx512_bf16};

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512_bf16: return "avx512_bf16";
  }
  return "unknown";
}

Isa detect_machine() {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (!(__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")))
    return Isa::portable;
  if (!(__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vnni")))
    return Isa::avx2;
  return __builtin_cpu_supports("avx512bf16") ? Isa::avx512_bf16 : Isa::avx512;
#else
  return Isa::portable;
#endif
}

Isa detect() {
  const Isa machine = detect_machine();
  const char* wanted = std::getenv("OCTAVO_ISA");
  if (wanted == nullptr || *wanted == '\0') return machine;
  for (Isa level : levels) {
    if (std::string(wanted) != isa_name(level)) continue;
    if (level > machine)
      throw std::invalid_argument(std::string("OCTAVO_ISA=") + wanted + ": this machine supports at most " +
                                  isa_name(machine) + "; unset the variable or choose a lower level");
    return level;
  }
  throw std::invalid_argument(std::string("OCTAVO_ISA=") + wanted +
                              ": unknown level; choose one of portable, avx2, avx512, avx512_bf16");
}

}  // namespace octavo
