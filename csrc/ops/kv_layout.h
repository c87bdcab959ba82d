// Where keys and values lie inside a page.
//
// A page holds `page_size` tokens (a multiple of 16) of `layers_per_page` layers. In a page, for each layer place, for
// each key/value head: the K tiles, then the V tiles, then int8's scales. A tile is 16 tokens. Components lie in steps of
// P = kv_step(type), as many as one instruction multiplies at once: K as [head_dim / P][16 tokens][P components], V as
// [16 / P][head_dim][P tokens]. int8: bytes are as isa.h's signed_bytes says, and the scales are f16, one per token and head, K's of all
// the page's tokens before V's. Nothing is padded, so a page takes exactly KvLayout.page_bytes; kernels may read up to
// kv_slack bytes behind a page.
#pragma once

#include <cstddef>
#include <cstdint>

namespace octavo {

// Functions here are static: units of several instruction sets include this file and may not share code.

enum class KvType : int32_t { f32 = 0, f16 = 1, bf16 = 2, int8 = 3 };

constexpr int64_t kv_tile = 16;  // tokens of a tile
constexpr int64_t kv_slack = 64;

static constexpr int64_t kv_element_bytes(KvType type) {
  return type == KvType::f32 ? 4 : type == KvType::int8 ? 1 : 2;
}
// head_dim must be a multiple of it.
static constexpr int64_t kv_step(KvType type) { return type == KvType::bf16 ? 2 : type == KvType::int8 ? 4 : 1; }
static constexpr int64_t kv_scale_bytes(KvType type) { return type == KvType::int8 ? 2 : 0; }

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

// Bytes of K, or of V, of a page's tokens at one layer and head.
static constexpr int64_t kv_side_bytes(KvType type, int64_t page_size, int64_t head_dim) {
  return page_size * head_dim * kv_element_bytes(type);
}
static constexpr int64_t kv_head_bytes(KvType type, int64_t page_size, int64_t head_dim) {
  return 2 * (kv_side_bytes(type, page_size, head_dim) + page_size * kv_scale_bytes(type));
}
static constexpr int64_t kv_page_bytes(KvType type, int64_t page_size, int64_t num_kv_heads, int64_t head_dim,
                                       int64_t layers_per_page) {
  return layers_per_page * num_kv_heads * kv_head_bytes(type, page_size, head_dim);
}

// Bytes from the start of a page to a tile of K or of V, and to the scales of a tile.
static inline int64_t kv_k_offset(const KvView& kv, int64_t head, int64_t tile) {
  return (int64_t(kv.place) * kv.num_kv_heads + head) * kv_head_bytes(kv.type, kv.page_size, kv.head_dim) +
         tile * kv_side_bytes(kv.type, kv_tile, kv.head_dim);
}
static inline int64_t kv_v_offset(const KvView& kv, int64_t head, int64_t tile) {
  return kv_k_offset(kv, head, tile) + kv_side_bytes(kv.type, kv.page_size, kv.head_dim);
}
static inline int64_t kv_k_scale_offset(const KvView& kv, int64_t head, int64_t tile) {
  return kv_k_offset(kv, head, 0) + 2 * kv_side_bytes(kv.type, kv.page_size, kv.head_dim) +
         tile * kv_tile * kv_scale_bytes(kv.type);
}
static inline int64_t kv_v_scale_offset(const KvView& kv, int64_t head, int64_t tile) {
  return kv_k_scale_offset(kv, head, tile) + int64_t(kv.page_size) * kv_scale_bytes(kv.type);
}

}  // namespace octavo
