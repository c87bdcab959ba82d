// Chooses the kernel table of a level and holds what is the same on every level.

#include <cmath>

#include "ops.h"

namespace octavo {

namespace portable {
extern const OpKernels op_table;
}
#if defined(__x86_64__)
namespace avx2 {
extern const OpKernels op_table;
}
namespace avx512 {
extern const OpKernels op_table;
}
namespace avx512_bf16 {
extern const OpKernels op_table;
}
#elif defined(__aarch64__)
namespace neon {
extern const OpKernels op_table;
}
namespace neon_dotprod {
extern const OpKernels op_table;
}
#endif

const OpKernels& op_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx2: return avx2::op_table;
    case Isa::avx512: return avx512::op_table;
    case Isa::avx512_bf16: return avx512_bf16::op_table;
#elif defined(__aarch64__)
    case Isa::neon: return neon::op_table;
    case Isa::neon_dotprod:
    case Isa::neon_i8mm: return neon_dotprod::op_table;
#endif
    default: return portable::op_table;
  }
}

void rope_table(const int32_t* positions, const float* inv_freq, int64_t half, double factor, float* table,
                int64_t begin, int64_t end) {
  for (int64_t t = begin; t < end; t++) {
    float* cosines = table + t * 2 * half;
    for (int64_t i = 0; i < half; i++) {
      const float angle = float(positions[t]) * inv_freq[i];
      cosines[i] = float(factor * std::cos(double(angle)));
      cosines[half + i] = float(factor * std::sin(double(angle)));
    }
  }
}

}  // namespace octavo
