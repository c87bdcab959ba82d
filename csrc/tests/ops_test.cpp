// Norms, rope, element-by-element kernels and KV pages against double precision, on every level of this machine; and
// that a row's bits do not depend on the rows around it.

#include "ops/ops.h"

#include <functional>
#include <optional>

#include "ops_check.h"
#include "pool/float_mode.h"

using namespace octavo;
using namespace octavo::test;

namespace {

const std::vector<int64_t> widths = {1, 2, 7, 15, 16, 17, 31, 32, 48, 80, 127, 256, 576, 1000};

std::string label(Isa isa, const char* what, int64_t width) {
  return std::string(isa_name(isa)) + " " + what + " " + std::to_string(width);
}

// Runs a kernel on 5 rows at once, and again row by row; the bits must agree. Rows are 3 floats longer than width, and
// what lies behind a row must survive.
std::vector<float> run_rows(int64_t width, const std::string& what,
                            const std::function<void(Rows out, int64_t begin, int64_t end)>& kernel) {
  const int64_t rows = 5, ld = width + 3;
  std::vector<float> whole(size_t(rows * ld), 77.0f), single = whole;
  kernel({whole.data(), ld}, 0, rows);
  for (int64_t r = rows - 1; r >= 0; r--) kernel({single.data(), ld}, r, r + 1);
  check_same_bits(whole, single, what + " rows alone");
  std::vector<float> packed;
  for (int64_t r = 0; r < rows; r++) {
    packed.insert(packed.end(), whole.begin() + r * ld, whole.begin() + r * ld + width);
    for (int64_t i = width; i < ld; i++)
      if (whole[size_t(r * ld + i)] != 77.0f) fail("%s wrote behind a row", what.c_str());
  }
  return packed;
}

void test_rms_norm(Isa isa, Random& random) {
  const OpKernels& ops = op_kernels(isa);
  for (int64_t width : widths) {
    for (int64_t groups : {1, 3}) {
      const int64_t ld = width * groups + 5;
      const std::vector<float> x = random.normals(size_t(5 * ld), 3), w = random.normals(size_t(width));
      const auto got = run_rows(width * groups, label(isa, "rms_norm", width), [&](Rows out, int64_t a, int64_t b) {
        ops.rms_norm({x.data(), ld}, w.data(), 1e-5f, out, a, b, groups, width);
      });
      std::vector<double> want;
      for (int64_t r = 0; r < 5; r++)
        for (int64_t g = 0; g < groups; g++) {
          const float* row = x.data() + r * ld + g * width;
          double squares = 0;
          for (int64_t i = 0; i < width; i++) squares += double(row[i]) * row[i];
          for (int64_t i = 0; i < width; i++)
            want.push_back(row[i] / std::sqrt(squares / double(width) + 1e-5) * w[size_t(i)]);
        }
      check_near(got, want, 2e-6, label(isa, "rms_norm", width));
    }
  }
}

void test_add_rms_norm(Isa isa, Random& random) {
  const OpKernels& ops = op_kernels(isa);
  for (int64_t width : widths) {
    const std::vector<float> x = random.normals(size_t(5 * width)), y = random.normals(size_t(5 * width));
    const std::vector<float> w = random.normals(size_t(width));
    std::vector<float> sum(x.size()), expected(x.size()), fused(x.size()), in_place = x;
    ops.add({x.data(), width}, {y.data(), width}, {sum.data(), width}, 0, 5, width);
    ops.rms_norm({sum.data(), width}, w.data(), 1e-6f, {expected.data(), width}, 0, 5, 1, width);
    ops.add_rms_norm({in_place.data(), width}, {y.data(), width}, w.data(), 1e-6f, {in_place.data(), width},
                     {fused.data(), width}, 0, 5, width);
    check_same_bits(sum, in_place, label(isa, "add_rms_norm sum", width));
    check_same_bits(expected, fused, label(isa, "add_rms_norm", width));
  }
}

void test_layer_norm(Isa isa, Random& random) {
  const OpKernels& ops = op_kernels(isa);
  for (int64_t width : widths) {
    for (bool with_bias : {false, true}) {
      std::vector<float> x = random.normals(size_t(5 * width), 2);
      for (float& v : x) v += 5;
      const std::vector<float> w = random.normals(size_t(width)), bias = random.normals(size_t(width));
      const auto got = run_rows(width, label(isa, "layer_norm", width), [&](Rows out, int64_t a, int64_t b) {
        ops.layer_norm({x.data(), width}, w.data(), with_bias ? bias.data() : nullptr, 1e-5f, out, a, b, width);
      });
      std::vector<double> want;
      for (int64_t r = 0; r < 5; r++) {
        const float* row = x.data() + r * width;
        double mean = 0, variance = 0;
        for (int64_t i = 0; i < width; i++) mean += row[i] / double(width);
        for (int64_t i = 0; i < width; i++) variance += (row[i] - mean) * (row[i] - mean) / double(width);
        for (int64_t i = 0; i < width; i++)
          want.push_back((row[i] - mean) / std::sqrt(variance + 1e-5) * w[size_t(i)] +
                         (with_bias ? bias[size_t(i)] : 0.0f));
      }
      // One value has no variance: what is left is the rounding of the mean, enlarged by 1 / sqrt(eps).
      check_near(got, want, width == 1 ? 1e-3 : 1e-5, label(isa, "layer_norm", width));
    }
  }
}

void test_rope(Isa isa, Random& random) {
  const OpKernels& ops = op_kernels(isa);
  for (int64_t head_dim : {8, 16, 32, 64, 80, 96, 128, 256}) {
    for (int64_t half : {head_dim / 2, head_dim / 4}) {
      const int64_t heads = 3, width = heads * head_dim;
      const double factor = half == head_dim / 2 ? 1.0 : 1.25;
      const std::vector<int32_t> positions = {0, 1, 17, 4095, 100000};
      std::vector<float> inv_freq(static_cast<size_t>(half));
      for (int64_t i = 0; i < half; i++) inv_freq[size_t(i)] = float(std::pow(10000.0, -double(i) / double(half)));
      std::vector<float> table(size_t(5 * 2 * half)), again(table.size());
      rope_table(positions.data(), inv_freq.data(), half, factor, table.data(), 0, 5);
      for (int64_t t = 4; t >= 0; t--) rope_table(positions.data(), inv_freq.data(), half, factor, again.data(), t, t + 1);
      check_same_bits(table, again, label(isa, "rope_table", half));
      const std::vector<float> x = random.normals(size_t(5 * width));
      const auto got = run_rows(width, label(isa, "rope", head_dim), [&](Rows out, int64_t a, int64_t b) {
        ops.rope({x.data(), width}, table.data(), half, out, a, b, heads, head_dim);
      });
      std::vector<float> in_place = x;
      ops.rope({x.data(), width}, table.data(), half, {in_place.data(), width}, 0, 5, heads, head_dim);
      check_same_bits(got, in_place, label(isa, "rope in place", head_dim));
      std::vector<double> want(x.begin(), x.end());
      for (int64_t t = 0; t < 5; t++)
        for (int64_t h = 0; h < heads; h++)
          for (int64_t i = 0; i < half; i++) {
            const double angle = double(float(positions[size_t(t)]) * inv_freq[size_t(i)]);
            const size_t at = size_t(t * width + h * head_dim + i);
            const double a = x[at], b = x[at + size_t(half)];
            want[at] = factor * (a * std::cos(angle) - b * std::sin(angle));
            want[at + size_t(half)] = factor * (b * std::cos(angle) + a * std::sin(angle));
          }
      check_near(got, want, 1e-6, label(isa, "rope", head_dim));
    }
  }
}

double activation_of(Activation activation, double x) {
  switch (activation) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(std::sqrt(2 / 3.141592653589793) * (x + 0.044715 * x * x * x)));
    case Activation::gelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case Activation::relu: return x > 0 ? x : 0;
  }
  return 0;
}

