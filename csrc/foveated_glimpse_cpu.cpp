// Compiled once per instruction set (FV_ISA). One row of samples at a time: the pixel rows under its window are weighed
// into one float row while still interleaved bytes, then the columns are, so pixels are read in order and few times.
#include "foveated_glimpse_rows.h"

namespace fv {
namespace {

void glimpse(const FoveatedGlimpseArgs& a, int64_t unit, const Scratch& s) {
  const int64_t fixation = unit / a.levels;
  const Columns columns = fill(glimpse_axis(a, fixation, unit % a.levels, 0), s.x);
  fill(glimpse_axis(a, fixation, unit % a.levels, 1), s.y);
  const Rows rows = rows_of(a, fixation / a.G, columns);
  const int64_t size = a.size;
  for (int64_t i = 0; i < size; ++i) {
    weigh_rows(rows, s.y[i], s, s.row);
    for (int64_t k = 0; k < size; ++k) store_pixel(s.samples + 4 * k, weigh_pixels(s.row, columns.begin, s.x[k]));
    for (int64_t c = 0; c < 3; ++c) {
      float* __restrict plane = s.grad[c];
      const float gain = a.gain[c], pivot = a.pivot[c] * s.y[i].inside;
      for (int64_t k = 0; k < size; ++k) plane[k] = gain * (s.samples[4 * k + c] - pivot * s.x[k].inside);
      const int64_t offset = ((unit * 3 + c) * size + i) * size;
      store_row(static_cast<char*>(const_cast<void*>(a.out)) + offset * dtype_size(a.out_dtype), a.out_dtype, size,
                plane, false);
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
    Scratch scratch(a);
    ok = scratch.memory != nullptr;
#pragma omp for schedule(dynamic)  // levels cost what they cover
    for (int64_t unit = 0; unit < a.B * a.T * a.G * a.levels; ++unit) {
      if (scratch.memory) glimpse(a, unit, scratch);
    }
    std::free(scratch.memory);
  }
  return ok;
}

}  // namespace FV_ISA
}  // namespace fv
