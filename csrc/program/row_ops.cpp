// See row_ops.h.
#include "program/row_ops.h"

namespace octavo {

void Embed::run(const Frame& f, int64_t begin, int64_t end) const {
  const Rows rows = f.out(out);
  const PackedWeight& table = weight->packed();
  for (int64_t t = begin; t < end; ++t)
    unpack_row(table, f.step->token_ids[static_cast<size_t>(t)], rows.data + t * rows.ld);
  if (scale != 1.0f) f.ops->scale({rows.data, rows.ld}, scale, rows, begin, end, table.k);
}

void RmsNorm::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->rms_norm(f.in(x), weight->values.data(), eps, f.out(out), begin, end, groups, width);
}

void LayerNorm::run(const Frame& f, int64_t begin, int64_t end) const {
  const float* b = bias ? bias->values.data() : nullptr;
  f.ops->layer_norm(f.in(x), weight->values.data(), b, eps, f.out(out), begin, end, width);
}

void Quantize::run(const Frame& f, int64_t begin, int64_t end) const {
  const ConstRows rows = f.in(x);
  f.linear->quantize(kind, rows.data + begin * rows.ld, rows.ld, end - begin, width, f.at(out) + begin * out.stride);
}

void RopeTable::run(const Frame& f, int64_t begin, int64_t end) const {
  rope_table(f.step->positions.data(), inv_freq.data(), static_cast<int64_t>(inv_freq.size()), factor, f.out(out).data,
             begin, end);
}

void Rope::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->rope(f.in(x), f.in(table).data, half, f.out(out), begin, end, heads, head_dim);
}

void StoreKv::run(const Frame& f, int64_t begin, int64_t end) const {
  const int32_t* token_pages = f.step->groups[static_cast<size_t>(group)].token_pages.data();
  for (int64_t t = begin; t < end; ++t)
    if (token_pages[t] >= 0) pages->mark_written(token_pages[t]);
  f.ops->store_kv(f.in(k), f.in(v), kv, token_pages, f.step->offsets.data(), begin, end);
}

void Gated::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->gated(f.in(gate), f.in(up), f.out(out), begin, end, width, activation);
}

void Activate::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->activate(f.in(x), f.out(out), begin, end, width, activation);
}

void Add::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->add(f.in(a), f.in(b), f.out(out), begin, end, width);
}

void Scale::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->scale(f.in(x), factor, f.out(out), begin, end, width);
}

void Gather::run(const Frame& f, int64_t begin, int64_t end) const {
  f.ops->gather_rows(f.in(x), f.step->sample_rows.data(), f.out(out), begin, end, width);
}

}  // namespace octavo
