// All kernels of one level. The unit that includes this defines OCTAVO_ISA and has included its vec_*.h.

#include <type_traits>

#include "ops.h"

namespace octavo {
namespace OCTAVO_ISA {

#include "math.inl"
#include "rows.inl"
#include "kv_store.inl"
#include "attention_tiles.inl"
#include "attention.inl"
#include "sample_parts.inl"

extern const OpKernels op_table;
const OpKernels op_table = {
    rms_norm, add_rms_norm, layer_norm, rope, store_kv, attention, attention_merge,
    gated, activate, add, add_bias, scale, soft_cap, gather_rows,
    argmax, log_sum_exp, divide, exp_minus, block_max, mass_at_least, count_at_least, count_greater, select_between,
    gumbel_candidates,
};

}  // namespace OCTAVO_ISA
}  // namespace octavo
