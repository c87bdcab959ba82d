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
  static constexpr bool streamed = true;
  OCTAVO_INLINE Vf load(const uint16_t* p) { return f_from_bf16(p); }
  OCTAVO_INLINE void store(uint16_t* p, Vf a) { f_store_bf16(p, a); }
};

// One token of one head: 16 values at a time through a small buffer, so that a tail never writes past its tile.
template <class Element>
static void store_kv_token(const float* k, const float* v, typename Element::Type* k_tile,
                           typename Element::Type* v_tile, int64_t lane, int64_t head_dim) {
  alignas(64) typename Element::Type narrow[16];
  each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
    Element::store(narrow, load_lanes(k + d, n));
    for (int i = 0; i < n; i++) k_tile[(d + i) * kv_tile + lane] = narrow[i];
    Element::store(narrow, load_lanes(v + d, n));
    std::memcpy(v_tile + lane * head_dim + d, narrow, size_t(n) * sizeof(narrow[0]));
  });
}

template <class Element>
static void store_kv_rows(ConstRows k, ConstRows v, const KvView& kv, const int32_t* pages, const int32_t* offsets,
                          int64_t begin, int64_t end) {
  using Type = typename Element::Type;
  for (int64_t t = begin; t < end; t++) {
    if (pages[t] < 0) continue;
    uint8_t* page = kv.pages + pages[t] * kv.page_bytes;
    const int64_t tile = offsets[t] / kv_tile, lane = offsets[t] % kv_tile;
    for (int64_t head = 0; head < kv.num_kv_heads; head++)
      store_kv_token<Element>(k.data + t * k.ld + head * kv.head_dim, v.data + t * v.ld + head * kv.head_dim,
                              reinterpret_cast<Type*>(page + kv_k_offset(kv, head, tile)),
                              reinterpret_cast<Type*>(page + kv_v_offset(kv, head, tile)), lane, kv.head_dim);
  }
}

static void store_kv(ConstRows k, ConstRows v, const KvView& kv, const int32_t* pages, const int32_t* offsets,
                     int64_t begin, int64_t end) {
  switch (kv.type) {
    case KvType::f32: return store_kv_rows<ElementF32>(k, v, kv, pages, offsets, begin, end);
    case KvType::f16: return store_kv_rows<ElementF16>(k, v, kv, pages, offsets, begin, end);
    case KvType::bf16: return store_kv_rows<ElementBf16>(k, v, kv, pages, offsets, begin, end);
  }
}
