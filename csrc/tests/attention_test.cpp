// Paged attention against double precision over a grid of shapes, and bit for bit: a token alone, in its row, in a step
// with others, cut into any items and splits, with any page size and with strangers' numbers behind the visible keys.

#include <algorithm>
#include <numeric>
#include <optional>

#include "grid.h"
#include "ops/ops.h"
#include "ops_check.h"
#include "pool/float_mode.h"

using namespace octavo;
using namespace octavo::test;

namespace {

struct Shape {
  int32_t kv_heads, group, head_dim;
  KvType type;
  int32_t page_size;
  int32_t window = 0;
  float soft_cap = 0;
  bool sinks = false;
  std::string text() const {
    return "G " + std::to_string(kv_heads) + " group " + std::to_string(group) + " hd " + std::to_string(head_dim) +
           " type " + std::to_string(int(type)) + " page " + std::to_string(page_size) + " window " +
           std::to_string(window) + " cap " + std::to_string(int(soft_cap)) + (sinks ? " sinks" : "");
  }
};

struct Row {
  int32_t start, tokens;  // the step computes positions [start, start + tokens)
};

// Queries, keys and values of some rows, and a pool that holds the keys.
struct World {
  Shape shape;
  std::vector<Row> rows;
  std::vector<std::vector<float>> k, v;  // by row: [context][kv_heads * head_dim], as drawn
  std::vector<float> q, sinks;           // [T][heads * head_dim]
  std::vector<uint8_t> pool;
  std::vector<int32_t> table, positions, row_starts;
  int64_t table_width = 0;

  int64_t heads() const { return int64_t(shape.kv_heads) * shape.group; }
  int64_t q_width() const { return heads() * shape.head_dim; }
  int64_t kv_width() const { return int64_t(shape.kv_heads) * shape.head_dim; }
  int64_t page_bytes() const { return kv_page_bytes(shape.type, shape.page_size, shape.kv_heads, shape.head_dim, 2); }
  KvView view() {
    return {pool.data(), page_bytes(), shape.type, shape.page_size, shape.kv_heads, shape.head_dim, 1};
  }
};

World make_world(const Shape& shape, const std::vector<Row>& rows, uint64_t seed) {
  World world{shape, rows, {}, {}, {}, {}, {}, {}, {}, {0}};
  Random random{seed};
  for (const Row& row : rows) {
    const size_t context = size_t(row.start + row.tokens);
    world.k.push_back(random.normals(context * size_t(world.kv_width())));
    world.v.push_back(random.normals(context * size_t(world.kv_width())));
    for (int32_t t = 0; t < row.tokens; t++) world.positions.push_back(row.start + t);
    world.row_starts.push_back(world.row_starts.back() + row.tokens);
    world.table_width = std::max<int64_t>(world.table_width, (int64_t(context) + shape.page_size - 1) / shape.page_size);
  }
  world.q = random.normals(world.positions.size() * size_t(world.q_width()), 2);
  world.sinks = random.normals(size_t(world.heads()), 3);
  return world;
}

// Puts keys into pages in random order. Everything else in the pool is a stranger's finite numbers, and pages that lie
// before every window are gone.
void fill_pages(World& world, Isa isa, uint64_t seed) {
  Random random{seed};
  const Shape& shape = world.shape;
  const int64_t pages = int64_t(world.rows.size()) * world.table_width + 3;
  world.pool.assign(size_t(pages * world.page_bytes() + kv_slack), 0);
  const KvView view = world.view();
  const std::vector<float> noise = random.normals(size_t(world.kv_width()), 100);
  for (int32_t p = 0; p < pages; p++)
    for (int32_t offset = 0; offset < shape.page_size; offset++)
      op_kernels(isa).store_kv({noise.data(), 0}, {noise.data(), 0}, view, &p, &offset, 0, 1);
  std::vector<int32_t> free(static_cast<size_t>(pages));
  std::iota(free.begin(), free.end(), 0);
  for (size_t i = free.size(); i > 1; i--) std::swap(free[i - 1], free[size_t(random.below(int64_t(i)))]);
  world.table.assign(world.rows.size() * size_t(world.table_width), -1);
  for (size_t r = 0; r < world.rows.size(); r++) {
    const int64_t context = world.rows[r].start + world.rows[r].tokens;
    const int64_t needed = shape.window > 0 ? std::max<int64_t>(0, world.rows[r].start - shape.window + 1) : 0;
    std::vector<int32_t> page_of, offset_of;
    for (int64_t p = 0; p < context; p++) {
      int32_t& page = world.table[r * size_t(world.table_width) + size_t(p / shape.page_size)];
      if (page < 0 && p / shape.page_size >= needed / shape.page_size) {
        page = free.back();
        free.pop_back();
      }
      page_of.push_back(page);
      offset_of.push_back(int32_t(p % shape.page_size));
    }
    op_kernels(isa).store_kv({world.k[r].data(), world.kv_width()}, {world.v[r].data(), world.kv_width()}, view,
                             page_of.data(), offset_of.data(), 0, context);
  }
}

float narrowed(KvType type, float x) {
  if (type == KvType::f32) return x;
  if (type == KvType::bf16) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
    std::memcpy(&x, &bits, 4);
    return x;
  }
  const int exponent = std::max(std::ilogb(x == 0 ? 1.0f : x), -14);
  return float(std::ldexp(std::nearbyint(std::ldexp(double(x), 10 - exponent)), exponent - 10));
}

