// The table of limit loops of each level.
#include "../limits/loops.h"

namespace octavo {

namespace portable { extern const LimitLoops limit_table; }
#if defined(__x86_64__)
namespace avx2 { extern const LimitLoops limit_table; }
namespace avx512 { extern const LimitLoops limit_table; }
namespace avx512_bf16 { extern const LimitLoops limit_table; }
#elif defined(__aarch64__)
namespace neon { extern const LimitLoops limit_table; }
namespace neon_dotprod { extern const LimitLoops limit_table; }
namespace neon_i8mm { extern const LimitLoops limit_table; }
#endif

const LimitLoops& limit_loops(Isa isa) {
  switch (isa) {
#if defined(__x86_64__)
    case Isa::avx2: return avx2::limit_table;
    case Isa::avx512: return avx512::limit_table;
    case Isa::avx512_bf16: return avx512_bf16::limit_table;
#elif defined(__aarch64__)
    case Isa::neon: return neon::limit_table;
    case Isa::neon_dotprod: return neon_dotprod::limit_table;
    case Isa::neon_i8mm: return neon_i8mm::limit_table;
#endif
    default: return portable::limit_table;
  }
}

}  // namespace octavo
