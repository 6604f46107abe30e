// Compiled once per instruction set (FV_ISA). A batch entry's head belongs to one thread, which streams its keys and
// values once. Scores live in cache for a block of tokens at a time; a new block's maximum rescales what came before.
#include "query_attend.h"

#include <cmath>
#include <cstdlib>

#include "query_attend_rows.h"
#include "vector_exp.h"

namespace fv {
namespace {

constexpr int64_t kBlock = 512;  // tokens whose scores are held: 32 KB for a tile of queries
constexpr int64_t kChunk = 32;   // tokens whose rows stay in the L1 cache while every query of the tile uses them

// One piece of zeroed memory, handed out in float arrays a cache line apart. To be freed by who made it: a destructor
// would leave symbols that the instruction sets share.
struct Arena {
  float *base, *next;

  float* take(int64_t floats) {
    float* taken = next;
    next += (floats + 15) / 16 * 16;
    return taken;
  }
};

// Room for `arrays` arrays of `floats` in all; base is null when there is none.
Arena make_arena(int64_t floats, int64_t arrays) {
  const size_t bytes = ((floats + 16 * arrays) * sizeof(float) + 63) / 64 * 64;
  float* base = static_cast<float*>(std::aligned_alloc(64, bytes));
  if (base) std::memset(base, 0, bytes);
  return {base, base};
}

const char* row_at(const void* base, int dtype, int64_t elements) {
  return static_cast<const char*>(base) + elements * dtype_size(dtype);
}

// `n` tokens from `start` of one head's keys or values.
Rows load_tokens(const QueryAttendInputs& in, const char* head, int64_t stride, int64_t start, int64_t n, int64_t width,
                 float* scratch) {
  return load_rows(head + start * stride * dtype_size(in.dtype), in.dtype, stride, n, in.D, width, scratch);
}

// The contiguous row number of query i (of S * Q) of batch entry b and head h.
int64_t query_row(const QueryAttendInputs& in, int64_t b, int64_t h, int64_t i) {
  return ((b * in.S + i / in.Q) * in.H + h) * in.Q + i % in.Q;
}

// Query i's row, times `scale`, into `to`.
void load_query(const QueryAttendInputs& in, const void* x, const int64_t* strides, int64_t b, int64_t h, int64_t i,
                float scale, float* to) {
  const int64_t at = b * strides[0] + i / in.Q * strides[1] + h * strides[2] + i % in.Q * strides[3];
  const float* row = load_row(row_at(x, in.dtype, at), in.dtype, in.D, to);
  for (int64_t c = 0; c < in.D; ++c) to[c] = row[c] * scale;
}

struct Softmax {
  float max, sum, sum_log;  // sum exp(s - max), sum exp(s - max) (s - max)
  float best;
  int64_t peak;
};

float largest(const float* s, int64_t padded_n) {
  Vec most = load_vec(s);
  for (int64_t j = kLanes; j < padded_n; j += kLanes) {
    const Vec v = load_vec(s + j);
    most = v > most ? v : most;
  }
  float max = -INFINITY;
  for (int64_t l = 0; l < kLanes; ++l) max = most[l] > max ? most[l] : max;
  return max;
}

// Replaces the scores of tokens [start, start + n) by exp(s - max), after scaling `out` down to the new maximum. The
// scores from n up to padded_n are -inf.
void softmax_block(Softmax& state, float* s, int64_t start, int64_t n, int64_t padded_n, bool stats, float* out,
                   int64_t width) {
  const float max = largest(s, padded_n);
  if (stats && max > state.best) {  // strictly: the first of equals stays
    int64_t j = 0;
    while (j < n - 1 && !(s[j] == max)) ++j;
    state.best = max, state.peak = start + j;
  }
  if (start == 0) {
    state.max = max;
  } else if (max > state.max) {
    const float down = state.max - max;
    const Vec zero = {};
    const float factor = exp_vec(zero + down)[0];
    state.sum_log = factor * state.sum_log + (factor > 0.0f ? factor * down * state.sum : 0.0f);
    state.sum *= factor;
    for (int64_t c = 0; c < width; ++c) out[c] *= factor;
    state.max = max;
  }
  Vec sum = {}, sum_log = {};
  for (int64_t j = 0; j < padded_n; j += kLanes) {
    const Vec x = load_vec(s + j) - state.max;
    const Vec e = exp_vec(x);
    store_vec(s + j, e);
    sum += e;
    const Vec zero = {};
    if (stats) sum_log += e * (x < kExpLowest ? zero : x);  // 0 * -inf counts as 0
  }
  state.sum += lane_sum(sum);
  state.sum_log += lane_sum(sum_log);
}

struct ForwardScratch {
  float *query, *out, *scores, *rows;
};

void attend_tile(const QueryAttendArgs& a, int64_t b, int64_t h, int64_t first, int64_t count, int64_t width,
                 const ForwardScratch& f) {
  const QueryAttendInputs& in = a.in;
  const char* keys = row_at(in.key, in.dtype, b * in.key_strides[0] + h * in.key_strides[1]);
  const char* values = row_at(in.value, in.dtype, b * in.value_strides[0] + h * in.value_strides[1]);
  Softmax state[kQueryTile];
  for (int64_t q = 0; q < count; ++q) {
    load_query(in, in.query, in.query_strides, b, h, first + q, in.scale, f.query + q * width);
    state[q] = {-INFINITY, 0.0f, 0.0f, -INFINITY, 0};
  }
  std::memset(f.out, 0, count * width * sizeof(float));
  for (int64_t start = 0; start < in.N; start += kBlock) {
    const int64_t n = in.N - start < kBlock ? in.N - start : kBlock;
    const int64_t padded_n = (n + kLanes - 1) / kLanes * kLanes;
    for (int64_t j = 0; j < n; j += kChunk) {
      const int64_t rows_n = n - j < kChunk ? n - j : kChunk;
      const Rows rows = load_tokens(in, keys, in.key_strides[2], start + j, rows_n, width, f.rows);
      for (int64_t q = 0; q < count; ++q) dot_rows(f.query + q * width, rows, rows_n, width, f.scores + q * kBlock + j);
    }
    for (int64_t q = 0; q < count; ++q) {
      float* s = f.scores + q * kBlock;
      for (int64_t j = n; j < padded_n; ++j) s[j] = -INFINITY;
      softmax_block(state[q], s, start, n, padded_n, a.entropy != nullptr, f.out + q * width, width);
    }
    for (int64_t j = 0; j < n; j += kChunk) {
      const int64_t rows_n = n - j < kChunk ? n - j : kChunk;
      const Rows rows = load_tokens(in, values, in.value_strides[2], start + j, rows_n, width, f.rows);
      for (int64_t q = 0; q < count; ++q) {
        add_weighted_rows(f.scores + q * kBlock + j, rows, rows_n, width, f.out + q * width);
      }
    }
  }
  for (int64_t q = 0; q < count; ++q) {
    const int64_t row = query_row(in, b, h, first + q);
    float* out = f.out + q * width;
    const float log_sum = std::log(state[q].sum);
    for (int64_t c = 0; c < in.D; ++c) out[c] /= state[q].sum;
    store_row(static_cast<char*>(a.out) + row * in.D * dtype_size(in.dtype), in.dtype, in.D, out, false);
    if (a.precise) std::memcpy(a.precise + row * in.D, out, in.D * sizeof(float));
    if (a.lse) a.lse[row] = state[q].max + log_sum;
    // log sum exp(s) - E[s], both relative to the maximum: for large scores nothing cancels.
    if (a.entropy) a.entropy[row] = log_sum - state[q].sum_log / state[q].sum, a.peak[row] = state[q].peak;
  }
}

struct BackwardScratch {
  float *query, *grad_out, *grad_query;                // [S * Q, width]
  float *lse, *delta, *grad_entropy, *entropy;         // [S * Q]
  float *weights, *grad_scores;                        // [kQueryTile, kChunk]
  float *key_rows, *value_rows, *grad_key, *grad_value;  // [kChunk, width]
};

void load_queries(const QueryAttendBackwardArgs& a, int64_t b, int64_t h, int64_t width, const BackwardScratch& f) {
  const QueryAttendInputs& in = a.in;
  for (int64_t i = 0; i < in.S * in.Q; ++i) {
    const int64_t row = query_row(in, b, h, i);
    load_query(in, in.query, in.query_strides, b, h, i, in.scale, f.query + i * width);
    load_query(in, a.grad_out, a.grad_out_strides, b, h, i, 1.0f, f.grad_out + i * width);
    // rowsum(grad_out * out), added up like the products with the values: where one weight is 1 they cancel exactly.
    const char* out = row_at(a.precise, kFloat32, row * in.D);
    float dots[kLanes];
    dot_rows(f.grad_out + i * width, load_rows(out, kFloat32, in.D, 1, in.D, width, f.key_rows), 1, width, dots);
    f.delta[i] = dots[0];
    f.lse[i] = a.lse[row];
    f.grad_entropy[i] = a.grad_entropy ? a.grad_entropy[row] : 0.0f;
    f.entropy[i] = a.grad_entropy ? a.entropy[row] : 0.0f;
  }
  std::memset(f.grad_query, 0, in.S * in.Q * width * sizeof(float));
}

// Weights p = exp(s - lse) and the scores' gradient p (dp - delta - grad_entropy (log p + entropy)) of one query, in
// place of s and dp.
void score_gradients(const BackwardScratch& f, int64_t i, int64_t padded_n, float* s, float* dp) {
  const float lse = f.lse[i], delta = f.delta[i], grad_entropy = f.grad_entropy[i], entropy = f.entropy[i];
  for (int64_t j = 0; j < padded_n; j += kLanes) {
    const Vec zero = {}, log_p = load_vec(s + j) - lse;
    const Vec p = exp_vec(log_p);
    Vec grad = load_vec(dp + j) - delta;
    if (grad_entropy != 0.0f) grad -= grad_entropy * ((log_p < kExpLowest ? zero : log_p) + entropy);
    store_vec(s + j, p);
    store_vec(dp + j, p * grad);
  }
}

void backward_head(const QueryAttendBackwardArgs& a, int64_t b, int64_t h, int64_t width, const BackwardScratch& f) {
  const QueryAttendInputs& in = a.in;
  const int64_t queries = in.S * in.Q, size = dtype_size(in.dtype);
  const char* keys = row_at(in.key, in.dtype, b * in.key_strides[0] + h * in.key_strides[1]);
  const char* values = row_at(in.value, in.dtype, b * in.value_strides[0] + h * in.value_strides[1]);
  load_queries(a, b, h, width, f);
  for (int64_t start = 0; start < in.N; start += kChunk) {
    const int64_t n = in.N - start < kChunk ? in.N - start : kChunk;
    const int64_t padded_n = (n + kLanes - 1) / kLanes * kLanes;
    const Rows k = load_tokens(in, keys, in.key_strides[2], start, n, width, f.key_rows);
    const Rows v = load_tokens(in, values, in.value_strides[2], start, n, width, f.value_rows);
    for (int64_t first = 0; first < queries; first += kQueryTile) {
      const int64_t count = queries - first < kQueryTile ? queries - first : kQueryTile;
      for (int64_t q = 0; q < count; ++q) {
        const int64_t i = first + q;
        float *p = f.weights + q * kChunk, *grad = f.grad_scores + q * kChunk;
        dot_rows(f.query + i * width, k, n, width, p);
        dot_rows(f.grad_out + i * width, v, n, width, grad);
        score_gradients(f, i, padded_n, p, grad);
        if (a.grad_query) add_weighted_rows(grad, k, n, width, f.grad_query + i * width);
      }
      if (a.grad_key) {
        outer_rows(f.grad_scores, kChunk, f.query + first * width, count, n, width, first > 0, f.grad_key);
        outer_rows(f.weights, kChunk, f.grad_out + first * width, count, n, width, first > 0, f.grad_value);
      }
    }
    if (!a.grad_key) continue;
    for (int64_t j = 0; j < n; ++j) {
      const int64_t* strides = a.grad_cache_strides;
      const int64_t at = b * strides[0] + h * strides[1] + (start + j) * strides[2];
      store_row(static_cast<char*>(a.grad_key) + at * size, in.dtype, in.D, f.grad_key + j * width, a.stream);
      store_row(static_cast<char*>(a.grad_value) + at * size, in.dtype, in.D, f.grad_value + j * width, a.stream);
    }
  }
  for (int64_t i = 0; i < queries && a.grad_query; ++i) {
    float* grad = f.grad_query + i * width;
    for (int64_t c = 0; c < in.D; ++c) grad[c] *= in.scale;  // the loaded queries carried it for the keys' gradient
    store_row(static_cast<char*>(a.grad_query) + query_row(in, b, h, i) * in.D * size, in.dtype, in.D, grad, false);
  }
}

}  // namespace

namespace FV_ISA {

// Both return false when scratch memory could not be had.
bool query_attend(const QueryAttendArgs& a, int threads) {
  const QueryAttendInputs& in = a.in;
  const int64_t width = (in.D + kLanes - 1) / kLanes * kLanes, queries = in.S * in.Q;
  const int64_t tile = queries < kQueryTile ? queries : kQueryTile;
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    Arena arena = make_arena(2 * tile * width + tile * kBlock + kChunk * width, 4);
    ok = arena.base != nullptr;
    const ForwardScratch f = {arena.take(tile * width), arena.take(tile * width), arena.take(tile * kBlock),
                              arena.take(kChunk * width)};
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < in.B * in.H; ++unit) {
      for (int64_t first = 0; first < queries && ok; first += kQueryTile) {
        const int64_t count = queries - first < kQueryTile ? queries - first : kQueryTile;
        attend_tile(a, unit / in.H, unit % in.H, first, count, width, f);
      }
    }
    std::free(arena.base);
  }
  return ok;
}

