// Paged attention. Included inside the namespace of a level, after attention_tiles.inl.
//
// A block of query rows (tokens x query heads of one key/value head) goes through a split at a time: scores of all
// rows, softmax per row, then values. Rows are taken a few at a time (a band), which skips the keys that none of the
// band sees: those would add exact zeros.

constexpr int block_rows = int(attention_block_rows);
constexpr int padded_rows = (block_rows + 15) / 16 * 16;
constexpr int split_tiles = int(attention_split / kv_tile);
constexpr float log2_e = 1.44269504f;

struct BlockSpace {
  uint8_t* q;     // [rows][head_dim] as the product wants them
  float* scores;  // [rows][attention_split]; then probabilities as the product wants them, at each row's start
  float* part;    // [rows][padded head_dim]: one split's sums
  float* merged;  // [rows][padded head_dim]
  float* keys;    // unpacked split
  float* values;
  int64_t width;  // padded head_dim
};

OCTAVO_INLINE BlockSpace divide_workspace(float* workspace, int64_t head_dim) {
  BlockSpace s;
  s.width = (head_dim + 15) / 16 * 16;
  s.q = reinterpret_cast<uint8_t*>(workspace);
  s.scores = workspace + block_rows * s.width;
  s.part = s.scores + block_rows * attention_split;
  s.merged = s.part + block_rows * s.width;
  s.keys = s.merged + block_rows * s.width;
  s.values = s.keys + attention_split * s.width;
  return s;
}

struct Band {
  int first, rows;
  int begin, end;  // tiles of the split that any of its rows sees
};

struct QueryBlock {
  int count, num_bands;
  Band bands[(block_rows + 3) / 4 + 2];
  int32_t entry[block_rows], head[block_rows];     // index into the item's tokens
  int32_t low[block_rows], high[block_rows];       // visible keys [low, high)
  float q_scale[block_rows];                       // of int8 products, as are these
  int32_t q_shift[block_rows];
  float p_scale[block_rows];
  int32_t p_shift[block_rows];
  alignas(64) float max[padded_rows];              // merged
  float sum[padded_rows];
  float part_max[padded_rows];
  float part_sum[padded_rows];
};

struct SplitTiles {
  int count;
  int32_t first_key;
  const void* k[split_tiles];
  const void* v[split_tiles];
  const void* next[split_tiles];  // keys that will be wanted next
  const uint16_t* k_scale[split_tiles];
  const uint16_t* v_scale[split_tiles];
};

// A row's queries times factor, as a product wants them.
template <class Product>
static void prepare_query(const float* q, int64_t head_dim, float factor, uint8_t* to, float* scale, int32_t* shift) {
  const Vf f = f_set1(factor);
  *scale = 0;
  *shift = 0;
  if constexpr (Product::scaled) {
    Vi largest = i_zero(), total = i_zero();
    each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
      largest = i_max(largest, i_abs_bits(f_mul(load_lanes(q + d, n), f)));
    });
    const float most = bits_to_float(uint32_t(i_largest(largest)));
    const Vf inverse = f_set1(most > 1e-30f ? Product::levels / most : 0.0f);
    *scale = is_finite(most) ? most / Product::levels : __builtin_nanf("");
    alignas(64) uint8_t high[16], low[16];
    each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
      const Vi x = is_finite(most) ? i_round(f_mul(f_mul(load_lanes(q + d, n), f), inverse)) : i_zero();
      total = i_add(total, x);
      split_bytes(x, high, low);
      std::memcpy(to + d, high, size_t(n));
      std::memcpy(to + head_dim + d, low, size_t(n));
    });
    *shift = -Product::offset * i_sum(total);
  } else if constexpr (Product::query_bytes == 2) {
    alignas(64) uint16_t narrow[16];
    each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
      Product::narrow(narrow, f_mul(load_lanes(q + d, n), f));
      std::memcpy(to + 2 * d, narrow, size_t(n) * 2);
    });
  } else {
    each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
      store_lanes(reinterpret_cast<float*>(to) + d, n, f_mul(load_lanes(q + d, n), f));
    });
  }
}

