// Instructions whose output row depends on the same row of their inputs alone: a chain of them needs no border.
//
// Each is one call of a kernel of ops.h or of quantize / unpack of linear.h over a range of rows.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "program/frame.h"
#include "program/kv_pages.h"
#include "program/weights.h"

namespace octavo {

class RowOp {
 public:
  virtual ~RowOp() = default;
  virtual void run(const Frame& frame, int64_t begin, int64_t end) const = 0;
  // Roughly, for one row on the highest level; only the size of chunks follows from it.
  virtual double row_ns() const = 0;
};

using MatrixRef = std::shared_ptr<const Matrix>;
using VectorRef = std::shared_ptr<const Vector>;

struct Embed final : RowOp {
  Buffer out;
  MatrixRef weight;
  float scale;
  Embed(Buffer out, MatrixRef weight, float scale) : out(out), weight(std::move(weight)), scale(scale) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 2.0 * static_cast<double>(weight->packed().k); }
};

struct RmsNorm final : RowOp {
  Buffer x, out;
  VectorRef weight;
  float eps;
  int64_t groups, width;
  RmsNorm(Buffer x, Buffer out, VectorRef weight, float eps, int64_t groups, int64_t width)
      : x(x), out(out), weight(std::move(weight)), eps(eps), groups(groups), width(width) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return static_cast<double>(groups) * (10 + 0.5 * static_cast<double>(width)); }
};

struct LayerNorm final : RowOp {
  Buffer x, out;
  VectorRef weight, bias;  // bias may be null
  float eps;
  int64_t width;
  LayerNorm(Buffer x, Buffer out, VectorRef weight, VectorRef bias, float eps, int64_t width)
      : x(x), out(out), weight(std::move(weight)), bias(std::move(bias)), eps(eps), width(width) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 10 + 0.25 * static_cast<double>(width); }
};

struct Quantize final : RowOp {
  Buffer x, out;
  ActKind kind;
  int64_t width;
  Quantize(Buffer x, Buffer out, ActKind kind, int64_t width) : x(x), out(out), kind(kind), width(width) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 10 + 0.3 * static_cast<double>(width); }
};

struct RopeTable final : RowOp {
  Buffer out;
  std::vector<float> inv_freq;
  float factor;
  RopeTable(Buffer out, std::vector<float> inv_freq, float factor)
      : out(out), inv_freq(std::move(inv_freq)), factor(factor) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 60.0 * static_cast<double>(inv_freq.size()); }
};

struct Rope final : RowOp {
  Buffer x, table, out;
  int64_t half, heads, head_dim;
  Rope(Buffer x, Buffer table, Buffer out, int64_t half, int64_t heads, int64_t head_dim)
      : x(x), table(table), out(out), half(half), heads(heads), head_dim(head_dim) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return static_cast<double>(heads) * (5 + 0.4 * static_cast<double>(head_dim)); }
};

struct StoreKv final : RowOp {
  Buffer k, v;
  std::shared_ptr<const KvPages> pages;
  KvView kv;
  int32_t group;
  StoreKv(Buffer k, Buffer v, std::shared_ptr<const KvPages> from, int32_t place, int32_t group)
      : k(k), v(v), pages(std::move(from)), kv(pages->layer(place)), group(group) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 2.0 * static_cast<double>(kv.num_kv_heads) * kv.head_dim; }
};

struct Gated final : RowOp {
  Buffer gate, up, out;
  int64_t width;
  Activation activation;
  Gated(Buffer gate, Buffer up, Buffer out, int64_t width, Activation activation)
      : gate(gate), up(up), out(out), width(width), activation(activation) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 10 + 0.5 * static_cast<double>(width); }
};

struct Activate final : RowOp {
  Buffer x, out;
  int64_t width;
  Activation activation;
  Activate(Buffer x, Buffer out, int64_t width, Activation activation)
      : x(x), out(out), width(width), activation(activation) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 10 + 0.5 * static_cast<double>(width); }
};

struct Add final : RowOp {
  Buffer a, b, out;
  int64_t width;
  Add(Buffer a, Buffer b, Buffer out, int64_t width) : a(a), b(b), out(out), width(width) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 5 + 0.1 * static_cast<double>(width); }
};

struct Scale final : RowOp {
  Buffer x, out;
  float factor;
  int64_t width;
  Scale(Buffer x, Buffer out, float factor, int64_t width) : x(x), out(out), factor(factor), width(width) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 5 + 0.1 * static_cast<double>(width); }
};

// The one row op that reads another extent: samples' rows out of tokens' rows.
struct Gather final : RowOp {
  Buffer x, out;
  int64_t width;
  Gather(Buffer x, Buffer out, int64_t width) : x(x), out(out), width(width) {}
  void run(const Frame&, int64_t begin, int64_t end) const override;
  double row_ns() const override { return 5 + 0.1 * static_cast<double>(width); }
};

}  // namespace octavo
