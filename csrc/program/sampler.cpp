// See sampler.h.
#include "program/sampler.h"

#include <limits>
#include <utility>

namespace octavo {

namespace {

// Scratch of one worker: sampling's own, then the values of the best tokens.
size_t best_bytes(int64_t vocab) { return (static_cast<size_t>(vocab) * sizeof(float) + 63) / 64 * 64; }
size_t draw_bytes(int64_t vocab) { return (sample_workspace_bytes(vocab) + 63) / 64 * 64; }

}  // namespace

Sampler::Sampler(std::shared_ptr<Pool> pool, Isa isa) : pool_(std::move(pool)), kernels_(op_kernels(isa)) {}

size_t Sampler::bytes_of(int workers, int64_t vocab) {
  return Mapping::rounded((draw_bytes(vocab) + best_bytes(vocab)) * static_cast<size_t>(workers));
}

void Sampler::reserve(int64_t vocab) {
  worker_bytes_ = draw_bytes(vocab) + best_bytes(vocab);
  const size_t all = bytes_of(pool_->size(), vocab);
  if (!memory_ || memory_->bytes() < all) memory_ = std::make_unique<Mapping>(all);
}

void Sampler::sample(const SampleArrays& in, int32_t* out) {
  std::lock_guard<std::mutex> lock(running_);
  reserve(in.vocab);
  pool_->parallel(in.rows, 1, [&](int64_t begin, int64_t end, int worker) {
    for (int64_t r = begin; r < end; ++r) {
      const float* row = in.logits + r * in.vocab;
      const SampleControls controls{in.temperature[r], in.top_k[r], in.top_p[r],
                                    in.min_p[r],       in.seeds[r], in.positions[r]};
      const int32_t token = sample_row(kernels_, row, in.vocab, controls, workspace(worker));
      const float value = row[token];  // an impossible token is drawn only for want of others
      out[r] = value != value ? not_a_number : value == -std::numeric_limits<float>::infinity() ? nothing_left : token;
    }
  });
}

void Sampler::logprobs(const float* logits, int64_t rows, int64_t vocab, const LogprobArrays& out) {
  std::lock_guard<std::mutex> lock(running_);
  reserve(vocab);
  pool_->parallel(rows, 1, [&](int64_t begin, int64_t end, int worker) {
    float* best = reinterpret_cast<float*>(workspace(worker) + draw_bytes(vocab));
    for (int64_t r = begin; r < end; ++r) {
      const float* row = logits + r * vocab;
      const double total = kernels_.log_sum_exp(row, vocab);
      const float value = row[out.tokens[r]];
      out.values[r] = double(value) - total;
      out.ranks[r] = static_cast<int32_t>(kernels_.count_greater(row, vocab, value)) + 1;
      top_of_row(kernels_, row, vocab, out.num_top, out.top_ids + r * out.num_top, best, workspace(worker));
      for (int64_t i = 0; i < out.num_top; ++i) out.top_values[r * out.num_top + i] = double(best[i]) - total;
    }
  });
}

}  // namespace octavo