void test_activations(Isa isa, Random& random) {
  const OpKernels& ops = op_kernels(isa);
  for (Activation activation : {Activation::silu, Activation::gelu_tanh, Activation::gelu, Activation::relu}) {
    // Every value of interest: a sweep, both ends, zero.
    std::vector<float> x = {0.0f, -0.0f, 1e-30f, -1e-30f, 87, -87, 89, -89, 1000, -1000, 1e6f, -1e6f};
    for (float v = -12; v < 12; v += 0.00713f) x.push_back(v);
    const int64_t n = int64_t(x.size());
    std::vector<float> got(x.size());
    ops.activate({x.data(), n}, {got.data(), n}, 0, 1, n, activation);
    std::vector<double> want;
    for (float v : x) want.push_back(activation_of(activation, v));
    check_near(got, want, 5e-7, label(isa, "activation", int64_t(activation)));
    for (int64_t width : widths) {
      const std::vector<float> gate = random.normals(size_t(5 * width), 3), up = random.normals(size_t(5 * width));
      const auto rows = run_rows(width, label(isa, "gated", width), [&](Rows out, int64_t a, int64_t b) {
        ops.gated({gate.data(), width}, {up.data(), width}, out, a, b, width, activation);
      });
      std::vector<double> expected;
      for (size_t i = 0; i < gate.size(); i++) expected.push_back(activation_of(activation, gate[i]) * up[i]);
      check_near(rows, expected, 1e-6, label(isa, "gated", width));
    }
  }
}

