// Pixels under a window, weighed row by row: what the glimpses and both of their gradients are made of. Included only by
// the files that are compiled once per instruction set.
#pragma once

#include <cstdlib>

#if defined(__SSE2__)
#include <immintrin.h>
#endif

#include "dtype.h"
#include "foveated_glimpse.h"
#include "vector.h"

namespace fv {
namespace {

typedef float Pixel __attribute__((vector_size(16)));  // r, g, b and a lane that is carried along

inline Pixel load_pixel(const float* p) {
  Pixel v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}

inline void store_pixel(float* p, Pixel v) { __builtin_memcpy(p, &v, sizeof v); }

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

// Buffers of one thread, all from one allocation.
struct Scratch {
  Taps *x = nullptr, *y = nullptr;
  float *row = nullptr, *other = nullptr, *spread = nullptr, *padded = nullptr;
  float* planes[3] = {};  // one row of samples
  uint16_t* sum = nullptr;
  void* memory;  // nullptr when it could not be had

  explicit Scratch(const FoveatedGlimpseArgs& a) {
    const int64_t row_floats = 3 * a.W + 16, size_floats = a.size + 16;
    const int64_t floats = 3 * row_floats + (4 * a.W + 16) + 3 * size_floats;
    memory = std::malloc(2 * (a.size + 3) * sizeof(Taps) + floats * sizeof(float) + row_floats * sizeof(uint16_t));
    if (!memory) return;
    x = static_cast<Taps*>(memory);
    y = x + a.size + 3;
    row = reinterpret_cast<float*>(y + a.size + 3);
    other = row + row_floats;
    spread = other + row_floats;
    padded = spread + row_floats;
    for (int c = 0; c < 3; ++c) planes[c] = padded + 4 * a.W + 16 + c * size_floats;
    sum = reinterpret_cast<uint16_t*>(planes[2] + size_floats);
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

// kLanes bytes as floats; left to itself the compiler takes them one by one.
inline Vec widen(const uint8_t* p) {
#if defined(__AVX512F__)
  // The forms without a mask make GCC warn about their own header.
  const __m512i words = _mm512_maskz_cvtepu8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  return _mm512_maskz_cvtepi32_ps(0xffff, words);
#elif defined(__AVX2__)
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
#else
  Vec v;
  for (int64_t lane = 0; lane < kLanes; ++lane) v[lane] = static_cast<float>(p[lane]);
  return v;
#endif
}

// dst = first * top + last * bottom
void combine(const uint8_t* top, const uint8_t* bottom, float first, float last, int64_t n, float* __restrict dst) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const Vec v = first * widen(top + i) + last * widen(bottom + i);
    __builtin_memcpy(dst + i, &v, sizeof v);
  }
  for (; i < n; ++i) dst[i] = first * static_cast<float>(top[i]) + last * static_cast<float>(bottom[i]);
}

void add(const uint8_t* src, int64_t n, uint16_t* __restrict sum) {
  for (int64_t i = 0; i < n; ++i) sum[i] = static_cast<uint16_t>(sum[i] + src[i]);
}

void add(const float* src, float weight, int64_t n, float* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] += weight * src[i];
}

// The pixel rows under a window, weighed: dst[x, c] = sum over y of w(y) * pixel(y, x, c).
void weigh_rows(const Rows& rows, const Taps& taps, const Scratch& s, float* dst) {
  const int first = taps.window.first, last = taps.window.last;
  const int64_t n = rows.floats;
  if (rows.dtype != kUInt8) {
    for (int64_t i = 0; i < n; ++i) dst[i] = 0.0f;
    for (int y = first; y <= last; ++y) {
      const float weight = y == first ? taps.first : y == last ? taps.last : taps.middle;
      add(load_row(rows.at(y), rows.dtype, n, s.other), weight, n, dst);
    }
    return;
  }
  const uint8_t* top = reinterpret_cast<const uint8_t*>(rows.at(first));
  const uint8_t* bottom = last > first ? reinterpret_cast<const uint8_t*>(rows.at(last)) : top;
  combine(top, bottom, taps.first, taps.last, n, dst);
  // The rows between weigh the same: they are summed as integers, as many as 16 bits hold.
  constexpr int kMost = 65535 / 255;
  for (int y = first + 1; y < last; y += kMost) {
    const int end = y + kMost < last ? y + kMost : last;
    __builtin_memset(s.sum, 0, n * sizeof(uint16_t));
    for (int row = y; row < end; ++row) add(reinterpret_cast<const uint8_t*>(rows.at(row)), n, s.sum);
    for (int64_t i = 0; i < n; ++i) dst[i] += taps.middle * static_cast<float>(s.sum[i]);
  }
}

// One sample of a weighed row: sum over x of w(x) * row[x, c].
inline Pixel weigh_pixels(const float* row, const Taps& taps) {
  const float* p = row + taps.offset;
  const Pixel first = taps.first * load_pixel(p);
  p += taps.next;
  if (taps.between == 0) return first + taps.last * load_pixel(p);
  Pixel even = {}, odd = {};
  int x = 0;
  for (; x + 2 <= taps.between; x += 2, p += 6) {
    even += load_pixel(p);
    odd += load_pixel(p + 3);
  }
  if (x < taps.between) {
    even += load_pixel(p);
    p += 3;
  }
  return first + taps.middle * (even + odd) + taps.last * load_pixel(p);
}

}  // namespace
}  // namespace fv
