// Detection of the instruction-set level: ascending levels, OCTAVO_ISA, and its refusals, which name what there is.
//
// OCTAVO_TEST_ISA, where set, is the level that this machine must turn out to have (an emulated processor's, say).
#include "isa/isa.h"

#include <cstdio>
#include <cstdlib>
#include <stdexcept>
#include <string>

using namespace octavo;

namespace {

int failures = 0;

void require(bool holds, const std::string& what) {
  if (!holds) failures++, std::printf("FAIL %s\n", what.c_str());
}

std::string refusal(const char* variable) {
  setenv("OCTAVO_ISA", variable, 1);
  try {
    detect();
  } catch (const std::invalid_argument& error) {
    return error.what();
  }
  return "";
}

}  // namespace

int main() {
  const IsaLevels levels = machine_levels();
  const Isa best = detect_machine();
  require(levels.count > 0 && levels.at[0] == Isa::portable && levels.at[levels.count - 1] == best, "portable to best");
  unsetenv("OCTAVO_ISA");
  require(detect() == best, "the best level by default");
  for (Isa level : levels) {
    require(isa_named(isa_name(level)) == level, std::string("the name ") + isa_name(level));
    setenv("OCTAVO_ISA", isa_name(level), 1);
    require(detect() == level, std::string("OCTAVO_ISA=") + isa_name(level));
  }
#if defined(__aarch64__)
  const char* foreign = "avx2";
#else
  const char* foreign = "neon";
#endif
  for (const char* name : {"mmx", foreign}) {
    const std::string message = refusal(name);
    require(message.find(std::string("'") + name + "'") != std::string::npos, "the refusal names " + std::string(name));
    for (Isa level : levels) require(message.find(isa_name(level)) != std::string::npos, "the refusal names the levels");
  }
  const char* expected = std::getenv("OCTAVO_TEST_ISA");
  if (expected != nullptr) require(std::string(expected) == isa_name(best), std::string("this machine has ") + expected);
  std::printf("isa: %s (%s)\n", failures == 0 ? "ok" : "FAILED", isa_name(best));
  return failures != 0;
}