void test_elementwise(Isa isa, Random& random) {
  const OpKernels& ops = op_kernels(isa);
  for (int64_t width : widths) {
    const std::vector<float> x = random.normals(size_t(5 * width), 20), y = random.normals(size_t(5 * width));
    const auto expect = [&](const char* name, const std::function<void(Rows, int64_t, int64_t)>& kernel,
                            const std::function<double(size_t)>& value) {
      std::vector<double> want;
      for (size_t i = 0; i < x.size(); i++) want.push_back(value(i));
      check_near(run_rows(width, label(isa, name, width), kernel), want, 1e-6, label(isa, name, width));
    };
    expect("add", [&](Rows out, int64_t a, int64_t b) { ops.add({x.data(), width}, {y.data(), width}, out, a, b, width); },
           [&](size_t i) { return x[i] + y[i]; });
    expect("add_bias", [&](Rows out, int64_t a, int64_t b) { ops.add_bias({x.data(), width}, y.data(), out, a, b, width); },
           [&](size_t i) { return x[i] + y[i % size_t(width)]; });
    expect("scale", [&](Rows out, int64_t a, int64_t b) { ops.scale({x.data(), width}, 0.3f, out, a, b, width); },
           [&](size_t i) { return x[i] * 0.3f; });
    expect("soft_cap", [&](Rows out, int64_t a, int64_t b) { ops.soft_cap({x.data(), width}, 0.5f, 30, out, a, b, width); },
           [&](size_t i) { return 30 * std::tanh(0.5 * double(x[i]) / 30); });
    const std::vector<int32_t> rows = {3, 0, 3, 4, 1};
    expect("gather_rows",
           [&](Rows out, int64_t a, int64_t b) { ops.gather_rows({x.data(), width}, rows.data(), out, a, b, width); },
           [&](size_t i) { return x[size_t(rows[i / size_t(width)]) * size_t(width) + i % size_t(width)]; });
  }
}

// Round to nearest, ties to even, by search among all finite values of the narrow type.
float widen(KvType type, uint16_t bits) {
  if (type == KvType::bf16) {
    const uint32_t wide = uint32_t(bits) << 16;
    float f;
    std::memcpy(&f, &wide, 4);
    return f;
  }
  const int exponent = bits >> 10 & 31, fraction = bits & 0x3ff;
  const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                           : exponent     ? std::ldexp(1024 + fraction, exponent - 25)
                                          : std::ldexp(fraction, -24);
  return float(bits & 0x8000 ? -magnitude : magnitude);
}