// A token's numbers at one head as pages keep them.
std::vector<float> kept(KvType type, const float* x, int64_t width) {
  std::vector<float> all(x, x + width);
  if (type != KvType::int8) {
    for (float& v : all) v = narrowed(type, v);
    return all;
  }
  float most = 0;
  for (float v : all) most = std::max(most, std::fabs(v));
  const float scale = narrowed(KvType::f16, most / 127.0f);
  for (float& v : all)
    v = scale == 0 ? 0 : std::min(127.0f, std::max(-127.0f, std::nearbyint(v * (1.0f / scale)))) * scale;
  return all;
}

std::vector<double> expected(const World& world, float scale) {
  const Shape& shape = world.shape;
  std::vector<double> out(world.q.size());
  for (size_t r = 0; r < world.rows.size(); r++) {
    std::vector<double> k, v;
    for (size_t i = 0; i < world.k[r].size(); i += size_t(shape.head_dim)) {
      for (float x : kept(shape.type, world.k[r].data() + i, shape.head_dim)) k.push_back(x);
      for (float x : kept(shape.type, world.v[r].data() + i, shape.head_dim)) v.push_back(x);
    }
    for (int32_t t = world.row_starts[r]; t < world.row_starts[r + 1]; t++) {
      const int64_t position = world.positions[size_t(t)];
      const int64_t low = shape.window > 0 ? std::max<int64_t>(0, position - shape.window + 1) : 0;
      for (int64_t h = 0; h < world.heads(); h++) {
        const float* q = world.q.data() + t * world.q_width() + h * shape.head_dim;
        double* to = out.data() + t * world.q_width() + h * shape.head_dim;
        std::vector<double> scores;
        for (int64_t j = low; j <= position; j++) {
          double s = 0;
          for (int64_t d = 0; d < shape.head_dim; d++)
            s += double(q[d]) * k[size_t(j * world.kv_width() + h / shape.group * shape.head_dim + d)];
          s *= double(scale);
          scores.push_back(shape.soft_cap > 0 ? double(shape.soft_cap) * std::tanh(s / double(shape.soft_cap)) : s);
        }
        const double most = *std::max_element(scores.begin(), scores.end());
        double sum = shape.sinks ? std::exp(double(world.sinks[size_t(h)]) - most) : 0;
        for (double& s : scores) sum += s = std::exp(s - most);
        for (int64_t j = low; j <= position; j++)
          for (int64_t d = 0; d < shape.head_dim; d++)
            to[d] += scores[size_t(j - low)] / sum * v[size_t(j * world.kv_width() + h / shape.group * shape.head_dim + d)];
      }
    }
  }
  return out;
}

// Runs the rows [first_row, last_row) of a world, of which each computes only its tokens [skip, skip + take).
struct Cut {
  size_t first_row, last_row;
  int32_t skip = 0, take = 1 << 30;
  int64_t workers = 1;
  bool one_by_one = false;  // each work item in a call of its own, backwards
};

