// How many shapes the tests go through: all, or with OCTAVO_TEST_GRID=small a tenth (emulated processors).
#pragma once

#include <cstdlib>
#include <cstring>

namespace octavo::test {

inline bool small_grid() {
  const char* grid = std::getenv("OCTAVO_TEST_GRID");
  return grid != nullptr && std::strcmp(grid, "small") == 0;
}

}  // namespace octavo::test