uint16_t nearest(KvType type, float x) {
  const uint16_t sign = std::signbit(x) ? 0x8000 : 0, top = type == KvType::f16 ? 0x7c00 : 0x7f80;
  const double target = std::fabs(double(x));
  uint16_t low = 0, high = top;  // low <= target < high as magnitudes
  while (high - low > 1) {
    const uint16_t middle = uint16_t((low + high) / 2);
    (double(widen(type, middle)) <= target ? low : high) = middle;
  }
  // The step above the largest finite value counts as if the exponent went on.
  const double above = high == top ? (type == KvType::f16 ? 65536.0 : 0x1p128) : double(widen(type, high));
  const double down = target - double(widen(type, low)), up = above - target;
  const bool round_up = up < down || (up == down && (low & 1));
  return uint16_t(sign | (round_up ? high : low));
}

std::vector<float> conversion_values(Random& random, int64_t count) {
  std::vector<float> x = {0.0f, -0.0f, 65504, 65519.99f, 65520, 65536, -70000, 6e-8f, 2.98e-8f, 2.99e-8f, -8.9407e-8f,
                          6.1e-5f, 6.0975552e-5f, 1.0009766f, 1.0004883f, 1.0014648f, 3.3895e38f, 1e-38f};
  while (int64_t(x.size()) < count) {
    const uint32_t bits = uint32_t(random.next());
    float f;
    if (x.size() % 2) f = std::ldexp(random.normal(), int(random.below(44)) - 28);
    else std::memcpy(&f, &bits, 4);
    if (std::isfinite(f) && (f == 0 || std::fabs(f) > 1.2e-38f)) x.push_back(f);
  }
  return x;
}

void test_store_kv(Isa isa, Random& random, bool flush) {
  const OpKernels& ops = op_kernels(isa);
  for (KvType type : {KvType::f32, KvType::f16, KvType::bf16})
    for (int32_t page_size : {16, 32, 64})
      for (int32_t head_dim : {8, 16, 20, 64, 80, 128}) {
        const int32_t heads = 3, layers = 2, tokens = 37, num_pages = 5;
        const int64_t page_bytes = kv_page_bytes(type, page_size, heads, head_dim, layers);
        std::vector<uint8_t> pool(size_t(num_pages * page_bytes), 0xab), expected = pool;
        const KvView kv{pool.data(), page_bytes, type, page_size, heads, head_dim, 1};
        const int64_t width = int64_t(heads) * head_dim, ld = width + 16;
        const std::vector<float> k = conversion_values(random, tokens * ld), v = conversion_values(random, tokens * ld);
        std::vector<int32_t> pages, offsets;
        for (int32_t t = 0; t < tokens; t++) {  // from offset 13 of page 2, on to the pages 0, 4, ...
          const int32_t place = t + 13;
          pages.push_back(t == 20 ? -1 : (2 + 3 * (place / page_size)) % num_pages);
          offsets.push_back(place % page_size);
        }
        {
          std::optional<FloatMode> mode;  // the expectation below needs subnormals
          if (flush) mode.emplace();
          ops.store_kv({k.data(), ld}, {v.data(), ld}, kv, pages.data(), offsets.data(), 0, 9);
          ops.store_kv({k.data(), ld}, {v.data(), ld}, kv, pages.data(), offsets.data(), 9, tokens);
        }
        const int64_t element = kv_element_bytes(type);
        for (int32_t t = 0; t < tokens; t++)
          for (int64_t i = 0; i < width && pages[size_t(t)] >= 0; i++) {
            const int64_t head = i / head_dim, d = i % head_dim, tile = offsets[size_t(t)] / 16, lane = offsets[size_t(t)] % 16;
            uint8_t* page = expected.data() + pages[size_t(t)] * page_bytes;
            const auto put = [&](int64_t at, float value) {
              const uint16_t narrow = type == KvType::f32 ? uint16_t(0) : nearest(type, value);
              if (type == KvType::f32) std::memcpy(page + at, &value, 4);
              else std::memcpy(page + at, &narrow, 2);
            };
            const int64_t p = kv_step(type);
            put(kv_k_offset(kv, head, tile) + (d / p * 16 * p + lane * p + d % p) * element, k[size_t(t * ld + i)]);
            put(kv_v_offset(kv, head, tile) + (lane / p * head_dim * p + d * p + lane % p) * element,
                v[size_t(t * ld + i)]);
          }
        check_same_bits(pool, expected, label(isa, "store_kv", int64_t(type) * 1000 + head_dim));
      }
}

