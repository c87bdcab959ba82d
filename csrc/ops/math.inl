// exp, tanh, erf and the activations over 16 lanes. Coefficients are minimax fits of our own (relative error of the
// polynomial below 0.3 of a float32 rounding). Included inside the namespace of a level.

// exp(x), about 1 ulp; exp(0) is exactly 1. Zero below -86.9 (no subnormals), saturates at exp(88.37); NaN stays.
OCTAVO_INLINE Vf v_exp(Vf x) {
  const Vf clamped = f_max(f_set1(-86.9f), f_min(f_set1(88.37f), x));
  const Vi n = i_round(f_mul(clamped, f_set1(1.44269504f)));
  const Vf steps = f_from_i(n);
  Vf r = f_fma(steps, f_set1(-0x1.62e4p-1f), clamped);  // ln 2 in two parts; the first product is exact
  r = f_fma(steps, f_set1(-0x1.7f7d1cp-20f), r);
  Vf p = f_fma(f_set1(0.00138143206f), r, f_set1(0.00836885069f));
  p = f_fma(p, r, f_set1(0.0416684002f));
  p = f_fma(p, r, f_set1(0.166665196f));
  p = f_fma(p, r, f_set1(0.49999994f));
  p = f_fma(p, f_mul(r, r), r);
  p = f_add(p, f_set1(1.0f));
  const Vf scaled = i_floats(i_add(f_bits(p), i_shl<23>(n)));
  return f_select(m_gt(f_set1(-86.9f), x), f_zero(), scaled);
}

// 2^x for x at most 0, relative error below 2e-7; exactly 1 at 0, zero below -125; NaN stays.
OCTAVO_INLINE Vf v_exp2_falling(Vf x) {
  const Vf clamped = f_max(f_set1(-126.0f), x);
  const Vi n = i_round(clamped);
  const Vf f = f_sub(clamped, f_from_i(n));
  Vf p = f_fma(f_set1(0.0013264727f), f, f_set1(0.009671513f));
  p = f_fma(p, f, f_set1(0.055507336f));
  p = f_fma(p, f, f_set1(0.24022242f));
  p = f_fma(p, f, f_set1(0.693147f));
  p = f_fma(p, f, f_set1(1.0f));
  return f_select(m_gt(f_set1(-125.0f), x), f_zero(), i_floats(i_add(f_bits(p), i_shl<23>(n))));
}

OCTAVO_INLINE Vf v_abs(Vf x) { return i_floats(i_and(f_bits(x), i_set1(0x7fffffff))); }
// magnitude >= 0 with the sign of x.
OCTAVO_INLINE Vf v_with_sign(Vf magnitude, Vf x) {
  return i_floats(i_or(f_bits(magnitude), i_and(f_bits(x), i_set1(int32_t(0x80000000)))));
}

OCTAVO_INLINE Vf v_tanh(Vf x) {
  const Vf t = v_abs(x), s = f_mul(x, x);
  Vf p = f_fma(f_set1(-0.00570498686f), s, f_set1(0.0206390861f));
  p = f_fma(p, s, f_set1(-0.0537397154f));
  p = f_fma(p, s, f_set1(0.133314416f));
  p = f_fma(p, s, f_set1(-0.333332807f));
  const Vf small = f_fma(f_mul(p, s), x, x);
  const Vf e = v_exp(f_add(t, t));
  const Vf large = f_sub(f_set1(1.0f), f_div(f_set1(2.0f), f_add(e, f_set1(1.0f))));
  return f_select(m_gt(f_set1(0.625f), t), small, v_with_sign(large, x));
}

OCTAVO_INLINE Vf v_erf(Vf x) {
  const Vf t = f_min(f_set1(4.0f), v_abs(x)), s = f_mul(x, x);
  Vf p = f_fma(f_set1(-0.000595373916f), s, f_set1(0.00498594018f));
  p = f_fma(p, s, f_set1(-0.02676172f));
  p = f_fma(p, s, f_set1(0.112816826f));
  p = f_fma(p, s, f_set1(-0.376124799f));
  p = f_fma(p, s, f_set1(0.128379151f));
  const Vf small = f_fma(p, x, x);
  Vf q = f_fma(f_set1(-0.000213805979f), t, f_set1(0.00321347686f));  // -log(erfc(t)) / t
  q = f_fma(q, t, f_set1(-0.0228852089f));
  q = f_fma(q, t, f_set1(0.105254404f));
  q = f_fma(q, t, f_set1(0.635724008f));
  q = f_fma(q, t, f_set1(1.12851262f));
  const Vf large = f_sub(f_set1(1.0f), v_exp(f_neg(f_mul(q, t))));
  return f_select(m_gt(f_set1(0.93f), t), small, v_with_sign(large, x));
}

// Hendrycks and Gimpel 2016, arXiv:1606.08415 (gelu and its tanh form).
template <Activation A> OCTAVO_INLINE Vf v_activate(Vf x) {
  if constexpr (A == Activation::silu) {
    const Vf y = f_div(x, f_add(f_set1(1.0f), v_exp(f_neg(x))));
    return f_select(m_gt(f_set1(-88.0f), x), f_zero(), y);  // where exp has saturated
  } else if constexpr (A == Activation::gelu_tanh) {
    const Vf cube = f_mul(f_mul(x, x), x);
    const Vf inner = f_mul(f_set1(0.797884561f), f_fma(f_set1(0.044715f), cube, x));
    return f_mul(f_mul(f_set1(0.5f), x), f_add(f_set1(1.0f), v_tanh(inner)));
  } else if constexpr (A == Activation::gelu) {
    return f_mul(f_mul(f_set1(0.5f), x), f_add(f_set1(1.0f), v_erf(f_mul(x, f_set1(0.707106781f)))));
  } else {
    return f_max(f_zero(), x);
  }
}
