// From packed blocks to registers: the eight lines of 32 inputs x 16 outputs, and their scales, for each format.
//
// A codec gives:
//   scaling, offset   the form of its product (linear.h); true value = value - offset
//   full              whether bytes use all 8 bits (isa.h: signed_bytes); others are below 128
//   is_panel          whether it reads what was unpacked to a cache rather than weights in memory
//   per_super         blocks of 32 that share a scale field
//   quant_bytes, scale_bytes   strides of a block and of a scale field (layout.h)
//   line<k>(quants)   line k of the block
//   Super             what is decoded once per scale field; scales(super, scales, b): the Scales of its block b
namespace octavo {
namespace OCTAVO_ISA {

enum class Scaling { plain, minimum, halves, halves_minimum };

// Per output. minima: int16 pairs (minimum of inputs 0..15, of 16..31). Only what the scaling needs is set.
struct Scales {
  Vf scale, min;
  Vi first, second, minima;
};

template <int N> struct Const { static constexpr int value = N; };

// body(Const<0>()), ..., body(Const<N - 1>()), without a loop.
template <int N, class Body> OCTAVO_INLINE void unroll(Body&& body) {
  if constexpr (N > 0) {
    unroll<N - 1>(body);
    body(Const<N - 1>());
  }
}

#define OCTAVO_LAMBDA(arg) [&](auto arg) __attribute__((always_inline))

// Arrays of vectors are touched with constant indices only: the compiler then keeps them in registers.
template <int M, int G> OCTAVO_INLINE void clear(Vf (&acc)[M][G]) {
  unroll<M>(OCTAVO_LAMBDA(m_) {
    unroll<G>(OCTAVO_LAMBDA(g_) { acc[decltype(m_)::value][decltype(g_)::value] = f_zero(); });
  });
}

// ---- Lines

template <int k> OCTAVO_INLINE Vb nibble_line(const uint8_t* quants) {
  return b_shift_mask<k < 4 ? 0 : -4>(b_load(quants + 64 * (k & 3)), 0x0f);
}

// The bit of line k from a line of ones, moved to bit `to`.
template <int k, int to> OCTAVO_INLINE Vb ones_line(const uint8_t* ones) {
  return b_shift_mask<to - k>(b_load(ones), uint8_t(1 << to));
}

// The field of line k from lines of twos, moved to bits `to` and to + 1.
template <int k, int to> OCTAVO_INLINE Vb twos_line(const uint8_t* twos) {
  return b_shift_mask<to - 2 * (k & 3)>(b_load(twos + 64 * (k >> 2)), uint8_t(3 << to));
}

struct ByteLines {
  template <int k> OCTAVO_INLINE Vb line(const uint8_t* quants) { return b_load(quants + 64 * k); }
};
struct NibbleLines {
  template <int k> OCTAVO_INLINE Vb line(const uint8_t* quants) { return nibble_line<k>(quants); }
};
struct FiveBitLines {
  template <int k> OCTAVO_INLINE Vb line(const uint8_t* quants) {
    return b_or(nibble_line<k>(quants), ones_line<k, 4>(quants + 256));
  }
};
struct SixBitLines {
  template <int k> OCTAVO_INLINE Vb line(const uint8_t* quants) {
    return b_or(nibble_line<k>(quants), twos_line<k, 4>(quants + 256));
  }
};
struct TwoBitLines {
  template <int k> OCTAVO_INLINE Vb line(const uint8_t* quants) { return twos_line<k, 0>(quants); }
};
struct ThreeBitLines {
  template <int k> OCTAVO_INLINE Vb line(const uint8_t* quants) {
    return b_or(twos_line<k, 0>(quants), ones_line<k, 2>(quants + 128));
  }
};

// ---- Codecs of blocks of 32

template <Format F, Scaling S, int Offset, class Lines> struct SmallCodec : Lines {
  static constexpr Scaling scaling = S;
  static constexpr int offset = Offset;
  static constexpr bool full = F == Format::Q8_0, is_panel = false;
  static constexpr int per_super = 1;
  static constexpr size_t quant_bytes = block_layout(F).quant_bytes, scale_bytes = block_layout(F).scale_bytes;

  struct Super { OCTAVO_INLINE void decode(Super&, const uint8_t*) {} };
  OCTAVO_INLINE Scales scales(const Super&, const uint8_t* field, int) {
    Scales out;
    out.scale = f_from_f16(field);
    if constexpr (S == Scaling::minimum) out.min = f_from_f16(field + 32);
    return out;
  }
};

// ---- Codecs of super-blocks of 256

template <Format F, Scaling S, int Offset, class Lines> struct SuperCodec : Lines {
  static constexpr Scaling scaling = S;
  static constexpr int offset = Offset;
  static constexpr bool full = false, is_panel = false;
  static constexpr int per_super = 8;
  static constexpr size_t quant_bytes = block_layout(F).quant_bytes, scale_bytes = block_layout(F).scale_bytes;
};

// Two 6-bit numbers of each of the 8 sub-blocks and 16 outputs as bytes.
struct SixBitPairs {
  alignas(64) uint8_t first[128];
  alignas(64) uint8_t second[128];

