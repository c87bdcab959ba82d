// The table of linear kernels of each level.
#include "../linear/linear.h"

namespace octavo {

namespace portable { extern const LinearKernels linear_table; }
#if defined(__x86_64__)
namespace avx2 { extern const LinearKernels linear_table; }
namespace avx512 { extern const LinearKernels linear_table; }
namespace avx512_bf16 { extern const LinearKernels linear_table; }
#elif defined(__aarch64__)
namespace neon { extern const LinearKernels linear_table; }
namespace neon_dotprod { extern const LinearKernels linear_table; }
namespace neon_i8mm { extern const LinearKernels linear_table; }
#endif

const LinearKernels& linear_kernels(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx2: return avx2::linear_table;
    case Isa::avx512: return avx512::linear_table;
    case Isa::avx512_bf16: return avx512_bf16::linear_table;
#elif defined(__aarch64__)
    case Isa::neon: return neon::linear_table;
    case Isa::neon_dotprod: return neon_dotprod::linear_table;
    case Isa::neon_i8mm: return neon_i8mm::linear_table;
#endif
    default: return portable::linear_table;
  }
}

}  // namespace octavo
