// Sizes of files, packed weights, activations and scratch by format.
#include "layout.h"

namespace octavo {

bool is_known(Format format) { return block_layout(format).block != 0; }

int64_t block_length(Format format) { return block_layout(format).block; }

size_t row_bytes(Format format, int64_t k) {
  const BlockLayout layout = block_layout(format);
  return size_t(k / layout.block) * layout.file_bytes;
}

size_t group_bytes(Format format, int64_t k) {
  const BlockLayout layout = block_layout(format);
  switch (format) {
    case Format::F32: return size_t(k) * lanes * 4;
    case Format::F16: return round_up_64(size_t(k) * lanes * 2);
    case Format::BF16: return size_t((k + 1) / 2) * lanes * 4;
    default: return round_up_64(quant_area(format, k) + size_t(k / layout.block) * layout.scale_bytes);
  }
}

size_t packed_bytes(Format format, int64_t n, int64_t k) { return size_t(group_count(n)) * group_bytes(format, k); }

ActKind act_kind(Format format) {
  switch (format) {
    case Format::F32:
    case Format::F16: return ActKind::f32;
    case Format::BF16: return ActKind::bf16;
    default: return ActKind::q8;
  }
}

size_t act_bytes(ActKind kind, int64_t k) {
  switch (kind) {
    case ActKind::f32: return round_up_64(size_t(k) * 4);
    case ActKind::bf16: return round_up_64(size_t((k + 1) / 2) * 4);
    case ActKind::q8: return round_up_64(size_t(k / act_block) * sizeof(ActBlock));
  }
  return 0;
}

size_t scratch_bytes(Format format, int64_t k) {
  if (act_kind(format) != ActKind::q8 || format == Format::Q8_0) return 0;
  return size_t(k / act_block) * panel_block_bytes;
}

}  // namespace octavo
