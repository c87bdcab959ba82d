// The loops of one instruction-set level. Included after the level's simd_*.h in a unit that defines OCTAVO_ISA.
//
// The compiler may neither drop a loop nor move its work out: operands come from memory that it is told may have
// changed, results are used, and no two sums are equal.
#include "loops.h"

namespace octavo {
namespace OCTAVO_ISA {
namespace {

// Independent sums: enough to cover the latency of a multiply-add, few enough to stay in registers.
constexpr int sums = num_vector_registers >= 32 ? 10 : 5;
constexpr int streams = kLimitStreams;
constexpr int64_t prefetch_lines = 16;

template <int N> struct Index { static constexpr int value = N; };

// body(Index<0>()), ... without a loop: arrays of vectors stay in registers only at constant indices.
template <int N, class Body> OCTAVO_INLINE void each(Body&& body) {
  if constexpr (N > 0) {
    each<N - 1>(body);
    body(Index<N - 1>());
  }
}

#define OCTAVO_BODY(arg) [&](auto arg) __attribute__((always_inline))

struct alignas(64) Operands {
  uint8_t bytes[64];
  int8_t fours[4 * sums];
};

Operands operands() {
  Operands made;
  for (int i = 0; i < 64; ++i) made.bytes[i] = uint8_t(i % 2 ? 0x3f : 7);  // as bf16 and as float: below one, normal
  for (int i = 0; i < 4 * sums; ++i) made.fours[i] = int8_t(i % 5 + 1);
  return made;
}

OCTAVO_INLINE void forget(const void* memory) { asm volatile("" : : "r"(memory) : "memory"); }

uint64_t bits_of(const Vf& value) {
  alignas(64) float out[16];
  f_store(out, value);
  return float_to_bits(out[0]);
}

uint64_t read(const uint8_t* data, int64_t bytes) {
  const int64_t stream = bytes / streams;
  Vi found[streams];
  each<streams>(OCTAVO_BODY(s) { found[decltype(s)::value] = i_zero(); });
  for (int64_t at = 0; at < stream; at += 64)
    each<streams>(OCTAVO_BODY(s) {
      const uint8_t* line = data + decltype(s)::value * stream + at;
      __builtin_prefetch(line + 64 * prefetch_lines);
      found[decltype(s)::value] = i_or(found[decltype(s)::value], i_load(line));
    });
  each<streams>(OCTAVO_BODY(s) { found[0] = i_or(found[0], found[decltype(s)::value]); });
  return uint64_t(i_sum(found[0]));
}

void copy(const uint8_t* from, uint8_t* to, int64_t bytes) {
  const int64_t stream = bytes / streams;
  for (int64_t at = 0; at < stream; at += 64)
    each<streams>(OCTAVO_BODY(s) {
      const int64_t line = decltype(s)::value * stream + at;
      i_store(to + line, i_load(from + line));
    });
}

uint64_t multiply_int8(int64_t rounds) {
  const Operands given = operands();
  int8_t fours[4 * sums];  // the compiler may keep these in registers: only the line is read in every round
  forget(&given);
  std::memcpy(fours, given.fours, sizeof fours);
  Vi sum[sums];
  each<sums>(OCTAVO_BODY(i) { sum[decltype(i)::value] = i_set1(decltype(i)::value); });
  for (int64_t round = 0; round < rounds; ++round) {
    forget(&given);
    const Vb line = b_load(given.bytes);
    each<sums>(OCTAVO_BODY(i) {
      constexpr int n = decltype(i)::value;
      sum[n] = dot4<false>(sum[n], line, fours + 4 * n);
    });
  }
  each<sums - 1>(OCTAVO_BODY(i) { sum[0] = i_add(sum[0], sum[decltype(i)::value + 1]); });
  return uint64_t(i_sum(sum[0]));
}

uint64_t multiply_f32(int64_t rounds) {
  const Operands given = operands();
  Vf sum[sums];
  each<sums>(OCTAVO_BODY(i) { sum[decltype(i)::value] = f_set1(float(decltype(i)::value)); });
  for (int64_t round = 0; round < rounds; ++round) {
    forget(&given);
    const Vf line = f_load(reinterpret_cast<const float*>(given.bytes));
    each<sums>(OCTAVO_BODY(i) { sum[decltype(i)::value] = f_fma(line, line, sum[decltype(i)::value]); });
  }
  each<sums - 1>(OCTAVO_BODY(i) { sum[0] = f_add(sum[0], sum[decltype(i)::value + 1]); });
  return bits_of(sum[0]);
}

#if defined(__AVX512BF16__) || defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
uint64_t multiply_bf16(int64_t rounds) {
  const Operands given = operands();
  Vf sum[sums];
  each<sums>(OCTAVO_BODY(i) { sum[decltype(i)::value] = f_set1(float(decltype(i)::value)); });
  for (int64_t round = 0; round < rounds; ++round) {
    forget(&given);
    const Vb line = b_load(given.bytes);
    each<sums>(OCTAVO_BODY(i) { sum[decltype(i)::value] = f_dot_bf16(sum[decltype(i)::value], line, 0x3f803f80); });
  }
  each<sums - 1>(OCTAVO_BODY(i) { sum[0] = f_add(sum[0], sum[decltype(i)::value + 1]); });
  return bits_of(sum[0]);
}
constexpr int64_t bf16_operations = sums * 16 * 2 * 2;
#else
constexpr uint64_t (*multiply_bf16)(int64_t) = nullptr;
constexpr int64_t bf16_operations = 0;
#endif

}  // namespace

extern const LimitLoops limit_table;
const LimitLoops limit_table = {
    read, copy, {multiply_f32, multiply_bf16, multiply_int8}, {sums * 16 * 2, bf16_operations, sums * 16 * 4 * 2}};

}  // namespace OCTAVO_ISA
}  // namespace octavo
