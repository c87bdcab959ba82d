// Norms, rope and the element-by-element kernels. Included inside the namespace of a level.

// Calls body(i, n) for lanes i .. i + n of a row, n = 16 but for the tail.
template <class Body> OCTAVO_INLINE void each_lane_group(int64_t width, const Body& body) {
  int64_t i = 0;
  for (; i + 16 <= width; i += 16) body(i, 16);
  if (i < width) body(i, int(width - i));
}
OCTAVO_INLINE Vf load_lanes(const float* p, int n) { return n == 16 ? f_load(p) : f_load_first(p, n); }
OCTAVO_INLINE void store_lanes(float* p, int n, Vf a) {
  if (n == 16) f_store(p, a);
  else f_store_first(p, n, a);
}

static void rms_norm_row(const float* x, const float* w, float eps, float* out, int64_t width) {
  Vf squares = f_zero();
  each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
    const Vf v = load_lanes(x + i, n);
    squares = f_fma(v, v, squares);
  });
  const Vf factor = f_set1(1.0f / __builtin_sqrtf(f_sum(squares) / float(width) + eps));
  each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
    store_lanes(out + i, n, f_mul(f_mul(load_lanes(x + i, n), factor), load_lanes(w + i, n)));
  });
}

static void rms_norm(ConstRows x, const float* w, float eps, Rows out, int64_t begin, int64_t end, int64_t groups,
                     int64_t width) {
  for (int64_t r = begin; r < end; r++)
    for (int64_t g = 0; g < groups; g++)
      rms_norm_row(x.data + r * x.ld + g * width, w, eps, out.data + r * out.ld + g * width, width);
}

static void add_rms_norm(ConstRows x, ConstRows residual, const float* w, float eps, Rows sum, Rows out, int64_t begin,
                         int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; r++) {
    const float *a = x.data + r * x.ld, *b = residual.data + r * residual.ld;
    float* s = sum.data + r * sum.ld;
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      store_lanes(s + i, n, f_add(load_lanes(a + i, n), load_lanes(b + i, n)));
    });
    rms_norm_row(s, w, eps, out.data + r * out.ld, width);
  }
}

static void layer_norm(ConstRows x, const float* w, const float* b, float eps, Rows out, int64_t begin, int64_t end,
                       int64_t width) {
  for (int64_t r = begin; r < end; r++) {
    const float* in = x.data + r * x.ld;
    float* to = out.data + r * out.ld;
    Vf total = f_zero(), squares = f_zero();
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      total = f_add(total, load_lanes(in + i, n));
    });
    const Vf mean = f_set1(f_sum(total) / float(width));
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      const Vf v = f_select(m_first(n), f_sub(load_lanes(in + i, n), mean), f_zero());
      squares = f_fma(v, v, squares);
    });
    const Vf factor = f_set1(1.0f / __builtin_sqrtf(f_sum(squares) / float(width) + eps));
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      const Vf v = f_mul(f_mul(f_sub(load_lanes(in + i, n), mean), factor), load_lanes(w + i, n));
      store_lanes(to + i, n, b ? f_add(v, load_lanes(b + i, n)) : v);
    });
  }
}

static void rope(ConstRows x, const float* table, int64_t half, Rows out, int64_t begin, int64_t end, int64_t heads,
                 int64_t head_dim) {
  for (int64_t r = begin; r < end; r++) {
    const float *cosines = table + r * 2 * half, *sines = cosines + half;
    for (int64_t h = 0; h < heads; h++) {
      const float* in = x.data + r * x.ld + h * head_dim;
      float* to = out.data + r * out.ld + h * head_dim;
      each_lane_group(half, [&](int64_t i, int n) __attribute__((always_inline)) {
        const Vf a = load_lanes(in + i, n), b = load_lanes(in + half + i, n);
        const Vf c = load_lanes(cosines + i, n), s = load_lanes(sines + i, n);
        store_lanes(to + i, n, f_fma(a, c, f_neg(f_mul(b, s))));
        store_lanes(to + half + i, n, f_fma(b, c, f_mul(a, s)));
      });
      if (to != in)
        for (int64_t i = 2 * half; i < head_dim; i++) to[i] = in[i];
    }
  }
}

