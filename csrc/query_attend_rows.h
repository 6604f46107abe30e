// The three products of attention over rows of tokens in cache: dots with a row, weighted sums of rows, outer products.
// Included only by the files that are compiled once per instruction set. `width` is a multiple of kLanes throughout.
#pragma once

#include "dtype.h"
#include "vector.h"

namespace fv {
namespace {

struct Rows {
  const float* data;
  int64_t stride;
};

// n rows of d elements as float32 rows of `width`, zeros after d. Rows that have that form already are not copied. The
// columns from d of `scratch` [n, width] must be zero.
inline Rows load_rows(const char* rows, int dtype, int64_t stride, int64_t n, int64_t d, int64_t width,
                      float* scratch) {
  if (dtype == kFloat32 && d == width) return {reinterpret_cast<const float*>(rows), stride};
  for (int64_t j = 0; j < n; ++j) {
    const char* row = rows + j * stride * dtype_size(dtype);
    if (dtype == kFloat32) {
      std::memcpy(scratch + j * width, row, d * sizeof(float));
    } else {
      load_row(row, dtype, d, scratch + j * width);
    }
  }
  return {scratch, width};
}

// Lane l of the result is x[l without bit] + x[l with bit], where x is b if l has the bit and a if not.
template <int bit, int... L>
inline Vec fold(Vec a, Vec b, LaneList<L...>) {
  return __builtin_shufflevector(a, b, ((L & bit ? int(kLanes) : 0) + (L & ~bit))...) +
         __builtin_shufflevector(a, b, ((L & bit ? int(kLanes) : 0) + (L | bit))...);
}

// Lane l of the result is the sum of v[l]'s lanes, added in the same order for each l: equal rows get equal scores.
template <int bit = 1>
inline Vec lane_sums(Vec* v) {
  constexpr int pairs = int(kLanes) / (2 * bit);
#pragma GCC unroll 8
  for (int i = 0; i < pairs; ++i) v[i] = fold<bit>(v[2 * i], v[2 * i + 1], AllLanes{});
  if constexpr (pairs > 1) {
    return lane_sums<2 * bit>(v);
  } else {
    return v[0];
  }
}

// s[j] = x . rows[j] for j < n; writes up to the next multiple of kLanes.
inline void dot_rows(const float* x, Rows rows, int64_t n, int64_t width, float* s) {
  for (int64_t j = 0; j < n; j += kLanes) {
    const float* row[kLanes];
    for (int64_t l = 0; l < kLanes; ++l) row[l] = rows.data + (j + l < n ? j + l : n - 1) * rows.stride;
    Vec sum[kLanes] = {};
    for (int64_t i = 0; i < width; i += kLanes) {
      const Vec xi = load_vec(x + i);
#pragma GCC unroll 16
      for (int64_t l = 0; l < kLanes; ++l) sum[l] += xi * load_vec(row[l] + i);
    }
    store_vec(s + j, lane_sums(sum));
  }
}

template <int vectors>
inline void add_weighted(const float* weights, Rows rows, int64_t n, float* out) {
  Vec sum[vectors] = {};
  for (int64_t j = 0; j < n; ++j) {
    const float* row = rows.data + j * rows.stride;
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[v] += weights[j] * load_vec(row + v * kLanes);
  }
  for (int v = 0; v < vectors; ++v) store_vec(out + v * kLanes, load_vec(out + v * kLanes) + sum[v]);
}

// out += sum over j < n of weights[j] * rows[j]
inline void add_weighted_rows(const float* weights, Rows rows, int64_t n, int64_t width, float* out) {
  int64_t i = 0;
  for (; i + 8 * kLanes <= width; i += 8 * kLanes) add_weighted<8>(weights, {rows.data + i, rows.stride}, n, out + i);
  for (; i + 4 * kLanes <= width; i += 4 * kLanes) add_weighted<4>(weights, {rows.data + i, rows.stride}, n, out + i);
  for (; i < width; i += kLanes) add_weighted<1>(weights, {rows.data + i, rows.stride}, n, out + i);
}

template <int vectors>
inline void outer(const float* weights, int64_t pitch, const float* x, int64_t count, int64_t width, bool add,
                  float* out) {
  Vec sum[vectors] = {};
  for (int64_t q = 0; q < count; ++q) {
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) sum[v] += weights[q * pitch] * load_vec(x + q * width + v * kLanes);
  }
  for (int v = 0; v < vectors; ++v) {
    store_vec(out + v * kLanes, add ? load_vec(out + v * kLanes) + sum[v] : sum[v]);
  }
}

// out[j] (+)= sum over q < count of weights[q * pitch + j] * x[q] for j < n; x [count, width], out [n, width].
inline void outer_rows(const float* weights, int64_t pitch, const float* x, int64_t count, int64_t n, int64_t width,
                       bool add, float* out) {
  for (int64_t j = 0; j < n; ++j) {
    float* to = out + j * width;
    int64_t i = 0;
    for (; i + 8 * kLanes <= width; i += 8 * kLanes) outer<8>(weights + j, pitch, x + i, count, width, add, to + i);
    for (; i + 4 * kLanes <= width; i += 4 * kLanes) outer<4>(weights + j, pitch, x + i, count, width, add, to + i);
    for (; i < width; i += kLanes) outer<1>(weights + j, pitch, x + i, count, width, add, to + i);
  }
}

}  // namespace
}  // namespace fv
