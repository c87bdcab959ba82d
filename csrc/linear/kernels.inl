// The linear kernels of one instruction-set level. Included after the level's simd_*.h in a unit that defines
// OCTAVO_ISA; everything has internal linkage or lives in the level's namespace.
//
// Tile shapes follow the number of rows; the sum of an output does not (linear.h), so every shape gives the same bits.
//
// OCTAVO_LINEAR_BASE: the namespace of a lower level whose products of all formats but BF16 this level shares.
#include "layout.h"

namespace octavo {
#if defined(OCTAVO_LINEAR_BASE)
namespace OCTAVO_LINEAR_BASE { extern const LinearKernels linear_table; }
#endif
namespace OCTAVO_ISA {

// A weight as the tiles see it: groups group_step bytes apart, `steps` blocks (or inputs, or pairs) long.
struct Matrix {
  const uint8_t* data;
  size_t group_step, quant_area;
  int64_t steps;
};

// Memory that is needed next, fetched to the second-level cache a few lines at a time between the products of a tile, so
// that memory and arithmetic work at the same time whatever the number of rows. The processor's own prefetchers follow
// the tile, which reads the same groups again for other rows.
struct Ahead {
  const uint8_t* at;
  const uint8_t* end;
  int64_t lines;  // of 64 bytes, at each call of fetch

  static __attribute__((always_inline)) inline void fetch(Ahead& a) {
    if (a.at >= a.end) return;
    for (int64_t i = 0; i < a.lines; i++) __builtin_prefetch(a.at + 64 * i, 0, 2);
    a.at += 64 * a.lines;
  }
};

// Bytes to fetch during all row tiles of one step of groups.
struct Stretch {
  const uint8_t* from;
  size_t bytes;
};

}  // namespace OCTAVO_ISA
}  // namespace octavo

#include "codecs.inl"
#include "quantize.inl"
#include "block_tiles.inl"
#include "float_tiles.inl"

