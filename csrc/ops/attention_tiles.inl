// Register tiles of attention: rows of queries times keys, rows of probabilities times values, for each type of pages.
// Included inside the namespace of a level, after kv_store.inl. The tile shapes only decide which independent sums are
// computed side by side.
//
// A product walks lines: 16 outputs (keys, or components of values) at one step of the sum. Each Product below says how
// wide a line is, what a row contributes to a step (x), and how a sum becomes a float.

// Of x: bytes a step takes, bytes from one tile's probabilities to the next tile's, bytes from a query's first pass to
// its second for each component and the same for probabilities.
template <class Element> struct FloatProduct {
  using Acc = Vf;
  using Line = Vf;
  static constexpr int step = 1, passes = 1, max_rows = num_vector_registers >= 32 ? 6 : 4;
  static constexpr int64_t line_bytes = 16 * sizeof(typename Element::Type);
  static constexpr int64_t x_bytes = 4, query_bytes = 4, tile_x_bytes = 64, query_pass = 0, tile_pass = 0;
  static constexpr bool streamed = Element::streamed, scaled = false;
  OCTAVO_INLINE Acc zero() { return f_zero(); }
  OCTAVO_INLINE Line load(const uint8_t* p) {
    return Element::load(reinterpret_cast<const typename Element::Type*>(p));
  }
  OCTAVO_INLINE Acc multiply(Acc acc, const Line& line, const uint8_t* x) {
    return f_fma(f_set1(*reinterpret_cast<const float*>(x)), line, acc);
  }
  OCTAVO_INLINE Acc next_pass(Acc acc) { return acc; }
  OCTAVO_INLINE Vf finish(Acc acc, const uint16_t*, float, int32_t) { return acc; }
};

#if defined(__AVX512BF16__)
// Pairs by the instruction.
struct Bf16Product {
  using Acc = Vf;
  using Line = Vb;
  static constexpr int step = 2, passes = 1, max_rows = 6;
  static constexpr int64_t line_bytes = 64;
  static constexpr int64_t x_bytes = 4, query_bytes = 2, tile_x_bytes = 32, query_pass = 0, tile_pass = 0;
  static constexpr bool streamed = true, scaled = false;
  OCTAVO_INLINE Acc zero() { return f_zero(); }
  OCTAVO_INLINE Line load(const uint8_t* p) { return b_load_unaligned(p); }
  OCTAVO_INLINE Acc multiply(Acc acc, const Line& line, const uint8_t* x) {
    int32_t pair;
    std::memcpy(&pair, x, 4);
    return f_dot_bf16(acc, line, pair);
  }
  OCTAVO_INLINE void narrow(uint16_t* to, Vf x) { f_store_bf16_fast(to, x); }
  OCTAVO_INLINE Acc next_pass(Acc acc) { return acc; }
  OCTAVO_INLINE Vf finish(Acc acc, const uint16_t*, float, int32_t) { return acc; }
};
#else
// Pairs in float32, one after the other.
struct Bf16Product {
  using Acc = Vf;
  struct Line { Vf even, odd; };
  static constexpr int step = 2, passes = 1, max_rows = 4;
  static constexpr int64_t line_bytes = 64;
  static constexpr int64_t x_bytes = 8, query_bytes = 4, tile_x_bytes = 64, query_pass = 0, tile_pass = 0;
  static constexpr bool streamed = true, scaled = false;
  OCTAVO_INLINE Acc zero() { return f_zero(); }
  OCTAVO_INLINE Line load(const uint8_t* p) {
    const Vb line = b_load_unaligned(p);
    return {f_bf16_even(line), f_bf16_odd(line)};
  }
  OCTAVO_INLINE Acc multiply(Acc acc, const Line& line, const uint8_t* x) {
    const float* pair = reinterpret_cast<const float*>(x);
    return f_fma(f_set1(pair[1]), line.odd, f_fma(f_set1(pair[0]), line.even, acc));
  }
  OCTAVO_INLINE Acc next_pass(Acc acc) { return acc; }
  OCTAVO_INLINE Vf finish(Acc acc, const uint16_t*, float, int32_t) { return acc; }
};
#endif

// x is a number of 16 bits, 256 * high + low, both signed bytes: the sums of the high ones, times 256, then of the low
// ones. Where lines hold value + 128, `shift` = -128 * sum of x takes that back.
struct Int8Product {
  using Acc = Vi;
  using Line = Vb;
  static constexpr int step = 4, passes = 2, max_rows = num_vector_registers >= 32 ? 6 : 4;
  static constexpr int64_t line_bytes = 64;
  static constexpr int64_t x_bytes = 4, query_bytes = 2, tile_x_bytes = 32, query_pass = 1, tile_pass = 16;
  static constexpr bool streamed = true, scaled = true;
  static constexpr float levels = 32639;  // 127 * 256 + 127
  static constexpr int32_t offset = signed_bytes ? 0 : 128;
  OCTAVO_INLINE Acc zero() { return i_zero(); }
  OCTAVO_INLINE Line load(const uint8_t* p) { return b_load_unaligned(p); }
  OCTAVO_INLINE Acc multiply(Acc acc, const Line& line, const uint8_t* x) {
    return dot4_any(acc, line, reinterpret_cast<const int8_t*>(x));
  }
  OCTAVO_INLINE Acc next_pass(Acc acc) { return i_shl<8>(acc); }
  OCTAVO_INLINE Vf finish(Acc acc, const uint16_t* scales, float scale, int32_t shift) {
    const Vf sum = f_from_i(i_add(acc, i_set1(shift)));
    return f_mul(sum, scales ? f_mul(f_from_half(scales), f_set1(scale)) : f_set1(scale));
  }
};

