// Paged attention over tiles of 16 keys. Included inside the namespace of a level, after kv_store.inl.
//
// A block of up to 64 query rows (tokens x query heads of one key/value head) goes through a split at a time: scores
// of all rows with register tiles of rows x keys, softmax per row, then values with register tiles of rows x
// components. The tile shapes only decide which independent sums are computed side by side.

constexpr int block_rows = int(attention_block_rows);
constexpr int split_tiles = int(attention_split / kv_tile);

// Vectors side by side in a register tile of 1 to 4 rows: enough chains to hide the latency of an addition.
constexpr int tile_columns(int rows) {
  if (num_vector_registers >= 32) return rows == 1 ? 8 : 4;
  if (num_vector_registers >= 8) return rows == 1 ? 4 : rows == 2 ? 2 : 1;
  return 1;
}

struct BlockSpace {
  float* q;       // [rows][head_dim], scaled
  float* scores;  // [rows][attention_split]
  float* part;    // [rows][padded head_dim]: one split's sums
  float* merged;  // [rows][padded head_dim]
  float* keys;    // unpacked split
  float* values;
  int64_t width;  // padded head_dim
};

OCTAVO_INLINE BlockSpace divide_workspace(float* workspace, int64_t head_dim) {
  BlockSpace s;
  s.width = (head_dim + 15) / 16 * 16;
  s.q = workspace;
  s.scores = s.q + block_rows * s.width;
  s.part = s.scores + block_rows * attention_split;
  s.merged = s.part + block_rows * s.width;
  s.keys = s.merged + block_rows * s.width;
  s.values = s.keys + attention_split * s.width;
  return s;
}

struct QueryBlock {
  int count;
  int32_t token[block_rows], head[block_rows];
  int32_t low[block_rows], high[block_rows];       // visible keys [low, high)
  float max[block_rows], sum[block_rows];          // merged
  float part_max[block_rows], part_sum[block_rows];
};

struct SplitTiles {
  int count;
  int32_t first_key;
  const void* k[split_tiles];
  const void* v[split_tiles];
  const void* next[split_tiles];  // keys that will be wanted next
};

// To the second-level cache: a split's keys or values are larger than the first.
OCTAVO_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// While keys are read, the values of the same tiles (ahead) are fetched; while values are read, the keys of the next
// split. Both have the same size, so each line read fetches the line at the same place.
template <class Element, int R, int N>
static void score_tile(const float* q, int64_t head_dim, const void* const* tiles, const void* const* ahead,
                       float* scores) {
  using Type = typename Element::Type;
  Vf acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) acc[r][n] = f_zero();
  for (int64_t d = 0; d < head_dim; d++) {
    Vf k[N];
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) k[n] = Element::load(static_cast<const Type*>(tiles[n]) + d * kv_tile);
    if (Element::streamed && (sizeof(Type) == 4 || d % 2 == 0))
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) prefetch(static_cast<const Type*>(ahead[n]) + d * kv_tile);
#pragma GCC unroll 8
    for (int r = 0; r < R; r++) {
      const Vf x = f_set1(q[r * head_dim + d]);
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) acc[r][n] = f_fma(x, k[n], acc[r][n]);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) f_store(scores + r * attention_split + n * kv_tile, acc[r][n]);
}

template <class Element, int R>
static void score_rows(const float* q, int64_t head_dim, const SplitTiles& split, float* scores) {
  constexpr int N = tile_columns(R);
  int t = 0;
  for (; t + N <= split.count; t += N)
    score_tile<Element, R, N>(q, head_dim, split.k + t, split.v + t, scores + t * kv_tile);
  for (; t < split.count; t++)
    score_tile<Element, R, 1>(q, head_dim, split.k + t, split.v + t, scores + t * kv_tile);
}