void run(World& world, Isa isa, float scale, const Cut& cut, std::vector<float>& out) {
  const Shape& shape = world.shape;
  std::vector<int32_t> starts = {0}, positions, tokens;
  for (size_t r = cut.first_row; r < cut.last_row; r++) {
    const int32_t begin = world.row_starts[r] + cut.skip;
    const int32_t end = std::min<int64_t>(world.row_starts[r + 1], int64_t(begin) + cut.take);
    for (int32_t t = begin; t < end; t++) {
      positions.push_back(world.positions[size_t(t)]);
      tokens.push_back(t);
    }
    starts.push_back(int32_t(positions.size()));
  }
  const int64_t width = world.q_width(), ld_out = width + 7;
  std::vector<float> q, result(tokens.size() * size_t(ld_out), 55.0f);
  for (int32_t t : tokens) q.insert(q.end(), world.q.begin() + t * width, world.q.begin() + (t + 1) * width);
  const int64_t rows = int64_t(cut.last_row - cut.first_row);
  AttentionPlan plan;
  const int64_t limit = attention_partial_limit(rows, world.table_width * shape.page_size);
  const int32_t* table = world.table.data() + cut.first_row * size_t(world.table_width);
  plan_attention({starts.data(), rows, positions.data(), table, world.table_width, shape.page_size},
                 {shape.kv_heads, shape.group, shape.head_dim, shape.window}, cut.workers, limit, 1, plan);
  if (plan.num_partials > limit) fail("%s: %d partials of %ld", shape.text().c_str(), plan.num_partials, long(limit));
  std::vector<float> partials(size_t(plan.num_partials * attention_partial_floats(world.heads(), shape.head_dim)), NAN);
  std::vector<float> workspace(size_t(attention_workspace_floats(shape.head_dim)) + 16, NAN);
  float* aligned = workspace.data() + (64 - reinterpret_cast<uintptr_t>(workspace.data()) % 64) % 64 / 4;
  const AttentionCall call{q.data(), width, result.data(), ld_out, world.view(), table, world.table_width,
                           positions.data(), plan.entries.data(), int32_t(world.heads()), shape.window, scale,
                           shape.soft_cap, shape.sinks ? world.sinks.data() : nullptr, partials.data()};
  const OpKernels& ops = op_kernels(isa);
  const int64_t work = int64_t(plan.items.size()) * shape.kv_heads, merges = int64_t(plan.merges.size()) * world.heads();
  if (cut.one_by_one) {
    for (int64_t w = work - 1; w >= 0; w--) ops.attention(call, plan.items.data(), w, w + 1, aligned);
    for (int64_t w = merges - 1; w >= 0; w--) ops.attention_merge(call, plan.merges.data(), w, w + 1);
  } else {
    ops.attention(call, plan.items.data(), 0, work, aligned);
    ops.attention_merge(call, plan.merges.data(), 0, merges);
  }
  for (size_t i = 0; i < tokens.size(); i++) {
    std::copy_n(result.begin() + int64_t(i) * ld_out, width, out.begin() + tokens[i] * width);
    if (result[i * size_t(ld_out) + size_t(width)] != 55.0f) fail("%s: wrote behind a row", shape.text().c_str());
  }
}

// bf16 rounds queries and probabilities too at the level that multiplies pairs; int8 rounds them to 16 bits.
double tolerance(KvType type, Isa isa) {
  if (type == KvType::bf16 && isa == Isa::avx512_bf16) return 2e-2;
  return type == KvType::int8 ? 4e-4 : 4e-6;
}

void test_world(const Shape& shape, const std::vector<Row>& rows, uint64_t seed, bool everything) {
  if (small_grid() && seed % 13 != 0) return;
  World world = make_world(shape, rows, seed);
  const float scale = 1 / std::sqrt(float(shape.head_dim));
  const std::vector<double> want = expected(world, scale);
  for (Isa isa : op_levels()) {
    const std::string name = std::string(isa_name(isa)) + " " + shape.text();
    fill_pages(world, isa, seed + 1);
    std::vector<float> whole(world.q.size()), other(world.q.size());
    run(world, isa, scale, {0, rows.size()}, whole);
    check_near(whole, want, tolerance(shape.type, isa), name);
    if (!everything && isa == Isa::portable) continue;
    const auto same = [&](const char* what) { check_same_bits(whole, other, name + ": " + what); other.assign(other.size(), 0); };
    run(world, isa, scale, {0, rows.size(), 0, 1 << 30, 64, true}, other);
    same("split over 64 workers");
    for (size_t r = 0; r < rows.size(); r++) run(world, isa, scale, {r, r + 1, 0, 1 << 30, 3}, other);
    same("rows alone, split over 3 workers");
    for (size_t r = 0; r < rows.size(); r++)
      for (int32_t t = 0; t < rows[r].tokens; t++) run(world, isa, scale, {r, r + 1, t, 1}, other);
    same("tokens alone");
    for (size_t r = 0; r < rows.size(); r++)
      for (int32_t t = 0; t < rows[r].tokens; t += 5) run(world, isa, scale, {r, r + 1, t, 5, 2}, other);
    same("chunks of 5");
    fill_pages(world, isa, seed + 2);
    run(world, isa, scale, {0, rows.size()}, other);
    same("other pages, other strangers");
    world.shape.page_size = shape.page_size == 16 ? 64 : 16;
    world.table_width = world.table_width * shape.page_size / world.shape.page_size + 1;
    fill_pages(world, isa, seed + 3);
    run(world, isa, scale, {0, rows.size()}, other);
    same("other page size");
    world.shape.page_size = shape.page_size;
    world.table_width = 0;
    for (const Row& row : rows)
      world.table_width = std::max<int64_t>(world.table_width, (row.start + row.tokens + shape.page_size - 1) / shape.page_size);
  }
}

