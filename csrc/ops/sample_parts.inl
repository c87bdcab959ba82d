// Vector passes over a row of logits. Included inside the namespace of a level.

static float row_max(const float* x, int64_t n) {
  Vf largest = f_set1(-__builtin_inff());
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) largest = f_max(f_load(x + i), largest);
  if (i < n) largest = f_max(f_select(m_first(int(n - i)), f_load_first(x + i, int(n - i)), largest), largest);
  return f_largest(largest);
}

// Keeps a NaN once there is one.
OCTAVO_INLINE Vf keep_nan(Vf x, Vf kept) { return f_select(m_eq(x, x), kept, x); }
OCTAVO_INLINE bool has_nan(Vf a) { return m_bits(m_eq(a, a)) != 0xffff; }

static int64_t argmax(const float* x, int64_t n) {
  Vf lanes = f_set1(-__builtin_inff()), odd = f_zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const Vf v = f_load(x + i);
    lanes = f_max(v, lanes);
    odd = keep_nan(v, odd);
  }
  if (i < n) {
    const Vf v = f_select(m_first(int(n - i)), f_load_first(x + i, int(n - i)), lanes);
    lanes = f_max(v, lanes);
    odd = keep_nan(v, odd);
  }
  if (has_nan(odd))
    for (i = 0;; i++)
      if (x[i] != x[i]) return i;
  const float largest = f_largest(lanes);
  const Vf wanted = f_set1(largest);
  i = 0;
  for (; i + 16 <= n; i += 16) {
    const uint32_t hits = m_bits(m_eq(f_load(x + i), wanted));
    if (hits) return i + __builtin_ctz(hits);
  }
  for (; i < n; i++)
    if (x[i] == largest) return i;
  return 0;
}

// Lanes within blocks of 1024 elements, blocks added in float64: the rounding does not grow with the vocabulary.
constexpr int64_t sum_block = 1024;

template <class Term> OCTAVO_INLINE double blocked_sum(int64_t n, const Term& term) {
  double total = 0;
  for (int64_t start = 0; start < n; start += sum_block) {
    const int64_t length = n - start < sum_block ? n - start : sum_block;
    Vf lanes = f_zero();
    each_lane_group(length, [&](int64_t i, int count) __attribute__((always_inline)) {
      lanes = f_add(lanes, f_select(m_first(count), term(start + i, count), f_zero()));
    });
    total += double(f_sum(lanes));
  }
  return total;
}

static double log_sum_exp(const float* x, int64_t n) {
  const float largest = row_max(x, n);
  if (largest == -__builtin_inff()) return double(largest);
  const Vf base = f_set1(largest);
  const double total = blocked_sum(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    return v_exp(f_sub(load_lanes(x + i, count), base));
  });
  return double(largest) + __builtin_log(total);
}

static double mass_at_least(const float* x, const float* mass, int64_t n, float threshold) {
  const Vf t = f_set1(threshold);
  return blocked_sum(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    return f_select(m_ge(load_lanes(x + i, count), t), load_lanes(mass + i, count), f_zero());
  });
}

static bool divide(const float* x, float divisor, float* out, int64_t n) {
  const Vf d = f_set1(divisor);
  Vf odd = f_zero();
  each_lane_group(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    const Vf v = load_lanes(x + i, count);
    odd = keep_nan(v, odd);
    store_lanes(out + i, count, f_max(f_div(v, d), f_set1(-__builtin_inff())));
  });
  return has_nan(odd);
}

static void exp_minus(const float* x, float maximum, float* out, int64_t n) {
  const Vf base = f_set1(maximum);
  each_lane_group(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    store_lanes(out + i, count, v_exp(f_sub(load_lanes(x + i, count), base)));
  });
}

static void block_max(const float* x, int64_t n, int64_t block, float* out) {
  for (int64_t start = 0; start < n; start += block) *out++ = row_max(x + start, n - start < block ? n - start : block);
}

static int64_t select_between(const float* x, int64_t n, float low, float high, int32_t* ids) {
  const Vf a = f_set1(low), b = f_set1(high);
  int64_t found = 0;
  each_lane_group(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    const Vf v = load_lanes(x + i, count);
    uint32_t hits = m_bits(m_and(m_and(m_ge(v, a), m_ge(b, v)), m_first(count)));
    for (; hits; hits &= hits - 1) ids[found++] = int32_t(i) + __builtin_ctz(hits);
  });
  return found;
}

static int64_t count_at_least(const float* x, int64_t n, float threshold) {
  const Vf t = f_set1(threshold);
  int64_t found = 0;
  each_lane_group(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    found += __builtin_popcount(m_bits(m_and(m_ge(load_lanes(x + i, count), t), m_first(count))));
  });
  return found;
}

static int64_t count_greater(const float* x, int64_t n, float value) {
  const Vf t = f_set1(value);
  int64_t found = 0;
  each_lane_group(n, [&](int64_t i, int count) __attribute__((always_inline)) {
    found += __builtin_popcount(m_bits(m_and(m_gt(load_lanes(x + i, count), t), m_first(count))));
  });
  return found;
}

OCTAVO_INLINE uint64_t mix(uint64_t z) {
  z += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

// x + g > best is -log(u) < exp(x - best), and 1 - u <= -log(u): so 1 - u < exp(x - best) is necessary. A slack of
// 2^-10 covers the rounding of exp and of best.
static int64_t gumbel_candidates(const float* x, int64_t n, int64_t first_id, uint64_t row_key, int32_t position,
                                 float threshold, float best, int32_t* ids) {
  constexpr int64_t block = 64;
  constexpr float out_of_reach = -17.35f;  // exp of it is less than the least 1 - u, 2^-25
  alignas(64) float gap[block];            // 1 - u
  const uint64_t base = uint64_t(int64_t(position)) * 0x9E3779B97F4A7C15u + uint64_t(first_id);
  const Vf top = f_set1(best), slack = f_set1(1.0f + 0x1p-10f), low = f_set1(threshold);
  int64_t found = 0;
  for (int64_t start = 0; start < n; start += block) {
    const int64_t length = n - start < block ? n - start : block;
    if (row_max(x + start, length) - best < out_of_reach) continue;
    for (int64_t i = 0; i < length; i++) {
      const uint64_t h = mix(row_key ^ mix(base + uint64_t(start + i)));
      gap[i] = (float(int32_t(0xffffff - (h >> 40))) + 0.5f) * 0x1p-24f;
    }
    each_lane_group(length, [&](int64_t i, int count) __attribute__((always_inline)) {
      const Vf v = load_lanes(x + start + i, count);
      const Vf reach = f_mul(v_exp(f_sub(v, top)), slack);
      uint32_t hits = m_bits(m_and(m_and(m_ge(reach, f_load(gap + i)), m_ge(v, low)), m_first(count)));
      for (; hits; hits &= hits - 1) ids[found++] = int32_t(start + i) + __builtin_ctz(hits);
    });
  }
  return found;
}