template <class Element, int R, int N>
static void value_tile(const float* p, const void* const* tiles, const void* const* ahead, int count, int64_t stride,
                       float* out, int64_t width) {
  using Type = typename Element::Type;
  Vf acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) acc[r][n] = f_zero();
  for (int t = 0; t < count; t++) {
    const Type *tile = static_cast<const Type*>(tiles[t]), *far = static_cast<const Type*>(ahead[t]);
    for (int j = 0; j < kv_tile; j++, tile += stride, far += stride) {
      Vf v[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; n++) v[n] = Element::load(tile + n * 16);
      if constexpr (Element::streamed)
#pragma GCC unroll 8
        for (int n = 0; n < N; n += sizeof(Type) == 4 ? 1 : 2) prefetch(far + n * 16);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++) {
        const Vf x = f_set1(p[r * attention_split + t * kv_tile + j]);
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) acc[r][n] = f_fma(x, v[n], acc[r][n]);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) f_store(out + r * width + n * 16, acc[r][n]);
}

template <class Element, int R>
static void value_rows(const float* p, const SplitTiles& split, int64_t stride, float* out, int64_t width) {
  constexpr int N = tile_columns(R);
  using Type = typename Element::Type;
  const void *tiles[split_tiles], *ahead[split_tiles];
  int64_t d = 0;
  const auto run = [&](auto kernel, int64_t columns) {
    for (int t = 0; t < split.count; t++) {
      tiles[t] = static_cast<const Type*>(split.v[t]) + d;
      ahead[t] = static_cast<const Type*>(split.next[t]) + d;
    }
    kernel(p, tiles, ahead, split.count, stride, out + d, width);
    d += columns;
  };
  while (d + N * 16 <= width) run(value_tile<Element, R, N>, N * 16);
  if constexpr (N > 4)
    if (d + 64 <= width) run(value_tile<Element, R, 4>, 64);
  if constexpr (N > 2)
    if (d + 32 <= width) run(value_tile<Element, R, 2>, 32);
  while (d < width) run(value_tile<Element, R, 1>, 16);
}

// Scores of one row to probabilities relative to their maximum; their sum. -inf and 0 where no key is visible.
static void soften_row(float* scores, const SplitTiles& split, int32_t low, int32_t high, float cap, float* max,
                       float* sum) {
  const Vf minus_inf = f_set1(-__builtin_inff()), c = f_set1(cap);
  Vf largest = minus_inf;
  for (int t = 0; t < split.count; t++) {
    const int32_t key = split.first_key + t * int32_t(kv_tile);
    Vf s = f_load(scores + t * kv_tile);
    if (cap > 0) s = f_mul(c, v_tanh(f_div(s, c)));
    if (high < key + 16) s = f_select(m_first(high > key ? high - key : 0), s, minus_inf);
    if (low > key) s = f_select(m_first(low - key), minus_inf, s);
    f_store(scores + t * kv_tile, s);
    largest = f_max(s, largest);
  }
  *max = f_largest(largest);
  const Vf base = f_set1(*max == -__builtin_inff() ? 0.0f : *max);
  Vf total = f_zero();
  for (int t = 0; t < split.count; t++) {
    const Vf p = v_exp(f_sub(f_load(scores + t * kv_tile), base));
    f_store(scores + t * kv_tile, p);
    total = f_add(total, p);
  }
  *sum = f_sum(total);
}

OCTAVO_INLINE float exp_one(float x) {
  alignas(64) float lanes[16];
  f_store(lanes, v_exp(f_set1(x)));
  return lanes[0];
}

// One split's result into the running one; values beyond head_dim may be anything.
static void merge_row(float* max, float* sum, float* values, float part_max, float part_sum, const float* part,
                      int64_t head_dim) {
  // Without a maximum and yet with a sum, all scores are NaN, and so is the result.
  if (part_max == -__builtin_inff() && part_sum == 0) return;
  const float top = part_max > *max ? part_max : *max;
  const float keep = exp_one(*max - top), take = exp_one(part_max - top);
  *sum = __builtin_fmaf(*sum, keep, part_sum * take);
  *max = top;
  const Vf a = f_set1(keep), b = f_set1(take);
  each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
    store_lanes(values + d, n, f_fma(load_lanes(values + d, n), a, f_mul(load_lanes(part + d, n), b)));
  });
}