// A split whose scores are all NaN makes NaN of every token that sees it, and of no other.
void test_broken_split(int64_t workers, int32_t window) {
  World world = make_world({2, 3, 32, KvType::bf16, 16, window}, {{0, 20}, {600, 3}, {700, 1}}, 7);
  std::fill_n(world.k[1].begin(), 256 * world.kv_width(), NAN);
  for (Isa isa : op_levels()) {
    fill_pages(world, isa, 8);
    std::vector<float> out(world.q.size());
    run(world, isa, 0.2f, {0, 3, 0, 1 << 30, workers}, out);
    for (size_t i = 0; i < out.size(); i++) {
      const size_t token = i / size_t(world.q_width());
      const bool broken = window == 0 && token >= 20 && token < 23;
      if (std::isnan(out[i]) != broken) return fail("%s: token %ld of %ld workers", isa_name(isa), long(token), long(workers));
    }
  }
}

}  // namespace

int main() {
  std::optional<FloatMode> mode;
  mode.emplace();  // as the pool's workers run
  uint64_t seed = 100;
  const std::vector<KvType> types = {KvType::f32, KvType::f16, KvType::bf16, KvType::int8};
  const std::vector<Row> few = {{0, 1}, {14, 3}, {255, 2}, {300, 1}};
  // Head widths and groups, every type.
  for (int32_t head_dim : {6, 8, 16, 20, 32, 64, 80, 96, 128, 256})
    for (int32_t group : {1, 2, 3, 4, 7, 8})
      for (KvType type : types) {
        if (head_dim > 80 && (group == 2 || group == 7) && type != KvType::bf16) continue;
        if (head_dim == 6 && type == KvType::int8) continue;
        const int32_t page_size = std::vector<int32_t>{16, 32, 64}[size_t(seed % 3)];
        test_world({group > 4 ? 1 : 2, group, head_dim, type, page_size}, few, seed++, head_dim == 16);
      }
  // MQA with more query heads than a block has rows.
  test_world({1, 71, 32, KvType::bf16, 16}, {{5, 2}, {260, 1}}, seed++, true);
  // Tiles of many tokens, short and long contexts.
  test_world({1, 2, 16, KvType::f16, 16}, {{0, 70}, {1010, 50}}, seed++, false);
  // Context lengths around tiles and splits, prefill and decode mixed.
  const std::vector<Row> borders = {{0, 15}, {0, 16}, {0, 17}, {15, 1}, {16, 1}, {31, 2}, {0, 40}, {250, 13}, {254, 1},
                                    {255, 1}, {256, 1}, {257, 1}, {510, 5}, {767, 2}, {100, 33}, {1023, 1}};
  for (KvType type : types) test_world({2, 2, 16, type, 32}, borders, seed++, true);
  test_world({1, 1, 64, KvType::bf16, 16}, borders, seed++, false);
  // Windows, soft caps and sinks.
  for (int32_t window : {1, 15, 16, 17, 100, 256, 300, 512, 5000})
    for (KvType type : {KvType::f32, KvType::bf16, KvType::int8}) {
      test_world({2, 3, 16, type, 16, window, 0, false}, borders, seed++, false);
      test_world({1, 4, 32, type, 32, window, 20, true}, few, seed++, true);
    }
  test_world({2, 2, 64, KvType::f16, 16, 0, 50, false}, borders, seed++, false);
  test_world({2, 2, 64, KvType::f16, 64, 0, 0, true}, borders, seed++, false);
  for (int64_t workers : {1, 64})
    for (int32_t window : {0, 300}) test_broken_split(workers, window);
  return finish("attention_test");
}
