// Stages of a program: what workers compute between two borders, and how each kind is cut into chunks.
//
// How a stage is cut depends on the step and on the number of workers; what a row gets does not.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "program/row_ops.h"

namespace octavo {

class Stage {
 public:
  virtual ~Stage() = default;
  // Decides the cut for this step and returns the number of chunks.
  virtual int64_t open(const Frame& frame) = 0;
  virtual void work(const Frame& frame, int64_t chunk, int worker) const = 0;
  virtual bool has_weights() const { return false; }
  // Where the weights of a chunk begin, as the stage was last cut; null where it has no weights or not so many chunks.
  virtual const uint8_t* weights_of(int64_t) const { return nullptr; }

  // The next stage with weights, whose first ones are fetched ahead of this one's end; null for the last.
  const Stage* follower = nullptr;
};

// [0, units) in pieces whose sizes differ by one unit at most.
struct Pieces {
  int64_t units = 0, count = 0;
  int64_t begin(int64_t piece) const { return units * piece / count; }
  int64_t end(int64_t piece) const { return begin(piece + 1); }
};

// A chain of row operations: each chunk takes its rows through all of them.
class RowStage final : public Stage {
 public:
  RowStage(Extent extent, std::vector<std::unique_ptr<RowOp>> ops);
  int64_t open(const Frame& frame) override;
  void work(const Frame& frame, int64_t chunk, int worker) const override;

 private:
  Extent extent_;
  std::vector<std::unique_ptr<RowOp>> ops_;
  double row_ns_ = 0;
  int64_t rows_ = -1;  // the cut is for that many
  Pieces pieces_;
};

// One product with a weight and what is done to its outputs while they are in cache.
struct LinearTask {
  MatrixRef weight;
  Buffer act;           // rows as quantize writes them, or plain floats where the format multiplies those
  Buffer out;
  Epilogue epilogue;
  VectorRef bias;       // may be null
  float factor = 1.0f;  // then soft_cap (0: none)
  float soft_cap = 0.0f;
};

// activation(gate product) * up product, and its quantization, while both are in cache: neither goes to memory.
struct GatedTask {
  MatrixRef gate, up;             // of one shape
  Buffer act;                     // of both formats' kind
  Buffer out;                     // rows of `kind`
  VectorRef gate_bias, up_bias;   // may be null
  Activation activation;
  ActKind kind;                   // f32: plain floats
};

// A part of a product: some rows, some groups of 16 outputs.
struct Part {
  int64_t row, rows;
  int64_t group_begin, group_end;
};

// How a product is cut into parts: tiles of rows, and for each of them pieces of all groups. A unit of a piece is
// several groups that kernels walk together.
struct Cut {
  Pieces pieces;
  int64_t groups, unit;
  int64_t row_tile;
  int64_t first_chunk;
  Part part(int64_t chunk, int64_t rows) const;
};

// Products that do not depend on each other, over the same rows.
class LinearStage final : public Stage {
 public:
  LinearStage(Extent extent, std::vector<LinearTask> tasks);
  int64_t open(const Frame& frame) override;
  void work(const Frame& frame, int64_t chunk, int worker) const override;
  bool has_weights() const override { return true; }
  const uint8_t* weights_of(int64_t chunk) const override;

 private:
  size_t task_of(int64_t chunk) const;

  Extent extent_;
  std::vector<LinearTask> tasks_;
  std::vector<Cut> cuts_;
  int64_t rows_ = -1;  // the cut is for that many
  int64_t chunks_ = 0;
};

class GatedStage final : public Stage {
 public:
  // Floats of a tile of gates, and of ups, in a worker's memory, after what the products need.
  static constexpr int64_t kTileFloats = 16384;

  GatedStage(Extent extent, GatedTask task);
  // A worker's memory that a stage over such weights needs.
  static size_t worker_bytes(Format gate, Format up, int64_t k);
  int64_t open(const Frame& frame) override;
  void work(const Frame& frame, int64_t chunk, int worker) const override;
  bool has_weights() const override { return true; }
  const uint8_t* weights_of(int64_t chunk) const override;

 private:
  Extent extent_;
  GatedTask task_;
  void compute(const Frame& frame, const Part& part, int worker, const uint8_t* ahead) const;

  Cut cut_{};
  int64_t rows_ = -1;  // the cut is for that many
  int64_t parts_ = 0, chunk_parts_ = 1;
  size_t tiles_;  // their offset in a worker's memory
};

struct AttentionTask {
  Buffer q, out;
  std::shared_ptr<const KvPages> pages;
  KvView kv;            // the layer's view of `pages`
  size_t shape;         // index into Step::attention
  AttentionShape facts;
  float scale, soft_cap;
  VectorRef sinks;      // may be null
  Buffer partials;
};

class AttentionStage final : public Stage {
 public:
  explicit AttentionStage(AttentionTask task) : task_(std::move(task)) {}
  int64_t open(const Frame& frame) override;
  void work(const Frame& frame, int64_t chunk, int worker) const override;

 private:
  AttentionTask task_;
};

// Puts the splits of long rows together; has no chunks where a step has none.
class MergeStage final : public Stage {
 public:
  explicit MergeStage(AttentionTask task) : task_(std::move(task)) {}
  int64_t open(const Frame& frame) override;
  void work(const Frame& frame, int64_t chunk, int worker) const override;

 private:
  AttentionTask task_;
  Pieces pieces_;
};

}  // namespace octavo
