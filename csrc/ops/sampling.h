// Sampling of one row of logits: the pieces of ops.h put together, with no full sort of the vocabulary.
//
// A row with a NaN has no distribution: the id of its first NaN comes back, by which the caller knows. Disallowed tokens
// are -inf. Greedy: the first maximum. Else, in order: z = logits /
// temperature; min_p keeps z - max >= log(min_p); top_k keeps z >= the k-th largest (ties all kept); top_p keeps the
// shortest prefix, in descending order (ties by lower id), of the softmax of what remains whose sum is >= top_p, at
// least one; then the argmax of z + g, the lowest id among equals, g = -log(-log(u)), u = ((h >> 40) + 0.5) * 2^-24,
// h = mix(mix(seed) ^ mix(position * 0x9E3779B97F4A7C15 + token)), mix = the splitmix64 finalizer
// (Steele et al. 2014). g and the final sum are float64.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops.h"

namespace octavo {

struct SampleControls {
  float temperature;  // 0: greedy
  int32_t top_k;      // 0: off
  float top_p;        // 1: off
  float min_p;        // 0: off
  uint64_t seed;
  int32_t position;   // of the token being sampled
};

// Bytes of one worker's workspace for rows of `vocab` logits, aligned to 64 by the caller.
size_t sample_workspace_bytes(int64_t vocab);

int32_t sample_row(const OpKernels& kernels, const float* logits, int64_t vocab, const SampleControls& controls,
                   void* workspace);

// The n largest of a row, descending, ties by lower id; n is cut to vocab and returned. The same workspace.
int64_t top_of_row(const OpKernels& kernels, const float* logits, int64_t vocab, int64_t n, int32_t* ids,
                   float* values, void* workspace);

}  // namespace octavo
