// Checks the linear kernels of every instruction-set level that this machine has against a scalar reference that reads
// the file layout and follows the formulas of linear.h literally. Prints one line per level; exit code 1 on a
// difference.
//
// Per level, format and shape: quantize and multiply bit-equal to the reference for each number of rows, equal for any
// split of the groups, untouched outside the range asked for; the epilogue; rows taken by an index; unpack_row; weights
// and activations of the largest magnitudes, where int16 sums are nearest to overflow; scales of every size.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../linear/linear.h"
#include "file_reference.h"
#include "grid.h"

using namespace octavo;
using namespace octavo::test;

namespace {

int failures = 0;

void fail(const std::string& what) {
  if (++failures <= 20) std::printf("FAIL %s\n", what.c_str());
}

struct Case {
  Isa isa;
  Format format;
  int64_t n, k, rows;
  std::string name() const {
    return std::string(isa_name(isa)) + " " + format_name(format) + " N=" + std::to_string(n) + " K=" +
           std::to_string(k) + " rows=" + std::to_string(rows);
  }
};

// The reference is the definition on every level but one: vdpbf16ps has its own rounding, so there BF16 is compared
// with a tolerance, and its exactness checks are the ones between shapes.
bool is_exact(const Case& c) { return !(c.format == Format::BF16 && c.isa == Isa::avx512_bf16); }

bool same_bits(float a, float b) {
  return std::memcmp(&a, &b, 4) == 0 || (std::isnan(a) && std::isnan(b));
}

class Weight {
 public:
  Weight(Format format, int64_t n, int64_t k, uint32_t seed) : Weight(format, n, k, random_file(format, n, k, seed)) {}

  Weight(Format format, int64_t n, int64_t k, std::vector<uint8_t> rows)
      : file(std::move(rows)), packed(aligned(packed_bytes(format, n, k))), values{format, n, k, packed.get()} {
    // Two calls and a permutation that is undone, so that ranges and row_index are used everywhere.
    std::vector<uint8_t> reversed(file.size());
    std::vector<int64_t> index(size_t(n), 0);
    const size_t stride = row_bytes(format, k);
    for (int64_t i = 0; i < n; i++) {
      index[size_t(i)] = n - 1 - i;
      std::memcpy(&reversed[size_t(n - 1 - i) * stride], &file[size_t(i) * stride], stride);
    }
    const int64_t half = group_count(n) / 2;
    pack(format, n, k, file.data(), stride, nullptr, packed.get(), 0, half);
    pack(format, n, k, reversed.data(), stride, index.data(), packed.get(), half, group_count(n));
  }