// Probabilities of tiles [begin, end) of a row as the product wants them, from floats in the same memory.
template <class Product>
static void prepare_probabilities(float* scores, const SplitTiles& split, int begin, int end, float* scale,
                                  int32_t* shift) {
  uint8_t* to = reinterpret_cast<uint8_t*>(scores);
  if constexpr (Product::scaled) {
    Vf most = f_zero();
    for (int t = begin; t < end; t++) {
      const Vf w = f_mul(f_load(scores + t * kv_tile), f_from_half(split.v_scale[t]));
      f_store(scores + t * kv_tile, w);
      most = f_max(w, most);
    }
    const float largest = f_largest(most);
    const Vf inverse = f_set1(largest > 1e-30f ? Product::levels / largest : 0.0f);
    *scale = largest > 1e-30f ? largest / Product::levels : 0.0f;
    Vi total = i_zero();
    for (int t = begin; t < end; t++) {
      const Vi w = i_round(f_mul(f_load(scores + t * kv_tile), inverse));
      total = i_add(total, w);
      split_bytes(w, to + t * 32, to + t * 32 + 16);
    }
    *shift = -Product::offset * i_sum(total);
  } else if constexpr (Product::tile_x_bytes == 32) {
    for (int t = begin; t < end; t++)
      Product::narrow(reinterpret_cast<uint16_t*>(to) + t * kv_tile, f_load(scores + t * kv_tile));
  }
}

// Scores of one row to probabilities relative to their maximum; their sum. -inf and 0 where no key is visible.
static void soften_row(float* scores, int32_t first_key, int begin, int end, int32_t low, int32_t high, float cap,
                       float* max, float* sum) {
  const Vf minus_inf = f_set1(-__builtin_inff()), c = f_set1(cap * log2_e), inverse = f_set1(1.0f / (cap * log2_e));
  Vf largest = minus_inf;
  for (int t = begin; t < end; t++) {
    const int32_t key = first_key + t * int32_t(kv_tile);
    Vf s = f_load(scores + t * kv_tile);
    if (cap > 0) {
      s = f_mul(c, v_tanh(f_mul(s, inverse)));
      f_store(scores + t * kv_tile, s);
    }
    if (high < key + 16 || low > key) {
      if (high < key + 16) s = f_select(m_first(high > key ? high - key : 0), s, minus_inf);
      if (low > key) s = f_select(m_first(low - key), minus_inf, s);
      f_store(scores + t * kv_tile, s);
    }
    largest = f_max(s, largest);
  }
  *max = f_largest(largest);
  const Vf base = f_set1(*max == -__builtin_inff() ? 0.0f : *max);
  Vf total = f_zero();
  for (int t = begin; t < end; t++) {
    const Vf p = v_exp2_falling(f_sub(f_load(scores + t * kv_tile), base));
    f_store(scores + t * kv_tile, p);
    total = f_add(total, p);
  }
  *sum = f_sum(total);
}

// out[d] = out[d] * a + part[d] * b.
OCTAVO_INLINE void combine(float* out, const float* part, int64_t head_dim, float a, float b) {
  const Vf keep = f_set1(a), take = f_set1(b);
  each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
    store_lanes(out + d, n, f_fma(load_lanes(out + d, n), keep, f_mul(load_lanes(part + d, n), take)));
  });
}

// 16 rows' maxima and sums with those of one more split; how much of either to take.
OCTAVO_INLINE void merge_sums(float* max, float* sum, const float* part_max, const float* part_sum, float* keep,
                              float* take) {
  const Vf minus_inf = f_set1(-__builtin_inff());
  const Vf old = f_load(max), more = f_load(part_max), top = f_max(old, more);
  const Vf base = f_select(m_gt(top, minus_inf), top, f_zero());
  const Vf a = v_exp2_falling(f_sub(old, base)), b = v_exp2_falling(f_sub(more, base));
  f_store(sum, f_fma(f_load(sum), a, f_mul(f_load(part_sum), b)));
  f_store(max, top);
  f_store(keep, a);
  f_store(take, b);
}

