// Writing keys and values to pages. Included inside the namespace of a level.

struct ElementF32 {
  using Type = float;
  static constexpr bool streamed = true;  // comes from pages, which are worth prefetching
  OCTAVO_INLINE Vf load(const float* p) { return f_load(p); }
  OCTAVO_INLINE void store(float* p, Vf a) { f_store(p, a); }
};
struct ElementUnpacked : ElementF32 {
  static constexpr bool streamed = false;
};
struct ElementF16 {
  using Type = uint16_t;
  static constexpr bool streamed = true;
  OCTAVO_INLINE Vf load(const uint16_t* p) { return f_from_half(p); }
  OCTAVO_INLINE void store(uint16_t* p, Vf a) { f_store_half(p, a); }
};
struct ElementBf16 {
  using Type = uint16_t;
  OCTAVO_INLINE void store(uint16_t* p, Vf a) { f_store_bf16(p, a); }
};

// What one token writes of one head.
struct TokenPlace {
  uint8_t *k_tile, *v_tile;
  uint16_t *k_scale, *v_scale;  // the token's own; int8 only
  int64_t lane, head_dim;
};

// 16 values at a time through a small buffer, so that a tail never writes past its tile.
template <int P, class T> OCTAVO_INLINE void spread_k(const TokenPlace& to, int64_t d, int n, const T* values) {
  T* tile = reinterpret_cast<T*>(to.k_tile) + to.lane * P;
  for (int i = 0; i < n; i++) tile[(d + i) / P * (kv_tile * P) + (d + i) % P] = values[i];
}
template <int P, class T> OCTAVO_INLINE void spread_v(const TokenPlace& to, int64_t d, int n, const T* values) {
  T* tile = reinterpret_cast<T*>(to.v_tile) + to.lane / P * to.head_dim * P + to.lane % P;
  for (int i = 0; i < n; i++) tile[(d + i) * P] = values[i];
}

template <class Element, int P> static void store_kv_token(const float* k, const float* v, const TokenPlace& to) {
  alignas(64) typename Element::Type narrow[16];
  each_lane_group(to.head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
    Element::store(narrow, load_lanes(k + d, n));
    spread_k<P>(to, d, n, narrow);
    Element::store(narrow, load_lanes(v + d, n));
    spread_v<P>(to, d, n, narrow);
  });
}

static float largest_magnitude(const float* x, int64_t width) {
  Vi bits = i_zero();
  each_lane_group(width, [&](int64_t d, int n) __attribute__((always_inline)) {
    bits = i_max(bits, i_abs_bits(load_lanes(x + d, n)));
  });
  return bits_to_float(uint32_t(i_largest(bits)));  // NaN is above infinity, infinity above all numbers
}
OCTAVO_INLINE bool is_finite(float magnitude) { return magnitude <= 0x1.fffffep127f; }

OCTAVO_INLINE float half_of(float x, uint16_t* to) {
  alignas(64) uint16_t halves[16];
  f_store_half(halves, f_set1(x));
  *to = halves[0];
  alignas(64) float back[16];
  f_store(back, f_from_half(halves));
  return back[0];
}

// 16 values as bytes: value / scale rounded to nearest, ties to even, at most 127 in magnitude, and plus 128 where
// products want them unsigned.
OCTAVO_INLINE void store_bytes(uint8_t* to, Vf x, Vf inverse) {
  const Vf bounded = f_max(f_set1(-127.0f), f_min(f_set1(127.0f), f_mul(x, inverse)));
  i_store_i8(reinterpret_cast<int8_t*>(to), i_round(bounded));
  if constexpr (!signed_bytes)
    for (int i = 0; i < 16; i++) to[i] ^= 0x80;
}

// scale = half(max / 127). A token with a number that is not finite, or too large for the scale, gets a NaN for the
// scale of its key and zeros for its value: who sees it gets NaN, who does not adds an exact zero.
static void store_kv_bytes(const float* k, const float* v, const TokenPlace& to) {
  float scale_k = half_of(largest_magnitude(k, to.head_dim) / 127.0f, to.k_scale);
  float scale_v = half_of(largest_magnitude(v, to.head_dim) / 127.0f, to.v_scale);
  if (!is_finite(scale_k) || !is_finite(scale_v)) {
    *to.k_scale = 0x7e00;
    *to.v_scale = 0;
    scale_k = scale_v = 0;
  }
  const Vf inverse_k = f_set1(scale_k > 0 ? 1.0f / scale_k : 0.0f);
  const Vf inverse_v = f_set1(scale_v > 0 ? 1.0f / scale_v : 0.0f);
  alignas(64) uint8_t bytes[16];
  each_lane_group(to.head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
    store_bytes(bytes, load_lanes(k + d, n), inverse_k);
    spread_k<4>(to, d, n, bytes);
    store_bytes(bytes, load_lanes(v + d, n), inverse_v);
    spread_v<4>(to, d, n, bytes);
  });
}

// Calls store(k, v, place) for each head of each token.
template <class Store>
OCTAVO_INLINE void each_place(ConstRows k, ConstRows v, const KvView& kv, const int32_t* pages, const int32_t* offsets,
                              int64_t begin, int64_t end, const Store& store) {
  for (int64_t t = begin; t < end; t++) {
    if (pages[t] < 0) continue;
    uint8_t* page = kv.pages + pages[t] * kv.page_bytes;
    const int64_t tile = offsets[t] / kv_tile, lane = offsets[t] % kv_tile;
    for (int64_t head = 0; head < kv.num_kv_heads; head++) {
      const TokenPlace place{page + kv_k_offset(kv, head, tile), page + kv_v_offset(kv, head, tile),
                             reinterpret_cast<uint16_t*>(page + kv_k_scale_offset(kv, head, tile)) + lane,
                             reinterpret_cast<uint16_t*>(page + kv_v_scale_offset(kv, head, tile)) + lane,
                             lane, kv.head_dim};
      store(k.data + t * k.ld + head * kv.head_dim, v.data + t * v.ld + head * kv.head_dim, place);
    }
  }
}

static void store_kv(ConstRows k, ConstRows v, const KvView& kv, const int32_t* pages, const int32_t* offsets,
                     int64_t begin, int64_t end) {
  const auto each = [&](auto store) { each_place(k, v, kv, pages, offsets, begin, end, store); };
  switch (kv.type) {
    case KvType::f32: return each(store_kv_token<ElementF32, 1>);
    case KvType::f16: return each(store_kv_token<ElementF16, 1>);
    case KvType::bf16: return each(store_kv_token<ElementBf16, 2>);
    case KvType::int8: return each(store_kv_bytes);
  }
}
