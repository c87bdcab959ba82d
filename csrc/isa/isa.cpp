// Detection of the instruction-set level: what the processor has and the system saves, lowered by OCTAVO_ISA.
//
// x86-64: the compiler's run-time library reads CPUID and XCR0. aarch64: the system's list of hardware capabilities.
#include "isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace octavo {

namespace {

#if defined(__x86_64__)

bool has_level(Isa isa) {
  __builtin_cpu_init();
  switch (isa) {
    case Isa::avx2:
      return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
    case Isa::avx512:
      return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
    case Isa::avx512_bf16: return __builtin_cpu_supports("avx512bf16");
    default: return false;
  }
}

constexpr Isa family[] = {Isa::avx2, Isa::avx512, Isa::avx512_bf16};

#elif defined(__aarch64__)

#if defined(__linux__)

// Bits of the kernel's interface (Linux, Documentation/arch/arm64/elf_hwcaps); older headers lack some of the names.
constexpr unsigned long dot_products = 1ul << 20, halves = 3ul << 9;  // AT_HWCAP: ASIMDDP; FPHP and ASIMDHP
constexpr unsigned long matrix_and_bf16 = 3ul << 13;                  // AT_HWCAP2: I8MM, BF16

bool has_dot_products() { return (getauxval(AT_HWCAP) & dot_products) != 0; }
bool has_matrix_products() {
  return (getauxval(AT_HWCAP) & halves) == halves && (getauxval(AT_HWCAP2) & matrix_and_bf16) == matrix_and_bf16;
}

#elif defined(__APPLE__)

bool feature(const char* name) {
  int value = 0;
  size_t size = sizeof(value);
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}
bool has_dot_products() { return feature("hw.optional.arm.FEAT_DotProd"); }
bool has_matrix_products() {
  return feature("hw.optional.arm.FEAT_FP16") && feature("hw.optional.arm.FEAT_I8MM") &&
         feature("hw.optional.arm.FEAT_BF16");
}

#else

bool has_dot_products() { return false; }
bool has_matrix_products() { return false; }

#endif

bool has_level(Isa isa) {
  switch (isa) {
    case Isa::neon: return true;  // part of the architecture
    case Isa::neon_dotprod: return has_dot_products();
    case Isa::neon_i8mm: return has_matrix_products();
    default: return false;
  }
}

constexpr Isa family[] = {Isa::neon, Isa::neon_dotprod, Isa::neon_i8mm};

#else
#error "Octavo knows the instruction sets of x86-64 and aarch64"
#endif

std::string machine_names() {
  std::string names;
  for (Isa level : machine_levels()) names += (names.empty() ? "" : ", ") + std::string(isa_name(level));
  return names;
}

}  // namespace

const char* isa_name(Isa isa) {
  switch (isa) {
    case Isa::portable: return "portable";
    case Isa::avx2: return "avx2";
    case Isa::avx512: return "avx512";
    case Isa::avx512_bf16: return "avx512_bf16";
    case Isa::neon: return "neon";
    case Isa::neon_dotprod: return "neon_dotprod";
    case Isa::neon_i8mm: return "neon_i8mm";
  }
  return "unknown";
}

IsaLevels machine_levels() {
  IsaLevels levels{{Isa::portable}, 1};
  for (Isa level : family) {
    if (!has_level(level)) break;
    levels.at[levels.count++] = level;
  }
  return levels;
}

Isa detect_machine() {
  const IsaLevels levels = machine_levels();
  return levels.at[levels.count - 1];
}

Isa isa_named(const char* name) {
  for (Isa level : machine_levels())
    if (std::string(name) == isa_name(level)) return level;
  throw std::invalid_argument("this machine has no instruction-set level '" + std::string(name) + "'; choose one of " +
                              machine_names());
}

Isa detect() {
  const char* wanted = std::getenv("OCTAVO_ISA");
  if (wanted == nullptr || *wanted == '\0') return detect_machine();
  try {
    return isa_named(wanted);
  } catch (const std::invalid_argument& error) {
    throw std::invalid_argument(std::string("OCTAVO_ISA: ") + error.what());
  }
}

}  // namespace octavo