// int8 pages: bytes and scales of every level are those of a scalar program; what is not finite marks its token.
void test_store_int8(Isa isa, Random& random) {
  const int32_t heads = 2, page_size = 32, head_dim = 20, tokens = 20;
  const int64_t page_bytes = kv_page_bytes(KvType::int8, page_size, heads, head_dim, 1), width = heads * head_dim;
  std::vector<uint8_t> pool(size_t(page_bytes + kv_slack), 0xab);
  const KvView kv{pool.data(), page_bytes, KvType::int8, page_size, heads, head_dim, 0};
  std::vector<float> k = random.normals(size_t(tokens * width), 3), v = random.normals(size_t(tokens * width));
  std::fill_n(k.begin() + 2 * width, width, 0.0f);
  k[size_t(3 * width + 1)] = INFINITY;
  v[size_t(4 * width + 2)] = NAN;
  v[size_t(5 * width)] = 1e30f;   // beyond any scale
  v[size_t(6 * width)] = 2e-7f;   // a scale with few bits, and values above 127 of it
  std::vector<int32_t> pages(tokens, 0), offsets;
  for (int32_t t = 0; t < tokens; t++) offsets.push_back(t + 5);
  {
    const FloatMode mode;
    op_kernels(isa).store_kv({k.data(), width}, {v.data(), width}, kv, pages.data(), offsets.data(), 0, tokens);
  }
  for (int32_t t = 0; t < tokens; t++)
    for (int64_t head = 0; head < heads; head++) {
      const int64_t tile = offsets[size_t(t)] / 16, lane = offsets[size_t(t)] % 16;
      const bool broken = head == 0 && t >= 3 && t <= 5;
      for (int side = 0; side < 2; side++) {
        const float* x = (side ? v : k).data() + t * width + head * head_dim;
        float most = 0;
        for (int64_t d = 0; d < head_dim; d++) most = std::max(most, std::fabs(x[d]));
        uint16_t scale;
        std::memcpy(&scale, pool.data() + (side ? kv_v_scale_offset(kv, head, tile) : kv_k_scale_offset(kv, head, tile)) + lane * 2, 2);
        const uint16_t want = broken ? (side ? 0 : 0x7e00) : nearest(KvType::f16, most / 127.0f);
        if (scale != want) return fail("%s: int8 scale of token %d is %x, not %x", isa_name(isa), t, scale, want);
        for (int64_t d = 0; d < head_dim && !broken; d++) {
          const int64_t at = side ? kv_v_offset(kv, head, tile) + lane / 4 * head_dim * 4 + d * 4 + lane % 4
                                  : kv_k_offset(kv, head, tile) + d / 4 * 64 + lane * 4 + d % 4;
          const float unit = widen(KvType::f16, scale);
          const float level = unit == 0 ? 0 : std::nearbyint(std::min(127.0f, std::max(-127.0f, x[d] * (1.0f / unit))));
          const int found = signed_bytes ? int(int8_t(pool[size_t(at)])) : int(pool[size_t(at)]) - 128;
          if (found != int(level))
            return fail("%s: int8 [%d][%ld] is %d, not %g", isa_name(isa), t, long(d), found, double(level));
        }
      }
    }
}

}  // namespace

int main() {
  for (Isa isa : op_levels()) {
    Random random{7};
    for (bool flush : {false, true}) {
      test_store_kv(isa, random, flush);
      test_store_int8(isa, random);
      std::optional<FloatMode> mode;
      if (flush) mode.emplace();
      test_rms_norm(isa, random);
      test_add_rms_norm(isa, random);
      test_layer_norm(isa, random);
      test_rope(isa, random);
      test_activations(isa, random);
      test_elementwise(isa, random);
    }
  }
  return finish("ops_test");
}