// Nothing is visible. Without a maximum and yet with a sum, all scores are NaN, and so is the result.
OCTAVO_INLINE bool is_masked(float part_max, float part_sum) { return part_max == -__builtin_inff() && part_sum == 0; }

// The block's part into what is merged.
static void merge_block(const BlockSpace& space, QueryBlock& block, int64_t head_dim) {
  alignas(64) float keep[padded_rows], take[padded_rows];
  for (int r = 0; r < block.count; r += 16)
    merge_sums(block.max + r, block.sum + r, block.part_max + r, block.part_sum + r, keep + r, take + r);
  for (int r = 0; r < block.count; r++)
    if (!is_masked(block.part_max[r], block.part_sum[r]))
      combine(space.merged + r * space.width, space.part + r * space.width, head_dim, keep[r], take[r]);
}

// Applies the sink and the denominator. out may be values.
static void finish_row(const AttentionCall& call, int64_t head, float max, float sum, const float* values, float* out) {
  Vf keep = f_set1(1.0f);
  if (call.sinks) {
    const float sink = call.sinks[head] * log2_e, top = sink > max ? sink : max;
    alignas(64) float lanes[16] = {max - top, sink - top};
    f_store(lanes, v_exp2_falling(f_load(lanes)));
    sum = __builtin_fmaf(sum, lanes[0], lanes[1]);
    keep = f_set1(lanes[0]);
  }
  const Vf inverse = f_set1(1.0f / sum), zero = f_zero();
  each_lane_group(call.kv.head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
    const Vf v = f_mul(f_mul(load_lanes(values + d, n), keep), inverse);
    store_lanes(out + d, n, f_add(v, zero));  // -0 + 0 is 0: skipped tiles cannot show in a sign
  });
}

OCTAVO_INLINE int32_t lowest_key(const AttentionCall& call, int32_t position) {
  return call.window > 0 && position >= call.window ? position - call.window + 1 : 0;
}

template <class Product>
static void start_block(const AttentionCall& call, const AttentionItem& item, int64_t kv_head, int first, int count,
                        const BlockSpace& space, QueryBlock& block) {
  const int64_t head_dim = call.kv.head_dim, group = call.num_heads / call.kv.num_kv_heads;
  const AttentionEntry* entries = call.entries + item.first_entry;
  block.count = count;
  for (int r = 0; r < count; r++) {
    block.entry[r] = int32_t((first + r) / group);
    const int32_t token = entries[block.entry[r]].token, position = call.positions[token];
    block.head[r] = int32_t(kv_head * group + (first + r) % group);
    block.low[r] = lowest_key(call, position);
    block.high[r] = position + 1;
    prepare_query<Product>(call.q + token * call.ldq + block.head[r] * head_dim, head_dim, call.scale * log2_e,
                           space.q + r * head_dim * Product::query_bytes, &block.q_scale[r], &block.q_shift[r]);
    block.p_scale[r] = 0;
    block.p_shift[r] = 0;
    if (item.part != AttentionPart::later)
      for (int64_t d = 0; d < space.width; d += 16) f_store(space.merged + r * space.width + d, f_zero());
  }
  for (int r = 0; r < (count + 15) / 16 * 16; r++) {
    block.max[r] = block.part_max[r] = -__builtin_inff();
    block.sum[r] = block.part_sum[r] = 0;
  }
  block.num_bands = 0;
  for (int r = 0; r < count; block.num_bands++) {
    block.bands[block.num_bands] = {r, rows_of_tile<Product>(count - r), 0, 0};
    r += block.bands[block.num_bands].rows;
  }
}