  OCTAVO_INLINE void decode(SixBitPairs& to, const uint8_t* field) {
    const Vb high = b_load_unaligned(field + 128);
    unroll<2>(OCTAVO_LAMBDA(h) {
      constexpr int half = decltype(h)::value;
      const Vb low = b_load_unaligned(field + 64 * half);
      b_store(to.first + 64 * half, b_or(b_shift_mask<0>(low, 0x0f), b_shift_mask<4 - 4 * half>(high, 0x30)));
      b_store(to.second + 64 * half, b_or(b_shift_mask<-4>(low, 0x0f), b_shift_mask<2 - 4 * half>(high, 0x30)));
    });
  }
};

template <Format F, class Lines> struct ScaleMinCodec : SuperCodec<F, Scaling::minimum, 0, Lines> {
  struct Super : SixBitPairs {};
  OCTAVO_INLINE Scales scales(const Super& super, const uint8_t* field, int b) {
    Scales out;
    out.scale = f_mul(f_from_f16(field + 192), f_from_i(i_from_u8(super.first + 16 * b)));
    out.min = f_neg(f_mul(f_from_f16(field + 224), f_from_i(i_from_u8(super.second + 16 * b))));
    return out;
  }
};

struct Q3KCodec : SuperCodec<Format::Q3_K, Scaling::halves, 4, ThreeBitLines> {
  struct Super : SixBitPairs {};
  OCTAVO_INLINE Scales scales(const Super& super, const uint8_t* field, int b) {
    Scales out;
    out.scale = f_from_f16(field + 192);
    out.first = i_add(i_from_u8(super.first + 16 * b), i_set1(-32));
    out.second = i_add(i_from_u8(super.second + 16 * b), i_set1(-32));
    return out;
  }
};

struct Q2KCodec : SuperCodec<Format::Q2_K, Scaling::halves_minimum, 0, TwoBitLines> {
  struct Super { OCTAVO_INLINE void decode(Super&, const uint8_t*) {} };
  OCTAVO_INLINE Scales scales(const Super&, const uint8_t* field, int b) {
    const Vi first = i_from_u8(field + 32 * b), second = i_from_u8(field + 32 * b + 16), low = i_set1(15);
    Scales out;
    out.scale = f_from_f16(field + 256);
    out.min = f_neg(f_from_f16(field + 288));
    out.first = i_and(first, low);
    out.second = i_and(second, low);
    out.minima = i_or(i_sar<4>(first), i_shl<16>(i_sar<4>(second)));
    return out;
  }
};

struct Q6KCodec : SuperCodec<Format::Q6_K, Scaling::halves, 32, SixBitLines> {
  struct Super { OCTAVO_INLINE void decode(Super&, const uint8_t*) {} };
  OCTAVO_INLINE Scales scales(const Super&, const uint8_t* field, int b) {
    Scales out;
    out.scale = f_from_f16(field + 256);
    out.first = i_from_i8(field + 32 * b);
    out.second = i_from_i8(field + 32 * b + 16);
    return out;
  }
};

template <Format F> struct CodecOf;
template <> struct CodecOf<Format::Q8_0> { using type = SmallCodec<Format::Q8_0, Scaling::plain, signed_bytes || takes_signs ? 0 : 128, ByteLines>; };
template <> struct CodecOf<Format::Q4_0> { using type = SmallCodec<Format::Q4_0, Scaling::plain, 8, NibbleLines>; };
template <> struct CodecOf<Format::Q4_1> { using type = SmallCodec<Format::Q4_1, Scaling::minimum, 0, NibbleLines>; };
template <> struct CodecOf<Format::Q5_0> { using type = SmallCodec<Format::Q5_0, Scaling::plain, 16, FiveBitLines>; };
template <> struct CodecOf<Format::Q5_1> { using type = SmallCodec<Format::Q5_1, Scaling::minimum, 0, FiveBitLines>; };
template <> struct CodecOf<Format::Q4_K> { using type = ScaleMinCodec<Format::Q4_K, NibbleLines>; };
template <> struct CodecOf<Format::Q5_K> { using type = ScaleMinCodec<Format::Q5_K, FiveBitLines>; };
template <> struct CodecOf<Format::Q2_K> { using type = Q2KCodec; };
template <> struct CodecOf<Format::Q3_K> { using type = Q3KCodec; };
template <> struct CodecOf<Format::Q6_K> { using type = Q6KCodec; };

// ---- Panels: a group unpacked to bytes in a worker's scratch, for many rows

template <Scaling S> constexpr int panel_scale_vectors =
    S == Scaling::plain ? 1 : S == Scaling::minimum ? 2 : S == Scaling::halves ? 3 : 5;

template <Scaling S, int Offset> struct PanelCodec : ByteLines {
  static constexpr Scaling scaling = S;
  static constexpr int offset = Offset;
  static constexpr bool full = false, is_panel = true;
  static constexpr int per_super = 1;
  static constexpr size_t quant_bytes = 512, scale_bytes = 64 * panel_scale_vectors<S>;

  struct Super { OCTAVO_INLINE void decode(Super&, const uint8_t*) {} };
  OCTAVO_INLINE Scales scales(const Super&, const uint8_t* field, int) {
    const float* floats = reinterpret_cast<const float*>(field);
    Scales out;
    out.scale = f_load(floats);
    if constexpr (S == Scaling::minimum || S == Scaling::halves_minimum) out.min = f_load(floats + 16);
    if constexpr (S == Scaling::halves || S == Scaling::halves_minimum) {
      out.first = i_load(field + scale_bytes - 128);
      out.second = i_load(field + scale_bytes - 64);
    }
    if constexpr (S == Scaling::halves_minimum) out.minima = i_load(field + 128);
    return out;
  }
  OCTAVO_INLINE void store_scales(uint8_t* field, const Scales& from) {
    float* floats = reinterpret_cast<float*>(field);
    f_store(floats, from.scale);
    if constexpr (S == Scaling::minimum || S == Scaling::halves_minimum) f_store(floats + 16, from.min);
    if constexpr (S == Scaling::halves || S == Scaling::halves_minimum) {
      i_store(field + scale_bytes - 128, from.first);
      i_store(field + scale_bytes - 64, from.second);
    }
    if constexpr (S == Scaling::halves_minimum) i_store(field + 128, from.minima);
  }
};

}  // namespace OCTAVO_ISA
}  // namespace octavo