// High and low bytes of 16 numbers within +-32639.
OCTAVO_INLINE void split_bytes(Vi x, uint8_t* high, uint8_t* low) {
  i_store_i8(reinterpret_cast<int8_t*>(high), i_sar<8>(i_add(x, i_set1(128))));
  i_store_i8(reinterpret_cast<int8_t*>(low), i_sar<24>(i_shl<24>(x)));
}

// Vectors side by side in a register tile: enough chains to hide the latency of an addition.
constexpr int tile_columns(int rows) {
  if (num_vector_registers >= 32) return rows == 1 ? 8 : 4;
  if (num_vector_registers >= 8) return rows == 1 ? 4 : rows == 2 ? 2 : 1;
  return 1;
}

// To the second-level cache: a split's keys or values are larger than the first.
OCTAVO_INLINE void prefetch(const void* p) { __builtin_prefetch(p, 0, 2); }

// Keys of one register tile.
struct KeyTiles {
  const void* const* tiles;
  const void* const* ahead;         // what is read next, of the same size; null: nothing is to be fetched
  const uint16_t* const* scales;    // int8 only
  OCTAVO_INLINE KeyTiles from(const KeyTiles& k, int n) {
    return {k.tiles + n, k.ahead ? k.ahead + n : nullptr, k.scales + n};
  }
};

template <class Product, int R, int N>
static void score_tile(const uint8_t* q, int64_t head_dim, const KeyTiles& keys, const float* scale,
                       const int32_t* shift, float* scores) {
  typename Product::Acc acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) acc[r][n] = Product::zero();
  const int64_t steps = head_dim / Product::step, stride = head_dim * Product::query_bytes;
  for (int pass = 0; pass < Product::passes; pass++) {
    const uint8_t* x = q + pass * Product::query_pass * head_dim;
    if (pass > 0)
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) acc[r][n] = Product::next_pass(acc[r][n]);
    for (int64_t i = 0; i < steps; i++, x += Product::x_bytes) {
      typename Product::Line line[N];
#pragma GCC unroll 8
      for (int n = 0; n < N; n++)
        line[n] = Product::load(static_cast<const uint8_t*>(keys.tiles[n]) + i * Product::line_bytes);
      if (Product::streamed && keys.ahead && pass == 0 && (Product::line_bytes == 64 || i % 2 == 0))
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) prefetch(static_cast<const uint8_t*>(keys.ahead[n]) + i * Product::line_bytes);
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) acc[r][n] = Product::multiply(acc[r][n], line[n], x + r * stride);
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++)
      f_store(scores + r * attention_split + n * kv_tile,
              Product::finish(acc[r][n], Product::scaled ? keys.scales[n] : nullptr, scale[r], shift[r]));
}

// Values of one register tile: all tiles of a row group, some components.
struct ValueTiles {
  const void* const* tiles;
  const void* const* ahead;  // as above
  int count;
  int64_t column;            // bytes from a tile's start to the first component's line
  int64_t stride;            // bytes between two steps
};

template <class Product, int R, int N>
static void value_tile(const uint8_t* p, const ValueTiles& values, const float* scale, const int32_t* shift,
                       float* out, int64_t width) {
  constexpr int64_t row_bytes = attention_split * 4;
  typename Product::Acc acc[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++) acc[r][n] = Product::zero();
  for (int pass = 0; pass < Product::passes; pass++) {
    if (pass > 0)
#pragma GCC unroll 8
      for (int r = 0; r < R; r++)
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) acc[r][n] = Product::next_pass(acc[r][n]);
    for (int t = 0; t < values.count; t++) {
      const uint8_t* tile = static_cast<const uint8_t*>(values.tiles[t]) + values.column;
      const uint8_t* x = p + t * Product::tile_x_bytes + pass * Product::tile_pass;
      const uint8_t* far = nullptr;
      if (Product::streamed && values.ahead && pass == 0)
        far = static_cast<const uint8_t*>(values.ahead[t]) + values.column;
      for (int j = 0; j < kv_tile / Product::step; j++, tile += values.stride, x += Product::x_bytes) {
        typename Product::Line line[N];
#pragma GCC unroll 8
        for (int n = 0; n < N; n++) line[n] = Product::load(tile + n * Product::line_bytes);
        if (Product::streamed && far) {
#pragma GCC unroll 8
          for (int n = 0; n < N; n += Product::line_bytes == 64 ? 1 : 2) prefetch(far + n * Product::line_bytes);
          far += values.stride;
        }
#pragma GCC unroll 8
        for (int r = 0; r < R; r++)
#pragma GCC unroll 8
          for (int n = 0; n < N; n++) acc[r][n] = Product::multiply(acc[r][n], line[n], x + r * row_bytes);
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < R; r++)
#pragma GCC unroll 8
    for (int n = 0; n < N; n++)
      f_store(out + r * width + n * 16, Product::finish(acc[r][n], nullptr, scale[r], shift[r]));
}

// Calls body with the number of rows as a constant.
template <class Product, class Body> OCTAVO_INLINE void with_rows(int rows, const Body& body) {
  switch (rows) {
    case 1: return body(std::integral_constant<int, 1>());
    case 2: return body(std::integral_constant<int, 2>());
    case 3: return body(std::integral_constant<int, 3>());
    case 4: return body(std::integral_constant<int, 4>());
    default:
      if constexpr (Product::max_rows > 4) return body(std::integral_constant<int, Product::max_rows>());
  }
}
// How many of `left` rows the next register tile takes.
template <class Product> constexpr int rows_of_tile(int left) {
  if (left == Product::max_rows + 1) return Product::max_rows - 2;  // a single row has too few chains
  if (left >= Product::max_rows) return Product::max_rows;
  return left == 5 ? 3 : left;
}
