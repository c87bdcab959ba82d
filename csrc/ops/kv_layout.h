// Where keys and values lie inside a page.
//
// A page holds `page_size` tokens (a multiple of 16) of `layers_per_page` layers. In a page, for each layer place, for
// each key/value head: the K tiles, then the V tiles. A tile is 16 tokens: K as [head_dim][16], V as [16][head_dim].
// Nothing is padded, so a page takes exactly KvLayout.page_bytes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

// Functions here are static: units of several instruction sets include this file and may not share code.

enum class KvType : int32_t { f32 = 0, f16 = 1, bf16 = 2 };

constexpr int64_t kv_tile = 16;  // tokens of a tile

static constexpr int64_t kv_element_bytes(KvType type) { return type == KvType::f32 ? 4 : 2; }

// One layer's share of the pages of a cache.
struct KvView {
  uint8_t* pages;      // page p begins at pages + p * page_bytes; aligned to 64
  int64_t page_bytes;  // kv_page_bytes(...)
  KvType type;
  int32_t page_size;   // tokens
  int32_t num_kv_heads;
  int32_t head_dim;
  int32_t place;       // the layer's place within a page
};

static constexpr int64_t kv_page_bytes(KvType type, int64_t page_size, int64_t num_kv_heads, int64_t head_dim,
                                int64_t layers_per_page) {
  return 2 * layers_per_page * num_kv_heads * page_size * head_dim * kv_element_bytes(type);
}

// Bytes from the start of a page to a tile of K or of V.
static inline int64_t kv_head_offset(const KvView& kv, int64_t head) {
  const int64_t side = int64_t(kv.page_size) * kv.head_dim * kv_element_bytes(kv.type);
  return (int64_t(kv.place) * kv.num_kv_heads + head) * 2 * side;
}
static inline int64_t kv_k_offset(const KvView& kv, int64_t head, int64_t tile) {
  return kv_head_offset(kv, head) + tile * kv_tile * kv.head_dim * kv_element_bytes(kv.type);
}
static inline int64_t kv_v_offset(const KvView& kv, int64_t head, int64_t tile) {
  const int64_t side = int64_t(kv.page_size) * kv.head_dim * kv_element_bytes(kv.type);
  return kv_k_offset(kv, head, tile) + side;
}

}  // namespace octavo