// Which tiles of a split each band looks at.
static void place_bands(QueryBlock& block, const SplitTiles& split) {
  for (int b = 0; b < block.num_bands; b++) {
    Band& band = block.bands[b];
    int32_t low = block.low[band.first], high = block.high[band.first];
    for (int r = band.first + 1; r < band.first + band.rows; r++) {
      low = low < block.low[r] ? low : block.low[r];
      high = high > block.high[r] ? high : block.high[r];
    }
    const int32_t begin = (low - split.first_key) / int32_t(kv_tile);
    const int32_t end = (high - split.first_key + int32_t(kv_tile) - 1) / int32_t(kv_tile);
    band.begin = low > split.first_key ? (begin < split.count ? begin : split.count) : 0;
    band.end = high > split.first_key ? (end < split.count ? end : split.count) : 0;
    if (band.end < band.begin) band.end = band.begin;
  }
}

// The tiles of a split with keys in [low, high).
static void find_tiles(const AttentionCall& call, int32_t row, int64_t kv_head, int32_t split, int32_t low,
                       int32_t high, SplitTiles& tiles) {
  const KvView& kv = call.kv;
  const int32_t begin = split * int32_t(attention_split), end = begin + int32_t(attention_split);
  const int32_t first = (low > begin ? low : begin) / int32_t(kv_tile) * int32_t(kv_tile);
  const int32_t last = high < end ? high : end;
  const int64_t k = kv_k_offset(kv, kv_head, 0), v = kv_v_offset(kv, kv_head, 0);
  const int64_t k_scale = kv_k_scale_offset(kv, kv_head, 0), v_scale = kv_v_scale_offset(kv, kv_head, 0);
  const int64_t tile_bytes = kv_side_bytes(kv.type, kv_tile, kv.head_dim);
  const int32_t* table = call.page_table + row * call.ld_table + first / kv.page_size;
  int32_t tile = first % kv.page_size / int32_t(kv_tile);
  const int32_t page_tiles = kv.page_size / int32_t(kv_tile);
  tiles.first_key = first;
  int count = 0;
  for (int32_t key = first; key < last; key += int32_t(kv_tile), count++) {
    const uint8_t* page = kv.pages + *table * kv.page_bytes;
    tiles.k[count] = page + k + tile * tile_bytes;
    tiles.v[count] = page + v + tile * tile_bytes;
    tiles.k_scale[count] = reinterpret_cast<const uint16_t*>(page + k_scale) + tile * kv_tile;
    tiles.v_scale[count] = reinterpret_cast<const uint16_t*>(page + v_scale) + tile * kv_tile;
    if (++tile == page_tiles) tile = 0, table++;
  }
  tiles.count = count;
}

// A run of work items that one call computes: knows what comes after an item.
struct WorkRange {
  const AttentionItem* items;
  int64_t kv_heads, at, end;
};

static void find_first_tiles(const AttentionCall& call, const WorkRange& range, int64_t work, SplitTiles& tiles) {
  const AttentionItem& item = range.items[work / range.kv_heads];
  const AttentionEntry* entries = call.entries + item.first_entry;
  find_tiles(call, item.row, work % range.kv_heads, item.split_begin,
             lowest_key(call, call.positions[entries[0].token]),
             call.positions[entries[item.num_tokens - 1].token] + 1, tiles);
}

// Where there is nothing ahead, a line that is being read anyway stands in.
static void look_ahead(SplitTiles& tiles, const SplitTiles* after, bool scaled) {
  for (int t = 0; t < tiles.count; t++) tiles.next[t] = after && t < after->count ? after->k[t] : tiles.v[t];
  if (!after || !scaled) return;
  for (int t = 0; t < after->count; t++) {
    prefetch(after->k_scale[t]);
    prefetch(after->v_scale[t]);
  }
}

