// The pages of one KV cache: one allocation, touched as pages are first used.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
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
        layers_per_page_(layers_per_page),
        num_pages_(num_pages),
        memory_(static_cast<size_t>(view_.page_bytes * num_pages + kv_slack)),
        written_(new std::atomic<uint8_t>[static_cast<size_t>(num_pages)]()) {
    view_.pages = memory_.data();
  }

  KvView layer(int32_t place) const {
    if (place < 0 || place >= layers_per_page_)
      throw std::out_of_range("place " + std::to_string(place) + " is not one of a page's " +
                              std::to_string(layers_per_page_) + " layers");
    KvView view = view_;
    view.place = place;
    return view;
  }

  int64_t num_pages() const { return num_pages_; }
  int64_t page_bytes() const { return view_.page_bytes; }

  int32_t page_size() const { return view_.page_size; }

  Mapping& memory() { return memory_; }

  // A page that nobody wrote to is zero already, and stays untouched.
  void zero(int64_t page) {
    uint8_t* to = at(page);
    if (written_[static_cast<size_t>(page)].exchange(0, std::memory_order_relaxed))
      std::memset(to, 0, static_cast<size_t>(view_.page_bytes));
  }
  void copy(int64_t src, int64_t dst) {
    const uint8_t* from = at(src);
    uint8_t* to = at(dst);
    if (src == dst) return;
    mark_written(dst);
    std::memcpy(to, from, static_cast<size_t>(view_.page_bytes));
  }
  // Whoever writes through a view says so, from any thread. `page` must exist.
  void mark_written(int64_t page) const {
    std::atomic<uint8_t>& mark = written_[static_cast<size_t>(page)];
    if (!mark.load(std::memory_order_relaxed)) mark.store(1, std::memory_order_relaxed);
  }

 private:
  uint8_t* at(int64_t page) const {
    if (page < 0 || page >= num_pages_)
      throw std::out_of_range("page " + std::to_string(page) + " is not one of " + std::to_string(num_pages_));
    return memory_.data() + page * view_.page_bytes;
  }

  KvView view_;
  int32_t layers_per_page_;
  int64_t num_pages_;
  Mapping memory_;
  std::unique_ptr<std::atomic<uint8_t>[]> written_;
};

}  // namespace octavo
