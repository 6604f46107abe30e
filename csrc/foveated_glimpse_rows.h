// Pixels under a window, weighed row by row: what the glimpses and both of their gradients are made of. Included only by
// the files that are compiled once per instruction set.
#pragma once

#include <cstdlib>

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
  GlimpseWindow window;
  float first, middle, last, inside;
};

struct Columns {
  int64_t begin, count;  // pixels of a row that the crop covers
};

Columns fill(const GlimpseAxis& axis, Taps* taps) {
  int begin = axis.extent, end = 0;
  for (int i = 0; i < axis.size; ++i) {
    const GlimpseWindow w = glimpse_window(axis, i);
    const bool empty = w.last < w.first;
    taps[i] = {w, empty ? 0.0f : glimpse_weight(w, w.first), w.inverse,
               w.last > w.first ? glimpse_weight(w, w.last) : 0.0f, glimpse_inside(w)};
    if (w.first < begin) begin = w.first;
    if (w.last >= end) end = w.last + 1;
  }
  return {begin, end > begin ? end - begin : 1};
}

// Buffers of one thread, all from one allocation.
struct Scratch {
  Taps *x = nullptr, *y = nullptr;
  float *row = nullptr, *other = nullptr, *spread = nullptr, *padded = nullptr, *samples = nullptr;
  float* grad[3] = {};
  uint16_t* sum = nullptr;
  void* memory;  // nullptr when it could not be had

  explicit Scratch(const FoveatedGlimpseArgs& a) {
    const int64_t row_floats = 3 * a.W + 16, size_floats = a.size + 16;
    const int64_t floats = 3 * row_floats + (4 * a.W + 16) + 7 * size_floats;
    memory = std::malloc(2 * a.size * sizeof(Taps) + floats * sizeof(float) + row_floats * sizeof(uint16_t));
    if (!memory) return;
    x = static_cast<Taps*>(memory);
    y = x + a.size;
    row = reinterpret_cast<float*>(y + a.size);
    other = row + row_floats;
    spread = other + row_floats;
    padded = spread + row_floats;
    samples = padded + 4 * a.W + 16;
    for (int c = 0; c < 3; ++c) grad[c] = samples + (4 + c) * size_floats;
    sum = reinterpret_cast<uint16_t*>(grad[2] + size_floats);
  }
};

// Pixel rows of one frame, restricted to the columns of a crop.
struct Rows {
  const char* corner;
  int64_t stride, floats;  // bytes, values per row
  int dtype;

  const char* at(int64_t y) const { return corner + y * stride; }
};

int64_t element_size(int frames_dtype) { return frames_dtype == kUInt8 ? 1 : dtype_size(frames_dtype); }

Rows rows_of(const FoveatedGlimpseArgs& a, int64_t frame, const Columns& columns) {
  const int64_t size = element_size(a.frames_dtype);
  const int64_t offset = frame / a.T * a.batch_stride + frame % a.T * a.frame_stride + 3 * columns.begin;
  return {static_cast<const char*>(a.frames) + offset * size, a.row_stride * size, 3 * columns.count, a.frames_dtype};
}

// dst = first * top + last * bottom
void combine(const uint8_t* top, const uint8_t* bottom, float first, float last, int64_t n, float* __restrict dst) {
  for (int64_t i = 0; i < n; ++i) dst[i] = first * static_cast<float>(top[i]) + last * static_cast<float>(bottom[i]);
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
inline Pixel weigh_pixels(const float* row, int64_t begin, const Taps& taps) {
  const int first = taps.window.first, last = taps.window.last;
  if (last < first) return Pixel{};
  const float* p = row + 3 * (first - begin);
  const Pixel sum = taps.first * load_pixel(p);
  if (last == first) return sum;
  Pixel even = {}, odd = {};
  int x = first + 1;
  for (; x + 1 < last; x += 2) {
    even += load_pixel(p += 3);
    odd += load_pixel(p += 3);
  }
  if (x < last) even += load_pixel(p += 3);
  return sum + taps.middle * (even + odd) + taps.last * load_pixel(p + 3);
}

}  // namespace
}  // namespace fv
