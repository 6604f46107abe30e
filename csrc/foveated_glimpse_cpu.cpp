// Compiled once per instruction set (FV_ISA). One row of samples at a time: the pixel rows under its window are weighed
// into one float row while still interleaved bytes, then the columns are, so pixels are read in order and few times.
#include "foveated_glimpse_rows.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace fv {
namespace {

typedef float Pixel __attribute__((vector_size(16)));  // r, g, b and a lane that is carried along

inline Pixel load_pixel(const float* p) {
  Pixel v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
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

// planes[c][k .. k + 3] = samples[0 .. 3][c]
inline void split(const Pixel* samples, float* const* planes, int64_t k) {
#if defined(__SSE2__)
  __m128 r = samples[0], g = samples[1], b = samples[2], rest = samples[3];
  _MM_TRANSPOSE4_PS(r, g, b, rest);
  _mm_storeu_ps(planes[0] + k, r);
  _mm_storeu_ps(planes[1] + k, g);
  _mm_storeu_ps(planes[2] + k, b);
#else
  for (int c = 0; c < 3; ++c) {
    for (int m = 0; m < 4; ++m) planes[c][k + m] = samples[m][c];
  }
#endif
}

struct GlimpseScratch : Scratch {
  float* row;        // weighed pixels, and room for the lane that is carried along
  float* planes[3];  // one row of samples; what is over of the last four has room

  explicit GlimpseScratch(const FoveatedGlimpseArgs& a) : Scratch(a, row_floats(a) + 3 * plane_floats(a)), row(rest) {
    for (int c = 0; c < 3; ++c) planes[c] = row + row_floats(a) + c * plane_floats(a);
  }

  static int64_t row_floats(const FoveatedGlimpseArgs& a) { return 3 * a.W + 16; }
  static int64_t plane_floats(const FoveatedGlimpseArgs& a) { return a.size + 16; }
};

void glimpse(const FoveatedGlimpseArgs& a, int64_t unit, const GlimpseScratch& s) {
  const int64_t fixation = unit / a.levels;
  const Columns columns = fill(glimpse_axis(a, fixation, unit % a.levels, 0), s.x);
  fill(glimpse_axis(a, fixation, unit % a.levels, 1), s.y);
  const Rows rows = rows_of(a, fixation / a.G, columns);
  const Pixel gain = {a.gain[0], a.gain[1], a.gain[2], 0.0f}, pivot = {a.pivot[0], a.pivot[1], a.pivot[2], 0.0f};
  for (int64_t i = 0; i < a.size; ++i) {
    weigh_rows(rows, s.y[i], s.other, s.row);
    const Pixel outside = pivot * s.y[i].inside;
    for (int64_t k = 0; k < a.size; k += 4) {
      Pixel samples[4];
#pragma GCC unroll 4
      for (int64_t m = 0; m < 4; ++m) {
        samples[m] = gain * (weigh_pixels(s.row, s.x[k + m]) - s.x[k + m].inside * outside);
      }
      split(samples, s.planes, k);
    }
    for (int64_t c = 0; c < 3; ++c) {
      const int64_t offset = ((unit * 3 + c) * a.size + i) * a.size;
      store_row(static_cast<char*>(const_cast<void*>(a.out)) + offset * dtype_size(a.out_dtype), a.out_dtype, a.size,
                s.planes[c], a.stream);
    }
  }
}

}  // namespace

namespace FV_ISA {

// Returns false when scratch memory could not be had.
bool foveated_glimpse(const FoveatedGlimpseArgs& a, int threads) {
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    GlimpseScratch scratch(a);
    ok = scratch.memory != nullptr;
#pragma omp for schedule(dynamic)  // levels cost what they cover
    for (int64_t unit = 0; unit < a.B * a.T * a.G * a.levels; ++unit) {
      if (scratch.memory) glimpse(a, unit, scratch);
    }
    store_fence();
    std::free(scratch.memory);
  }
  return ok;
}

}  // namespace FV_ISA
}  // namespace fv