// Halves to floats: keys as lines of one component, values as lines of one token.
static void unpack_keys(SplitTiles& split, int64_t head_dim, float* to) {
  for (int t = 0; t < split.count; t++) {
    const auto* tile = static_cast<const uint16_t*>(split.k[t]);
    const auto* ahead = static_cast<const uint16_t*>(split.v[t]);
    split.k[t] = to;
    for (int64_t d = 0; d < head_dim; d++, to += kv_tile) {
      f_store(to, f_from_half(tile + d * kv_tile));
      if (d % 2 == 0) prefetch(ahead + d * kv_tile);
    }
  }
}
static void unpack_values(SplitTiles& split, int64_t head_dim, int64_t width, float* to) {
  for (int t = 0; t < split.count; t++) {
    const auto* tile = static_cast<const uint16_t*>(split.v[t]);
    const auto* ahead = static_cast<const uint16_t*>(split.next[t]);
    split.v[t] = to;
    for (int j = 0; j < kv_tile; j++, tile += head_dim, ahead += head_dim, to += width) {
      prefetch(ahead);
      for (int64_t d = 0; d < head_dim; d += 16) f_store(to + d, f_from_half(tile + d));
    }
  }
}

// Keys are taken a few tiles at a time, which stay in the first-level cache for all bands.
template <class Product>
static void all_scores(const BlockSpace& space, const SplitTiles& split, const QueryBlock& block, int64_t head_dim) {
  const int columns = tile_columns(block.bands[0].rows);
  for (int t = 0; t < split.count; t += columns) {
    bool fetch = true;
    for (int b = 0; b < block.num_bands; b++) {
      const Band& band = block.bands[b];
      if (band.end <= t || band.begin >= t + columns) continue;
      const KeyTiles keys{split.k + t, fetch ? split.v + t : nullptr, split.k_scale + t};
      const uint8_t* q = space.q + band.first * head_dim * Product::query_bytes;
      float* scores = space.scores + band.first * attention_split + t * kv_tile;
      const float* scale = block.q_scale + band.first;
      const int32_t* shift = block.q_shift + band.first;
      const int left = split.count - t < columns ? split.count - t : columns;
      with_rows<Product>(band.rows, [&](auto rows) __attribute__((always_inline)) {
        constexpr int R = decltype(rows)::value, N = tile_columns(R);
        int n = 0;
        const auto run = [&](auto tiles) __attribute__((always_inline)) {
          constexpr int M = decltype(tiles)::value;
          for (; n + M <= left; n += M)
            score_tile<Product, R, M>(q, head_dim, KeyTiles::from(keys, n), scale, shift, scores + n * kv_tile);
        };
        run(std::integral_constant<int, N>());
        if constexpr (N > 4) run(std::integral_constant<int, 4>());
        if constexpr (N > 1) run(std::integral_constant<int, 1>());
      });
      fetch = false;
    }
  }
}

// stride: bytes between two steps of a tile of values.
template <class Product>
static void all_values(const BlockSpace& space, const SplitTiles& split, const QueryBlock& block, int64_t stride) {
  for (int b = 0; b < block.num_bands; b++) {
    const Band& band = block.bands[b];
    const uint8_t* p = reinterpret_cast<const uint8_t*>(space.scores + band.first * attention_split) +
                       band.begin * Product::tile_x_bytes;
    float* out = space.part + band.first * space.width;
    const float* scale = block.p_scale + band.first;
    const int32_t* shift = block.p_shift + band.first;
    ValueTiles values{split.v + band.begin, b == 0 ? split.next + band.begin : nullptr, band.end - band.begin, 0,
                      stride};
    with_rows<Product>(band.rows, [&](auto rows) __attribute__((always_inline)) {
      constexpr int R = decltype(rows)::value, N = tile_columns(R);
      int64_t d = 0;
      const auto run = [&](auto columns) __attribute__((always_inline)) {
        constexpr int M = decltype(columns)::value;
        values.column = d / 16 * Product::line_bytes;
        value_tile<Product, R, M>(p, values, scale, shift, out + d, space.width);
        d += M * 16;
      };
      while (d + N * 16 <= space.width) run(std::integral_constant<int, N>());
      if constexpr (N > 4)
        if (d + 64 <= space.width) run(std::integral_constant<int, 4>());
      if constexpr (N > 2)
        if (d + 32 <= space.width) run(std::integral_constant<int, 2>());
      while (d < space.width) run(std::integral_constant<int, 1>());
    });
  }
}

