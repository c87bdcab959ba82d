// See weights.h.
#include "program/weights.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace octavo {

namespace {

// Packing reads and writes about as many bytes: chunks of about this many keep workers busy and balanced.
constexpr size_t kPackChunk = size_t{256} << 10;

}  // namespace

size_t Matrix::bytes(Format format, int64_t n, int64_t k) {
  if (!is_known(format))
    throw std::invalid_argument("no kernel for the format number " + std::to_string(static_cast<int>(format)));
  if (n <= 0 || k <= 0 || k % block_length(format) != 0)
    throw std::invalid_argument("a matrix of " + std::to_string(n) + " x " + std::to_string(k) +
                                " is not made of whole blocks of " + std::to_string(block_length(format)));
  return Mapping::rounded(packed_bytes(format, n, k));
}

Matrix::Matrix(Pool& pool, Format format, int64_t n, int64_t k, const uint8_t* rows, const int64_t* offsets)
    : memory_(bytes(format, n, k)), packed_{format, n, k, memory_.data()} {
  const int64_t grain = static_cast<int64_t>(std::max<size_t>(1, kPackChunk / group_bytes(format, k)));
  pool.parallel(group_count(n), grain, [&](int64_t begin, int64_t end, int) {
    pack(format, n, k, rows, 1, offsets, memory_.data(), begin, end);
  });
}

}  // namespace octavo
