// Pixels under a window, weighed row by row: what the glimpses and both of their gradients are made of. Included only by
// the files that are compiled once per instruction set.
#pragma once

#include <cstdlib>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "dtype.h"
#include "foveated_glimpse.h"
#include "vector.h"

namespace fv {
namespace {

// A window with its weights: those of the first and last pixel, and the common one of those between.
struct Taps {
  float first, middle, last;
  int between;     // pixels between the first and the last
  int64_t offset;  // of the first pixel in a row that holds the crop's columns, in floats
  int64_t next;    // from the first pixel to the one after it, or to itself where it is the only one
  GlimpseWindow window;
  float inside;
  float shift;  // d(u) / d(side)
};

struct Columns {
  int64_t begin, count;  // pixels of a row that the crop covers
};

Columns fill(const GlimpseAxis& axis, Taps* taps) {
  int begin = axis.extent, end = 0;
  for (int i = 0; i < axis.size; ++i) {
    const GlimpseWindow w = glimpse_window(axis, i);
    taps[i].first = w.last < w.first ? 0.0f : glimpse_weight(w, w.first);
    taps[i].middle = w.inverse;
    taps[i].last = w.last > w.first ? glimpse_weight(w, w.last) : 0.0f;
    taps[i].between = w.last > w.first ? w.last - w.first - 1 : 0;
    taps[i].window = w;
    taps[i].inside = glimpse_inside(w);
    taps[i].shift = glimpse_offset(i, axis.size);
    if (w.first < begin) begin = w.first;
    if (w.last >= end) end = w.last + 1;
    if (w.first >= end) end = w.first + 1;
  }
  for (int i = 0; i < axis.size; ++i) {
    taps[i].offset = 3 * (taps[i].window.first - begin);
    taps[i].next = taps[i].window.last > taps[i].window.first ? 3 : 0;
  }
  for (int i = axis.size; i < axis.size + 3; ++i) taps[i] = taps[axis.size - 1];  // samples are taken by fours
  return {begin, end - begin};
}

// Buffers of one thread, all from one allocation: those of every pass, and `own` floats from `rest` on.
struct Scratch {
  Taps *x = nullptr, *y = nullptr;  // of the columns and of the rows of samples
  float* other = nullptr;           // a row of pixels that were not float32
  float* rest = nullptr;            // starts a cache line
  void* memory;                     // nullptr when it could not be had

  Scratch(const FoveatedGlimpseArgs& a, int64_t own) {
    constexpr int64_t kLine = 64;
    const int64_t taps = a.size + 3;
    memory = std::malloc(kLine + (own + 3 * a.W) * sizeof(float) + 2 * taps * sizeof(Taps));
    if (!memory) return;
    rest = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(memory) + kLine - 1) / kLine * kLine);
    other = rest + own;
    x = reinterpret_cast<Taps*>(other + 3 * a.W);
    y = x + taps;
  }
};

// Pixel rows of one frame, restricted to the columns of a crop.
struct Rows {
  const char* corner;
  int64_t stride, floats;  // bytes, values per row
  int dtype;

  const char* at(int64_t y) const { return corner + y * stride; }
};

Rows rows_of(const FoveatedGlimpseArgs& a, int64_t frame, const Columns& columns) {
  const int64_t size = dtype_size(a.frames_dtype);
  const int64_t offset = frame / a.T * a.batch_stride + frame % a.T * a.frame_stride + 3 * columns.begin;
  return {static_cast<const char*>(a.frames) + offset * size, a.row_stride * size, 3 * columns.count, a.frames_dtype};
}

typedef int32_t IntVec __attribute__((vector_size(FV_VECTOR_BYTES)));

// kLanes bytes as integers; left to itself the compiler takes them one by one.
inline IntVec widen(const uint8_t* p) {
#if defined(__AVX512F__)
  // The form without a mask makes GCC warn about its own header.
  return (IntVec)_mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
#elif defined(__AVX2__)
  return (IntVec)_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
#else
  IntVec v;
  for (int64_t lane = 0; lane < kLanes; ++lane) v[lane] = p[lane];
  return v;
#endif
}

inline Vec to_float(IntVec v) { return __builtin_convertvector(v, Vec); }

// dst = first * top + last * bottom
void combine(const uint8_t* top, const uint8_t* bottom, const Taps& taps, int64_t n, float* __restrict dst) {
  const float first = taps.first, last = taps.last;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    store_vec(dst + i, first * to_float(widen(top + i)) + last * to_float(widen(bottom + i)));
  }
  for (; i < n; ++i) dst[i] = first * static_cast<float>(top[i]) + last * static_cast<float>(bottom[i]);
}

// dst += middle * the sum of `count` rows from `row` on, `registers` times kLanes bytes of each. They weigh the same and
// are summed as integers, in registers.
template <int registers>
inline void add_between(const uint8_t* row, int64_t stride, int count, float middle, float* dst) {
  IntVec sum[registers] = {};
  for (int y = 0; y < count; ++y, row += stride) {
#pragma GCC unroll 4
    for (int i = 0; i < registers; ++i) sum[i] += widen(row + i * kLanes);
  }
#pragma GCC unroll 4
  for (int i = 0; i < registers; ++i) {
    store_vec(dst + i * kLanes, load_vec(dst + i * kLanes) + middle * to_float(sum[i]));
  }
}

void add(const float* src, float weight, int64_t n, float* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] += weight * src[i];
}

// The pixel rows under a window, weighed: dst[x, c] = sum over y of w(y) * pixel(y, x, c).
void weigh_rows(const Rows& rows, const Taps& taps, float* other, float* dst) {
  const int first = taps.window.first, last = taps.window.last;
  const int64_t n = rows.floats;
  if (rows.dtype != kUInt8) {
    for (int64_t i = 0; i < n; ++i) dst[i] = 0.0f;
    for (int y = first; y <= last; ++y) {
      const float weight = y == first ? taps.first : y == last ? taps.last : taps.middle;
      add(load_row(rows.at(y), rows.dtype, n, other), weight, n, dst);
    }
    return;
  }
  const uint8_t* top = reinterpret_cast<const uint8_t*>(rows.at(first));
  combine(top, taps.next > 0 ? reinterpret_cast<const uint8_t*>(rows.at(last)) : top, taps, n, dst);
  if (taps.between == 0) return;
  const uint8_t* next = top + rows.stride;
  int64_t i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    add_between<4>(next + i, rows.stride, taps.between, taps.middle, dst + i);
  }
  for (; i + kLanes <= n; i += kLanes) add_between<1>(next + i, rows.stride, taps.between, taps.middle, dst + i);
  for (; i < n; ++i) {
    int sum = 0;
    for (int y = 0; y < taps.between; ++y) sum += next[y * rows.stride + i];
    dst[i] += taps.middle * static_cast<float>(sum);
  }
}

}  // namespace
}  // namespace fv