template <class Product>
static void soften_block(const AttentionCall& call, const BlockSpace& space, const SplitTiles& split,
                         QueryBlock& block) {
  for (int b = 0; b < block.num_bands; b++) {
    const Band& band = block.bands[b];
    for (int r = band.first; r < band.first + band.rows; r++) {
      float* scores = space.scores + r * attention_split;
      soften_row(scores, split.first_key, band.begin, band.end, block.low[r], block.high[r], call.soft_cap,
                 &block.part_max[r], &block.part_sum[r]);
      prepare_probabilities<Product>(scores, split, band.begin, band.end, &block.p_scale[r], &block.p_shift[r]);
    }
  }
}

// Scores, softmax and values of a block over one split: part, part_max, part_sum.
template <class Product>
static void attend_split(const AttentionCall& call, const BlockSpace& space, SplitTiles& split, QueryBlock& block) {
  const int64_t head_dim = call.kv.head_dim;
  place_bands(block, split);
  all_scores<Product>(space, split, block, head_dim);
  soften_block<Product>(call, space, split, block);
  all_values<Product>(space, split, block, head_dim * (Product::line_bytes / 16));
}

// Halves are unpacked once where many rows read them.
template <>
void attend_split<FloatProduct<ElementF16>>(const AttentionCall& call, const BlockSpace& space, SplitTiles& split,
                                            QueryBlock& block) {
  using Direct = FloatProduct<ElementF16>;
  using Unpacked = FloatProduct<ElementUnpacked>;
  const int64_t head_dim = call.kv.head_dim;
  const bool unpack = block.count > 8;
  place_bands(block, split);
  if (unpack) {
    unpack_keys(split, head_dim, space.keys);
    all_scores<Unpacked>(space, split, block, head_dim);
  } else {
    all_scores<Direct>(space, split, block, head_dim);
  }
  soften_block<Direct>(call, space, split, block);
  if (unpack) {
    unpack_values(split, head_dim, space.width, space.values);
    all_values<Unpacked>(space, split, block, space.width * 4);
  } else {
    all_values<Direct>(space, split, block, head_dim * 2);
  }
}

// A result of each row of the block, to place `offset` of its token's partials.
static void write_partials(const AttentionCall& call, const AttentionItem& item, int32_t offset, const float* values,
                           const float* max, const float* sum, const BlockSpace& space, const QueryBlock& block) {
  const int64_t head_dim = call.kv.head_dim;
  for (int r = 0; r < block.count; r++) {
    const int64_t slot = call.entries[item.first_entry + block.entry[r]].partial + offset;
    float* to = call.partials + slot * attention_partial_floats(call.num_heads, head_dim);
    const int64_t head = block.head[r];
    to[call.num_heads * head_dim + head] = max[r];
    to[call.num_heads * (head_dim + 1) + head] = sum[r];
    std::memcpy(to + head * head_dim, values + r * space.width, size_t(head_dim) * sizeof(float));
  }
}