  std::vector<uint8_t> file;
  Aligned packed;
  PackedWeight values;
};

std::vector<float> multiply(const Case& c, const Weight& w, const std::vector<float>& x, int64_t chunk,
                            Epilogue epilogue = Epilogue::store, float before = 7.0f) {
  const LinearKernels& kernels = linear_kernels(c.isa);
  const ActKind kind = act_kind(c.format);
  const size_t stride = act_bytes(kind, c.k);
  Aligned act = aligned(stride * size_t(c.rows)), scratch = aligned(scratch_bytes(c.format, c.k));
  kernels.quantize(kind, x.data(), c.k, c.rows, c.k, act.get());
  std::vector<float> out(size_t(c.rows * c.n), before);
  for (int64_t g = 0; g < group_count(c.n); g += chunk) {
    const int64_t end = g + chunk < group_count(c.n) ? g + chunk : group_count(c.n);
    kernels.multiply({w.values, act.get(), stride, c.rows, out.data(), c.n, g, end, epilogue, scratch.get(),
                      chunk == 1 ? w.values.data : nullptr});
  }
  return out;
}

void check_quantize(const Case& c, const std::vector<float>& x) {
  if (act_kind(c.format) != ActKind::q8) return;
  const size_t stride = act_bytes(ActKind::q8, c.k);
  Aligned act = aligned(stride * size_t(c.rows));
  linear_kernels(c.isa).quantize(ActKind::q8, x.data(), c.k, c.rows, c.k, act.get());
  for (int64_t r = 0; r < c.rows; r++)
    for (int64_t b = 0; b < c.k / act_block; b++) {
      const ActBlock expected = reference_act_block(&x[size_t(r * c.k + b * act_block)]);
      if (std::memcmp(act.get() + size_t(r) * stride + size_t(b) * sizeof(ActBlock), &expected, sizeof(ActBlock)) != 0)
        return fail("quantize " + c.name());
    }
}

void check_values(const Case& c, const std::vector<float>& out, const std::vector<float>& expected) {
  for (size_t i = 0; i < out.size(); i++) {
    const bool good = is_exact(c) ? same_bits(out[i], expected[i])
                                  : std::fabs(out[i] - expected[i]) <= 1e-4f * (1 + std::fabs(expected[i]));
    if (!good)
      return fail(c.name() + " row " + std::to_string(i / size_t(c.n)) + " output " + std::to_string(i % size_t(c.n)) +
                  ": " + std::to_string(out[i]) + " instead of " + std::to_string(expected[i]));
  }
}

void check_unpack(const Weight& w) {
  std::vector<float> got(size_t(w.values.k)), expected(size_t(w.values.k));
  for (int64_t n = 0; n < w.values.n; n++) {
    unpack_row(w.values, n, got.data());
    reference_dequantize(w.values.format, w.file.data() + size_t(n) * row_bytes(w.values.format, w.values.k),
                         w.values.k, expected.data());
    for (size_t i = 0; i < got.size(); i++)
      if (got[i] != expected[i]) return fail(std::string("unpack_row ") + format_name(w.values.format));
  }
}

// All checks of one weight on all levels.
void check_weight(Format format, int64_t n, int64_t k, const std::vector<Isa>& levels) {
  const Weight w(format, n, k, uint32_t(n * 1000 + k) + uint32_t(format));
  check_unpack(w);
  const int64_t max_rows = 64;
  const std::vector<float> x = random_activations(max_rows, k);
  const std::vector<float> expected = reference_product(format, w.file.data(), n, k, x.data(), max_rows);
  for (Isa isa : levels) {
    const std::vector<float> all = multiply({isa, format, n, k, max_rows}, w, x, group_count(n));
    for (int64_t rows : {1, 2, 3, 7, 8, 16, 17, 64}) {
      const Case c{isa, format, n, k, rows};
      const std::vector<float> part(x.begin(), x.begin() + rows * k);
      const std::vector<float> out = multiply(c, w, part, group_count(n));
      if (rows == 17) check_quantize(c, part);
      check_values(c, out, std::vector<float>(expected.begin(), expected.begin() + rows * n));
      if (std::memcmp(out.data(), all.data(), out.size() * 4) != 0) fail("rows change values: " + c.name());
      for (int64_t chunk : {1, 3})
        if (multiply(c, w, part, chunk) != out) fail("split changes values: " + c.name());
      if (rows == 3) {
        const std::vector<float> added = multiply(c, w, part, group_count(n), Epilogue::add, 0.75f);
        for (size_t i = 0; i < added.size(); i++)
          if (!same_bits(added[i], 0.75f + out[i])) { fail("epilogue add: " + c.name()); break; }
      }
    }
  }
}

// Many rows: the first 64 again and again.
void check_many_rows(Format format, int64_t n, int64_t k, const std::vector<Isa>& levels) {
  const Weight w(format, n, k, 5);
  const std::vector<float> x = random_activations(64, k);
  std::vector<float> many;
  for (int i = 0; i < 8; i++) many.insert(many.end(), x.begin(), x.end());
  for (Isa isa : levels) {
    const std::vector<float> few = multiply({isa, format, n, k, 64}, w, x, group_count(n));
    const Case c{isa, format, n, k, 512};
    const std::vector<float> out = multiply(c, w, many, 2);
    for (size_t i = 0; i < 8; i++)
      if (std::memcmp(&out[i * few.size()], few.data(), few.size() * 4) != 0)
        return fail("rows change values: " + c.name());
  }
}

// Blocks whose bytes are all `fill`, with scales of the half `scale`.
std::vector<uint8_t> constant_file(Format format, int64_t n, int64_t k, uint8_t fill, uint16_t scale) {
  std::vector<uint8_t> file(row_bytes(format, k) * size_t(n), fill);
  const size_t block = row_bytes(format, block_length(format));
  const bool two = format == Format::Q4_1 || format == Format::Q5_1 || format == Format::Q4_K ||
                   format == Format::Q5_K || format == Format::Q2_K;
  const size_t at = format == Format::Q2_K ? 80 : format == Format::Q3_K ? 108 : format == Format::Q6_K ? 208 : 0;
  for (size_t b = 0; b < file.size(); b += block) {
    std::memcpy(&file[b + at], &scale, 2);
    if (two) std::memcpy(&file[b + at + 2], &scale, 2);
  }
  return file;
}

// The largest weights against the largest activations of each sign, alike and in turns; scales from 2^-24 to 65504.
void check_magnitudes(Format format, const std::vector<Isa>& levels) {
  const int64_t n = 16, k = 256, rows = 9;
  std::vector<float> x(size_t(rows * k));
  for (int64_t r = 0; r < rows; r++)
    for (int64_t i = 0; i < k; i++)
      x[size_t(r * k + i)] = r % 4 < 2 ? float(1 - r % 4 * 2) : i / (r % 4 - 1) % 2 == 0 ? 1.0f : -1.0f;
  for (int fill : {0x00, 0x7f, 0x80, 0xff})
    for (int scale : {0x3c00, 0xbc00, 0x0001, 0x7bff, 0x0000}) {
      const Weight w(format, n, k, constant_file(format, n, k, uint8_t(fill), uint16_t(scale)));
      const std::vector<float> expected = reference_product(format, w.file.data(), n, k, x.data(), rows);
      for (Isa isa : levels) {
        const Case c{isa, format, n, k, rows};
        check_values(c, multiply(c, w, x, 1), expected);
      }
    }
}

// Writes nothing outside the groups asked for; extreme activations; a row that is not finite hurts no other.
void check_edges(Isa isa) {
  const int64_t n = 72, k = 256, rows = 9;
  for (Format format : all_formats) {
    const Weight w(format, n, k, 77);
    const LinearKernels& kernels = linear_kernels(isa);
    const size_t stride = act_bytes(act_kind(format), k);
    std::vector<float> x = random_activations(rows, k);
    for (int64_t i = 0; i < k; i++) {
      x[size_t(k + i)] = i % 3 == 0 ? 3e38f : -3e38f;  // products may overflow to infinity, never crash
      x[size_t(2 * k + i)] = i % 2 == 0 ? 1e-38f : -1e-41f;
      x[size_t(3 * k + i)] = 0;
    }
    x[size_t(4 * k + 5)] = NAN;
    x[size_t(5 * k + 9)] = INFINITY;
    Aligned act = aligned(stride * rows), scratch = aligned(scratch_bytes(format, k));
    kernels.quantize(act_kind(format), x.data(), k, rows, k, act.get());
    std::vector<float> out(size_t(rows) * 80, -1.0f);
    kernels.multiply({w.values, act.get(), stride, rows, out.data(), 80, 1, 5, Epilogue::store, scratch.get()});
    const std::string name = std::string(isa_name(isa)) + " " + format_name(format);
    for (int64_t r = 0; r < rows; r++) {
      const std::vector<float> expected = reference_product(format, w.file.data(), n, k, &x[size_t(r * k)], 1);
      for (int64_t i = 0; i < 80; i++) {
        const float value = out[size_t(r * 80 + i)];
        if (i < 16 || i >= n) {
          if (value != -1.0f) return fail("writes outside of its range: " + name);
        } else if (r == 3 ? value != 0 : (r == 4 || r == 5) && act_kind(format) == ActKind::q8 ? !std::isnan(value)
                   : format == Format::BF16 ? false : !same_bits(value, expected[size_t(i)])) {
          return fail("extreme activations, row " + std::to_string(r) + ": " + name);
        }
      }
    }
  }
}

}  // namespace

int main() {
  const IsaLevels machine = machine_levels();
  const std::vector<Isa> levels(machine.begin(), machine.end());
  int weights = 0;
  for (Format format : all_formats) {
    const int64_t block = block_length(format);
    const std::vector<int64_t> ks = block == 1 ? std::vector<int64_t>{1, 7, 64, 161}
                                    : block == 32 ? std::vector<int64_t>{32, 96, 256} : std::vector<int64_t>{256, 768};
    for (int64_t n : {1, 16, 72, 165})
      for (int64_t k : ks) {
        if (small_grid() && (n != 72 || k != ks[1])) continue;
        check_weight(format, n, k, levels);
        weights++;
      }
  }
  for (Format format : all_formats) {
    if (!small_grid()) check_many_rows(format, 40, 256, levels);
    if (act_kind(format) == ActKind::q8) check_magnitudes(format, levels);
  }
  for (Isa isa : levels) check_edges(isa);
  std::printf("linear_test: %d weights on %d levels (up to %s): %s\n", weights, int(levels.size()),
              isa_name(levels.back()), failures == 0 ? "passed" : "FAILED");
  return failures != 0;
}
