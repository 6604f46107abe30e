// Reductions over rows with enough independent accumulators to hide the latency of an add. Included only by the files
// that are compiled once per instruction set; FV_VECTOR_BYTES is that set's register width.
#pragma once

#include "common.h"

#ifndef FV_VECTOR_BYTES
#define FV_VECTOR_BYTES 16
#endif

namespace fv {
namespace {

typedef float Vec __attribute__((vector_size(FV_VECTOR_BYTES)));
constexpr int64_t kLanes = FV_VECTOR_BYTES / sizeof(float);

inline Vec load_vec(const float* p) {
  Vec v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline float lane_sum(Vec v) {
  float total = 0.0f;
  for (int64_t lane = 0; lane < kLanes; ++lane) total += v[lane];
  return total;
}

// Sum over i of term(a[i], b[i]); `term` is a generic lambda that works on a Vec and on a float alike.
template <class Term>
inline float sum_pairs(const float* a, const float* b, int64_t n, Term term) {
  Vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 += term(load_vec(a + i), load_vec(b + i));
    s1 += term(load_vec(a + i + kLanes), load_vec(b + i + kLanes));
    s2 += term(load_vec(a + i + 2 * kLanes), load_vec(b + i + 2 * kLanes));
    s3 += term(load_vec(a + i + 3 * kLanes), load_vec(b + i + 3 * kLanes));
  }
  float total = lane_sum((s0 + s1) + (s2 + s3));
  for (; i < n; ++i) total += term(a[i], b[i]);
  return total;
}

}  // namespace
}  // namespace fv