template <class Product>
static void attend_block(const AttentionCall& call, const WorkRange& range, int first, int count, float* workspace) {
  const AttentionItem& item = range.items[range.at / range.kv_heads];
  const int64_t kv_head = range.at % range.kv_heads;
  const BlockSpace space = divide_workspace(workspace, call.kv.head_dim);
  QueryBlock block;
  start_block<Product>(call, item, kv_head, first, count, space, block);
  int32_t low = block.low[0], high = block.high[0];
  for (int r = 1; r < count; r++) {
    low = low < block.low[r] ? low : block.low[r];
    high = high > block.high[r] ? high : block.high[r];
  }
  SplitTiles tiles[2];
  find_tiles(call, item.row, kv_head, item.split_begin, low, high, tiles[0]);
  for (int32_t split = item.split_begin; split < item.split_end; split++) {
    const int now = (split - item.split_begin) % 2, later = 1 - now;
    const bool more = split + 1 < item.split_end || range.at + 1 < range.end;
    if (split + 1 < item.split_end) find_tiles(call, item.row, kv_head, split + 1, low, high, tiles[later]);
    else if (more) find_first_tiles(call, range, range.at + 1, tiles[later]);
    look_ahead(tiles[now], more ? &tiles[later] : nullptr, Product::scaled);
    attend_split<Product>(call, space, tiles[now], block);
    if (item.part == AttentionPart::later)
      write_partials(call, item, split - item.split_begin, space.part, block.part_max, block.part_sum, space, block);
    else
      merge_block(space, block, call.kv.head_dim);
  }
  if (item.part == AttentionPart::first)
    write_partials(call, item, 0, space.merged, block.max, block.sum, space, block);
  if (item.part != AttentionPart::whole) return;
  for (int r = 0; r < count; r++) {
    const int64_t token = call.entries[item.first_entry + block.entry[r]].token, head = block.head[r];
    finish_row(call, head, block.max[r], block.sum[r], space.merged + r * space.width,
               call.out + token * call.ldo + head * call.kv.head_dim);
  }
}

static void attention(const AttentionCall& call, const AttentionItem* items, int64_t begin, int64_t end,
                      float* workspace) {
  const int64_t kv_heads = call.kv.num_kv_heads, group = call.num_heads / kv_heads;
  for (WorkRange range{items, kv_heads, begin, end}; range.at < end; range.at++) {
    const int rows = int(items[range.at / kv_heads].num_tokens * group);
    for (int first = 0; first < rows; first += block_rows) {
      const int count = rows - first < block_rows ? rows - first : block_rows;
      switch (call.kv.type) {
        case KvType::f32: attend_block<FloatProduct<ElementF32>>(call, range, first, count, workspace); break;
        case KvType::f16: attend_block<FloatProduct<ElementF16>>(call, range, first, count, workspace); break;
        case KvType::bf16: attend_block<Bf16Product>(call, range, first, count, workspace); break;
        case KvType::int8: attend_block<Int8Product>(call, range, first, count, workspace); break;
      }
    }
  }
}

static void attention_merge(const AttentionCall& call, const AttentionMerge* merges, int64_t begin, int64_t end) {
  const int64_t heads = call.num_heads, head_dim = call.kv.head_dim;
  const int64_t stride = attention_partial_floats(heads, head_dim);
  for (int64_t w = begin; w < end; w++) {
    const AttentionMerge& merge = merges[w / heads];
    const int64_t head = w % heads;
    float* out = call.out + merge.token * call.ldo + head * head_dim;
    alignas(64) float max[16], sum[16] = {}, part_max[16], part_sum[16] = {}, keep[16], take[16];
    for (int i = 0; i < 16; i++) max[i] = part_max[i] = -__builtin_inff();
    for (int64_t d = 0; d < head_dim; d++) out[d] = 0;
    for (int32_t i = 0; i < merge.num_partials; i++) {
      const float* part = call.partials + (merge.partial + i) * stride;
      part_max[0] = part[heads * head_dim + head];
      part_sum[0] = part[heads * (head_dim + 1) + head];
      if (is_masked(part_max[0], part_sum[0])) continue;
      merge_sums(max, sum, part_max, part_sum, keep, take);
      combine(out, part + head * head_dim, head_dim, keep[0], take[0]);
    }
    finish_row(call, head, max[0], sum[0], out, out);
  }
}