bool query_attend_backward(const QueryAttendBackwardArgs& a, int threads) {
  const QueryAttendInputs& in = a.in;
  const int64_t width = (in.D + kLanes - 1) / kLanes * kLanes, queries = in.S * in.Q;
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    Arena arena = make_arena(queries * (3 * width + 4) + 2 * kQueryTile * kChunk + 4 * kChunk * width, 13);
    ok = arena.base != nullptr;
    BackwardScratch f;
    f.query = arena.take(queries * width), f.grad_out = arena.take(queries * width);
    f.grad_query = arena.take(queries * width);
    f.lse = arena.take(queries), f.delta = arena.take(queries);
    f.grad_entropy = arena.take(queries), f.entropy = arena.take(queries);
    f.weights = arena.take(kQueryTile * kChunk), f.grad_scores = arena.take(kQueryTile * kChunk);
    f.key_rows = arena.take(kChunk * width), f.value_rows = arena.take(kChunk * width);
    f.grad_key = arena.take(kChunk * width), f.grad_value = arena.take(kChunk * width);
#pragma omp for schedule(static)
    for (int64_t unit = 0; unit < in.B * in.H; ++unit) {
      if (ok) backward_head(a, unit / in.H, unit % in.H, width, f);
    }
    store_fence();
    std::free(arena.base);
  }
  return ok;
}

}  // namespace FV_ISA
}  // namespace fv
