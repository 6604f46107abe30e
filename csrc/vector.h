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

// Both for a Vec and for a single float, so that one expression serves a row's vectors and its last elements.
template <class V>
inline V load_as(const float* p) {
  V v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

template <class V>
inline void store_as(float* p, V v) {
  __builtin_memcpy(p, &v, sizeof v);
}

inline Vec load_vec(const float* p) { return load_as<Vec>(p); }
inline void store_vec(float* p, Vec v) { store_as(p, v); }

template <int... Lane>
struct LaneList {};
#if FV_VECTOR_BYTES == 64
typedef LaneList<0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15> AllLanes;
#elif FV_VECTOR_BYTES == 32
typedef LaneList<0, 1, 2, 3, 4, 5, 6, 7> AllLanes;
#else
typedef LaneList<0, 1, 2, 3> AllLanes;
#endif

// Lane l of the result is v[l with the bit flipped].
template <int bit, int... L>
inline Vec flip(Vec v, LaneList<L...>) {
  return __builtin_shufflevector(v, v, (L ^ bit)...);
}

// Of each pair of lanes that differ in the bit, the lower ones of a and b, or the upper ones.
template <int bit, int... L>
inline Vec lower(Vec a, Vec b, LaneList<L...>) {
  return __builtin_shufflevector(a, b, (L & bit ? int(kLanes) + (L & ~bit) : L)...);
}
template <int bit, int... L>
inline Vec upper(Vec a, Vec b, LaneList<L...>) {
  return __builtin_shufflevector(a, b, (L & bit ? int(kLanes) + L : (L | bit))...);
}

// Lane l of v[i] becomes lane i of v[l]: squares of 2 x 2 are transposed, then squares of those.
template <int bit = 1>
inline void transpose(Vec* v) {
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) {
    if (i & bit) continue;
    const Vec a = v[i], b = v[i | bit];
    v[i] = lower<bit>(a, b, AllLanes{});
    v[i | bit] = upper<bit>(a, b, AllLanes{});
  }
  if constexpr (2 * bit < kLanes) transpose<2 * bit>(v);
}

// Transposes kLanes x kLanes floats; rows of `from` and of `to` are so many floats apart.
inline void transpose_tile(const float* from, int64_t from_pitch, float* to, int64_t to_pitch) {
  Vec v[kLanes];
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) v[i] = load_vec(from + i * from_pitch);
  transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < kLanes; ++i) store_vec(to + i * to_pitch, v[i]);
}

// Halves are added, then quarters: one lane after the other would wait for as many additions as there are lanes.
template <int bit = int(kLanes) / 2>
inline float lane_sum(Vec v) {
  v += flip<bit>(v, AllLanes{});
  if constexpr (bit > 1) {
    return lane_sum<bit / 2>(v);
  } else {
    return v[0];
  }
}

// Sum over i < n of term(i, V{}), where V is Vec for kLanes elements from i on, or float for one.
template <class Term>
inline float sum_terms(int64_t n, Term term) {
  Vec s0 = {}, s1 = {}, s2 = {}, s3 = {};
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    s0 += term(i, Vec{});
    s1 += term(i + kLanes, Vec{});
    s2 += term(i + 2 * kLanes, Vec{});
    s3 += term(i + 3 * kLanes, Vec{});
  }
  for (; i + kLanes <= n; i += kLanes) s0 += term(i, Vec{});
  float total = lane_sum((s0 + s1) + (s2 + s3));
  for (; i < n; ++i) total += term(i, 0.0f);
  return total;
}

// Sum over i of term(a[i], b[i]); `term` is a generic lambda that works on a Vec and on a float alike.
template <class Term>
inline float sum_pairs(const float* a, const float* b, int64_t n, Term term) {
  return sum_terms(n, [=](int64_t i, auto like) {
    using V = decltype(like);
    return term(load_as<V>(a + i), load_as<V>(b + i));
  });
}

}  // namespace
}  // namespace fv