// Applies the sink and the denominator. out may be values.
static void finish_row(const AttentionCall& call, int64_t head, float max, float sum, const float* values, float* out) {
  Vf keep = f_set1(1.0f);
  if (call.sinks) {
    const float sink = call.sinks[head], top = sink > max ? sink : max;
    const float factor = exp_one(max - top);
    sum = __builtin_fmaf(sum, factor, exp_one(sink - top));
    keep = f_set1(factor);
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

static void start_block(const AttentionCall& call, const AttentionItem& item, int64_t kv_head, int first, int count,
                        const BlockSpace& space, QueryBlock& block) {
  const int64_t head_dim = call.kv.head_dim, group = call.num_heads / call.kv.num_kv_heads;
  const Vf factor = f_set1(call.scale);
  block.count = count;
  for (int r = 0; r < count; r++) {
    const int32_t token = item.first_token + int32_t((first + r) / group);
    const int32_t head = int32_t(kv_head * group + (first + r) % group);
    const int32_t position = call.positions[token];
    block.token[r] = token;
    block.head[r] = head;
    block.low[r] = lowest_key(call, position);
    block.high[r] = position + 1;
    block.max[r] = -__builtin_inff();
    block.sum[r] = 0;
    const float* q = call.q + token * call.ldq + head * head_dim;
    each_lane_group(head_dim, [&](int64_t d, int n) __attribute__((always_inline)) {
      store_lanes(space.q + r * head_dim + d, n, f_mul(load_lanes(q + d, n), factor));
    });
    for (int64_t d = 0; d < space.width; d += 16) f_store(space.merged + r * space.width + d, f_zero());
  }
}

// The tiles of a split with keys in [low, high).
static void find_tiles(const AttentionCall& call, int32_t row, int64_t kv_head, int32_t split, int32_t low,
                       int32_t high, SplitTiles& tiles) {
  const int32_t begin = split * int32_t(attention_split), end = begin + int32_t(attention_split);
  const int32_t first = (low > begin ? low : begin) / int32_t(kv_tile) * int32_t(kv_tile);
  const int32_t last = high < end ? high : end;
  const int32_t* table = call.page_table + row * call.ld_table;
  tiles.count = 0;
  tiles.first_key = first;
  for (int32_t key = first; key < last; key += int32_t(kv_tile)) {
    const uint8_t* page = call.kv.pages + table[key / call.kv.page_size] * call.kv.page_bytes;
    const int64_t tile = key % call.kv.page_size / kv_tile;
    tiles.k[tiles.count] = page + kv_k_offset(call.kv, kv_head, tile);
    tiles.v[tiles.count] = page + kv_v_offset(call.kv, kv_head, tile);
    tiles.count++;
  }
}

// A run of work items that one call computes: knows what comes after an item.
struct WorkRange {
  const AttentionItem* items;
  int64_t kv_heads, at, end;
};

static void find_first_tiles(const AttentionCall& call, const WorkRange& range, int64_t work, SplitTiles& tiles) {
  const AttentionItem& item = range.items[work / range.kv_heads];
  find_tiles(call, item.row, work % range.kv_heads, item.split_begin,
             lowest_key(call, call.positions[item.first_token]),
             call.positions[item.first_token + item.num_tokens - 1] + 1, tiles);
}

// Where there is nothing ahead, a line that is being read anyway stands in.
static void look_ahead(SplitTiles& tiles, const SplitTiles* after) {
  for (int t = 0; t < tiles.count; t++) tiles.next[t] = after && t < after->count ? after->k[t] : tiles.v[t];
}

template <class Element> static void unpack_keys(SplitTiles& split, int64_t head_dim, float* to) {
  for (int t = 0; t < split.count; t++) {
    const auto* tile = static_cast<const typename Element::Type*>(split.k[t]);
    const auto* ahead = static_cast<const typename Element::Type*>(split.v[t]);
    split.k[t] = to;
    for (int64_t d = 0; d < head_dim; d++, to += kv_tile) {
      f_store(to, Element::load(tile + d * kv_tile));
      if (d % 2 == 0) prefetch(ahead + d * kv_tile);
    }
  }
}

template <class Element> static void unpack_values(SplitTiles& split, int64_t head_dim, int64_t width, float* to) {
  alignas(64) typename Element::Type tail[16] = {};
  for (int t = 0; t < split.count; t++) {
    const auto* tile = static_cast<const typename Element::Type*>(split.v[t]);
    const auto* ahead = static_cast<const typename Element::Type*>(split.next[t]);
    split.v[t] = to;
    for (int j = 0; j < kv_tile; j++, tile += head_dim, ahead += head_dim, to += width) {
      int64_t d = 0;
      for (; d + 16 <= head_dim; d += 16) {
        f_store(to + d, Element::load(tile + d));
        prefetch(ahead + d);
      }
      if (d == head_dim) continue;
      std::memcpy(tail, tile + d, size_t(head_dim - d) * sizeof(tail[0]));
      f_store(to + d, Element::load(tail));
    }
  }
}

template <class Element>
static void all_scores(const BlockSpace& space, const SplitTiles& split, int rows, int64_t head_dim) {
  for (int r = 0; r < rows; r += 4) {
    const float* q = space.q + r * head_dim;
    float* scores = space.scores + r * attention_split;
    switch (rows - r) {
      case 1: score_rows<Element, 1>(q, head_dim, split, scores); break;
      case 2: score_rows<Element, 2>(q, head_dim, split, scores); break;
      case 3: score_rows<Element, 3>(q, head_dim, split, scores); break;
      default: score_rows<Element, 4>(q, head_dim, split, scores);
    }
  }
}

template <class Element>
static void all_values(const BlockSpace& space, const SplitTiles& split, int rows, int64_t stride) {
  for (int r = 0; r < rows; r += 4) {
    const float* p = space.scores + r * attention_split;
    float* out = space.part + r * space.width;
    switch (rows - r) {
      case 1: value_rows<Element, 1>(p, split, stride, out, space.width); break;
      case 2: value_rows<Element, 2>(p, split, stride, out, space.width); break;
      case 3: value_rows<Element, 3>(p, split, stride, out, space.width); break;
      default: value_rows<Element, 4>(p, split, stride, out, space.width);
    }
  }
}

// Scores, softmax and values of a block over one split: part, part_max, part_sum.
template <class Element>
static void attend_split(const AttentionCall& call, const BlockSpace& space, SplitTiles& split, QueryBlock& block) {
  constexpr bool narrow = sizeof(typename Element::Type) < 4;
  const int64_t head_dim = call.kv.head_dim;
  const bool unpack = narrow && block.count > 8;
  if (unpack) {
    unpack_keys<Element>(split, head_dim, space.keys);
    all_scores<ElementUnpacked>(space, split, block.count, head_dim);
  } else {
    all_scores<Element>(space, split, block.count, head_dim);
  }
  for (int r = 0; r < block.count; r++)
    soften_row(space.scores + r * attention_split, split, block.low[r], block.high[r], call.soft_cap,
               &block.part_max[r], &block.part_sum[r]);
  if (unpack || head_dim % 16 != 0) {
    unpack_values<Element>(split, head_dim, space.width, space.values);
    all_values<ElementUnpacked>(space, split, block.count, space.width);
  } else {
    all_values<Element>(space, split, block.count, head_dim);
  }
}

static void write_partials(const AttentionCall& call, const AttentionItem& item, int32_t split,
                           const BlockSpace& space, const QueryBlock& block) {
  const int64_t head_dim = call.kv.head_dim;
  for (int r = 0; r < block.count; r++) {
    const int64_t slot = item.partial + int64_t(block.token[r] - item.first_token) * item.partial_stride +
                         (split - item.split_begin);
    float* to = call.partials + slot * attention_partial_floats(call.num_heads, head_dim);
    const int64_t head = block.head[r];
    to[call.num_heads * head_dim + head] = block.part_max[r];
    to[call.num_heads * (head_dim + 1) + head] = block.part_sum[r];
    std::memcpy(to + head * head_dim, space.part + r * space.width, size_t(head_dim) * sizeof(float));
  }
}

template <class Element>
static void attend_block(const AttentionCall& call, const WorkRange& range, int first, int count, float* workspace) {
  const AttentionItem& item = range.items[range.at / range.kv_heads];
  const int64_t kv_head = range.at % range.kv_heads;
  const BlockSpace space = divide_workspace(workspace, call.kv.head_dim);
  QueryBlock block;
  start_block(call, item, kv_head, first, count, space, block);
  const int32_t low = block.low[0], high = block.high[count - 1];  // positions rise within a row
  SplitTiles tiles[2];
  find_tiles(call, item.row, kv_head, item.split_begin, low, high, tiles[0]);
  for (int32_t split = item.split_begin; split < item.split_end; split++) {
    const int now = (split - item.split_begin) % 2, later = 1 - now;
    const bool more = split + 1 < item.split_end || range.at + 1 < range.end;
    if (split + 1 < item.split_end) find_tiles(call, item.row, kv_head, split + 1, low, high, tiles[later]);
    else if (more) find_first_tiles(call, range, range.at + 1, tiles[later]);
    look_ahead(tiles[now], more ? &tiles[later] : nullptr);
    attend_split<Element>(call, space, tiles[now], block);
    if (item.partial >= 0) {
      write_partials(call, item, split, space, block);
      continue;
    }
    for (int r = 0; r < count; r++)
      merge_row(&block.max[r], &block.sum[r], space.merged + r * space.width, block.part_max[r], block.part_sum[r],
                space.part + r * space.width, call.kv.head_dim);
  }
  if (item.partial >= 0) return;
  for (int r = 0; r < count; r++)
    finish_row(call, block.head[r], block.max[r], block.sum[r], space.merged + r * space.width,
               call.out + block.token[r] * call.ldo + block.head[r] * int64_t(call.kv.head_dim));
}

static void attention(const AttentionCall& call, const AttentionItem* items, int64_t begin, int64_t end,
                      float* workspace) {
  const int64_t kv_heads = call.kv.num_kv_heads, group = call.num_heads / kv_heads;
  for (WorkRange range{items, kv_heads, begin, end}; range.at < end; range.at++) {
    const int rows = int(items[range.at / kv_heads].num_tokens * group);
    for (int first = 0; first < rows; first += block_rows) {
      const int count = rows - first < block_rows ? rows - first : block_rows;
      switch (call.kv.type) {
        case KvType::f32: attend_block<ElementF32>(call, range, first, count, workspace); break;
        case KvType::f16: attend_block<ElementF16>(call, range, first, count, workspace); break;
        case KvType::bf16: attend_block<ElementBf16>(call, range, first, count, workspace); break;
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
    float max = -__builtin_inff(), sum = 0;
    for (int64_t d = 0; d < head_dim; d++) out[d] = 0;
    for (int32_t i = 0; i < merge.num_partials; i++) {
      const float* part = call.partials + (merge.partial + i) * stride;
      merge_row(&max, &sum, out, part[heads * head_dim + head], part[heads * (head_dim + 1) + head],
                part + head * head_dim, head_dim);
    }
    finish_row(call, head, max, sum, out, out);
  }
}
