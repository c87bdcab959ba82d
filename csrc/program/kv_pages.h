// The pages of one KV cache: one allocation, touched as pages are first used.
#pragma once

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>

#include "ops/kv_layout.h"
#include "program/memory.h"

namespace octavo {

class KvPages {
 public:
  KvPages(KvType type, int32_t page_size, int32_t num_kv_heads, int32_t head_dim, int32_t layers_per_page,
          int64_t num_pages)
      : view_{nullptr, kv_page_bytes(type, page_size, num_kv_heads, head_dim, layers_per_page),
              type, page_size, num_kv_heads, head_dim, 0},
        num_pages_(num_pages),
        memory_(static_cast<size_t>(view_.page_bytes * num_pages)) {
    view_.pages = memory_.data();
  }

  KvView layer(int32_t place) const {
    KvView view = view_;
    view.place = place;
    return view;
  }

  int64_t num_pages() const { return num_pages_; }
  int64_t page_bytes() const { return view_.page_bytes; }

  void zero(int64_t page) { std::memset(at(page), 0, static_cast<size_t>(view_.page_bytes)); }
  void copy(int64_t src, int64_t dst) {
    if (src != dst) std::memcpy(at(dst), at(src), static_cast<size_t>(view_.page_bytes));
  }

 private:
  uint8_t* at(int64_t page) const {
    if (page < 0 || page >= num_pages_)
      throw std::out_of_range("page " + std::to_string(page) + " is not one of " + std::to_string(num_pages_));
    return memory_.data() + page * view_.page_bytes;
  }

  KvView view_;
  int64_t num_pages_;
  Mapping memory_;
};

}  // namespace octavo