namespace octavo {
namespace OCTAVO_ISA {

constexpr bool wide_registers = num_vector_registers >= 32;
constexpr int max_tile_rows = wide_registers ? 8 : num_vector_registers / 2;
// Beyond these rows an unpacked panel, written and read back, costs less than unpacking in registers for each tile; not
// with wide registers, where a tile's products leave room for the unpacking beside them.
constexpr int max_direct_rows = 4 * max_tile_rows;

// Rows row .. row + valid of groups group .. group + G; missing rows of the tile repeat the last one and are not stored.
template <class Kernel, int M, int G>
static __attribute__((noinline)) void run_tile(const Product& p, const Matrix& w, int64_t w_group, int64_t group,
                                               int64_t row, int64_t valid, Ahead ahead) {
  const uint8_t* rows[M];
  unroll<M>(OCTAVO_LAMBDA(m_) {
    constexpr int m = decltype(m_)::value;
    rows[m] = p.act + size_t(row + (m < valid ? m : valid - 1)) * p.act_stride;
  });
  Vf acc[M][G];
  Kernel::template tile<M, G>(w, w_group, rows, ahead, acc);
  unroll<M>(OCTAVO_LAMBDA(m_) {
    constexpr int m = decltype(m_)::value;
    if (m >= valid) return;
    unroll<G>(OCTAVO_LAMBDA(g_) {
      constexpr int g = decltype(g_)::value;
      const int64_t output = (group + g) * lanes, count = p.weight.n - output;
      float* out = p.out + (row + m) * p.ld_out + output;
      if (count >= lanes) {
        f_store(out, p.epilogue == Epilogue::add ? f_add(f_load(out), acc[m][g]) : acc[m][g]);
      } else {
        alignas(64) float tail[lanes];
        f_store(tail, acc[m][g]);
        for (int64_t i = 0; i < count; i++) out[i] = p.epilogue == Epilogue::add ? out[i] + tail[i] : tail[i];
      }
    });
  });
}

// All rows of one step of G groups, in tiles of up to MaxM, which share the work of fetching `next`.
template <class Kernel, int G, int MaxM>
OCTAVO_INLINE void run_rows(const Product& p, const Matrix& w, int64_t w_group, int64_t group, Stretch next) {
  const int64_t tiles = (p.rows + MaxM - 1) / MaxM, fetches = Kernel::num_fetches(w);
  const size_t share = round_up_64(next.bytes / size_t(tiles));
  const int64_t lines = (int64_t(share / 64) + fetches - 1) / fetches;
  const auto ahead = [&](int64_t row) {
    const uint8_t* from = next.from + size_t(row / MaxM) * share;
    return Ahead{from, next.bytes == 0 ? from : from + share, lines};
  };
  for (int64_t row = 0; row < p.rows;) {
    const int64_t left = p.rows - row;
    if constexpr (MaxM >= 8) {
      if (left > 4) {
        const int64_t valid = left < 8 ? left : 8;
        run_tile<Kernel, 8, G>(p, w, w_group, group, row, valid, ahead(row));
        row += valid;
        continue;
      }
    }
    if constexpr (MaxM >= 4) {
      if (left > 2) {
        const int64_t valid = left < 4 ? left : 4;
        run_tile<Kernel, 4, G>(p, w, w_group, group, row, valid, ahead(row));
        row += valid;
        continue;
      }
    }
    if constexpr (MaxM >= 2) {
      if (left == 2) {
        run_tile<Kernel, 2, G>(p, w, w_group, group, row, 2, ahead(row));
        row += 2;
        continue;
      }
    }
    run_tile<Kernel, 1, G>(p, w, w_group, group, row, 1, ahead(row));
    row++;
  }
}

// What follows the groups before `group`: up to `count` groups of this part, or what the caller needs after it.
OCTAVO_INLINE Stretch stretch_at(const Product& p, const Matrix& w, int64_t group, int64_t count) {
  const int64_t left = p.group_end - group;
  if (left <= 0) return {p.ahead, p.ahead == nullptr ? 0 : size_t(count) * w.group_step};
  return {w.data + size_t(group) * w.group_step, size_t(left < count ? left : count) * w.group_step};
}

// All groups from `group` on, in steps of G, then of G / 2 and so on for those left over.
template <class Kernel, int G, int MaxM>
OCTAVO_INLINE void run_groups(const Product& p, const Matrix& w, int64_t group) {
  for (; group + G <= p.group_end; group += G)
    run_rows<Kernel, G, MaxM>(p, w, group, group,
                              MaxM >= Kernel::min_fetch_rows ? stretch_at(p, w, group + G, G) : Stretch{nullptr, 0});
  if constexpr (G > 1) run_groups<Kernel, G / 2, MaxM>(p, w, group);
}

// Tiles as wide as the registers allow (or a little wider), which also walks several streams of memory at once.
template <class Kernel> OCTAVO_INLINE void run_direct(const Product& p, const Matrix& w) {
  if constexpr (wide_registers) {
    if (p.rows == 1) run_groups<Kernel, 4, 1>(p, w, p.group_begin);
    else if (p.rows == 2) run_groups<Kernel, 4, 2>(p, w, p.group_begin);
    else if (p.rows <= 4) run_groups<Kernel, 4, 4>(p, w, p.group_begin);
    else run_groups<Kernel, Kernel::wide_groups, 8>(p, w, p.group_begin);
  } else {
    if (p.rows == 1) run_groups<Kernel, num_vector_registers / 4, 1>(p, w, p.group_begin);
    else run_groups<Kernel, 1, max_tile_rows>(p, w, p.group_begin);
  }
}

template <Format F> static void multiply_blocks(const Product& p) {
  using C = typename CodecOf<F>::type;
  const int64_t blocks = p.weight.k / act_block;
  const size_t area = size_t(blocks) * C::quant_bytes;
  const size_t group_step = round_up_64(area + size_t(blocks / C::per_super) * C::scale_bytes);
  const Matrix packed = {p.weight.data, group_step, area, blocks};
  if constexpr (F == Format::Q8_0 || wide_registers) {
    run_direct<BlockKernel<C>>(p, packed);
  } else {
    if (p.rows <= max_direct_rows) return run_direct<BlockKernel<C>>(p, packed);
    const Matrix panel = {p.scratch, 0, size_t(blocks) * 512, blocks};
    for (int64_t group = p.group_begin; group < p.group_end; group++) {
      unpack_panel<C>(packed.data + size_t(group) * group_step, area, blocks, p.scratch);
      run_rows<BlockKernel<PanelCodec<C::scaling, C::offset>>, 1, max_tile_rows>(p, panel, 0, group,
                                                                                stretch_at(p, packed, group + 1, 1));
    }
  }
}

template <Format F> static void multiply_floats(const Product& p) {
  const int64_t steps = F == Format::BF16 ? (p.weight.k + 1) / 2 : p.weight.k;
  const size_t group_step = round_up_64(size_t(steps) * FloatKernel<F>::step_bytes);
  run_direct<FloatKernel<F>>(p, {p.weight.data, group_step, 0, steps});
}

#if !defined(OCTAVO_LINEAR_BASE)

static void multiply(const Product& p) {
  if (p.rows <= 0) return;
  switch (p.weight.format) {
    case Format::F32: return multiply_floats<Format::F32>(p);
    case Format::F16: return multiply_floats<Format::F16>(p);
    case Format::BF16: return multiply_floats<Format::BF16>(p);
    case Format::Q4_0: return multiply_blocks<Format::Q4_0>(p);
    case Format::Q4_1: return multiply_blocks<Format::Q4_1>(p);
    case Format::Q5_0: return multiply_blocks<Format::Q5_0>(p);
    case Format::Q5_1: return multiply_blocks<Format::Q5_1>(p);
    case Format::Q8_0: return multiply_blocks<Format::Q8_0>(p);
    case Format::Q2_K: return multiply_blocks<Format::Q2_K>(p);
    case Format::Q3_K: return multiply_blocks<Format::Q3_K>(p);
    case Format::Q4_K: return multiply_blocks<Format::Q4_K>(p);
    case Format::Q5_K: return multiply_blocks<Format::Q5_K>(p);
    case Format::Q6_K: return multiply_blocks<Format::Q6_K>(p);
  }
}

#else

// A level that differs from the one below it in BF16 alone compiles nothing else again.
static void multiply(const Product& p) {
  if (p.weight.format != Format::BF16) return OCTAVO_LINEAR_BASE::linear_table.multiply(p);
  if (p.rows > 0) multiply_floats<Format::BF16>(p);
}

#endif

extern const LinearKernels linear_table;
const LinearKernels linear_table = {quantize, multiply};

}  // namespace OCTAVO_ISA
}  // namespace octavo