template <Activation A>
static void gated_rows(ConstRows gate, ConstRows up, Rows out, int64_t begin, int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; r++) {
    const float *g = gate.data + r * gate.ld, *u = up.data + r * up.ld;
    float* to = out.data + r * out.ld;
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      store_lanes(to + i, n, f_mul(v_activate<A>(load_lanes(g + i, n)), load_lanes(u + i, n)));
    });
  }
}

static void gated(ConstRows gate, ConstRows up, Rows out, int64_t begin, int64_t end, int64_t width,
                  Activation activation) {
  switch (activation) {
    case Activation::silu: return gated_rows<Activation::silu>(gate, up, out, begin, end, width);
    case Activation::gelu_tanh: return gated_rows<Activation::gelu_tanh>(gate, up, out, begin, end, width);
    case Activation::gelu: return gated_rows<Activation::gelu>(gate, up, out, begin, end, width);
    case Activation::relu: return gated_rows<Activation::relu>(gate, up, out, begin, end, width);
  }
}

// out = map(x) over rows.
template <class Map>
OCTAVO_INLINE void map_rows(ConstRows x, Rows out, int64_t begin, int64_t end, int64_t width, const Map& map) {
  for (int64_t r = begin; r < end; r++) {
    const float* in = x.data + r * x.ld;
    float* to = out.data + r * out.ld;
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      store_lanes(to + i, n, map(load_lanes(in + i, n), i, n));
    });
  }
}

template <Activation A>
static void activate_rows(ConstRows x, Rows out, int64_t begin, int64_t end, int64_t width) {
  map_rows(x, out, begin, end, width,
           [](Vf v, int64_t, int) __attribute__((always_inline)) { return v_activate<A>(v); });
}

static void activate(ConstRows x, Rows out, int64_t begin, int64_t end, int64_t width, Activation activation) {
  switch (activation) {
    case Activation::silu: return activate_rows<Activation::silu>(x, out, begin, end, width);
    case Activation::gelu_tanh: return activate_rows<Activation::gelu_tanh>(x, out, begin, end, width);
    case Activation::gelu: return activate_rows<Activation::gelu>(x, out, begin, end, width);
    case Activation::relu: return activate_rows<Activation::relu>(x, out, begin, end, width);
  }
}

static void add(ConstRows a, ConstRows b, Rows out, int64_t begin, int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; r++) {
    const float *left = a.data + r * a.ld, *right = b.data + r * b.ld;
    float* to = out.data + r * out.ld;
    each_lane_group(width, [&](int64_t i, int n) __attribute__((always_inline)) {
      store_lanes(to + i, n, f_add(load_lanes(left + i, n), load_lanes(right + i, n)));
    });
  }
}

static void add_bias(ConstRows x, const float* bias, Rows out, int64_t begin, int64_t end, int64_t width) {
  map_rows(x, out, begin, end, width, [&](Vf v, int64_t i, int n) __attribute__((always_inline)) {
    return f_add(v, load_lanes(bias + i, n));
  });
}

static void scale(ConstRows x, float factor, Rows out, int64_t begin, int64_t end, int64_t width) {
  const Vf f = f_set1(factor);
  map_rows(x, out, begin, end, width, [&](Vf v, int64_t, int) __attribute__((always_inline)) { return f_mul(v, f); });
}

static void soft_cap(ConstRows x, float factor, float cap, Rows out, int64_t begin, int64_t end, int64_t width) {
  const Vf f = f_set1(factor), c = f_set1(cap);
  map_rows(x, out, begin, end, width, [&](Vf v, int64_t, int) __attribute__((always_inline)) {
    return f_mul(c, v_tanh(f_div(f_mul(v, f), c)));
  });
}

static void gather_rows(ConstRows x, const int32_t* indices, Rows out, int64_t begin, int64_t end, int64_t width) {
  for (int64_t r = begin; r < end; r++)
    std::memcpy(out.data + r * out.ld, x.data + indices[r] * x.ld, size_t(width) * sizeof(float));
}
