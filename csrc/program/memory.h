// Anonymous memory straight from the system: lazily touched, zero at first, in huge pages where the system has them.
//
// Owns the mapping. Knows nothing of what lies in it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace octavo {

class Mapping {
 public:
  // Rounds up to whole system pages; throws std::bad_alloc. Large mappings begin at a huge-page border.
  explicit Mapping(size_t bytes);
  ~Mapping();
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  uint8_t* data() const { return data_; }
  size_t bytes() const { return bytes_; }

  // Keeps pages in memory once they are touched; the system's limit counts all of them from now. The system's error
  // number, or 0.
  int lock();

  // Pages that are not touched yet go to these memory nodes in turn, huge ones as wholes. The system's error number, or 0.
  int interleave(const std::vector<int>& nodes);

  // What a mapping of `bytes` takes of memory once it is touched.
  static size_t rounded(size_t bytes);

 private:
  uint8_t* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace octavo
