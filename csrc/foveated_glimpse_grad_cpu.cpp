// Compiled once per instruction set (FV_ISA). Gradients of the glimpses: to centre and scale, reduced in a fixed order, and
// to the pixels, where a thread owns a frame; no atomics, and the same bits whatever the number of threads.
#include "foveated_glimpse_rows.h"

namespace fv {
namespace {

// The transpose of weigh_pixels over a row of samples: dst[x, c] = sum over k of grad[c][k] * w_k(x).
void spread_pixels(float* const* grad, const Taps* taps, int64_t size, const Columns& columns, float* padded, float* dst) {
  // Four floats a pixel: overlapping reads and writes of three would wait for each other.
  __builtin_memset(padded, 0, columns.count * sizeof(Pixel));
  for (int64_t k = 0; k < size; ++k) {
    const Taps& t = taps[k];
    const Pixel g = {grad[0][k], grad[1][k], grad[2][k], 0.0f};
    float* p = padded + 4 * (t.window.first - columns.begin);
    store_pixel(p, load_pixel(p) + t.first * g);
    if (t.next == 0) continue;
    const Pixel between = t.middle * g;
    for (int x = 0; x < t.between; ++x) {
      p += 4;
      store_pixel(p, load_pixel(p) + between);
    }
    p += 4;
    store_pixel(p, load_pixel(p) + t.last * g);
  }
  for (int64_t x = 0; x < columns.count; ++x) store_pixel(dst + 3 * x, load_pixel(padded + 4 * x));
}

// Row i of a glimpse level's gradient, times the gain: grad[c][k].
void load_grad(const FoveatedGlimpseArgs& a, int64_t unit, int64_t i, float* const* grad) {
  for (int64_t c = 0; c < 3; ++c) {
    const int64_t offset = ((unit * 3 + c) * a.size + i) * a.size;
    const float* g = load_row(static_cast<const char*>(a.out) + offset * dtype_size(a.out_dtype), a.out_dtype, a.size,
                              grad[c]);
    for (int64_t k = 0; k < a.size; ++k) grad[c][k] = a.gain[c] * g[k];
  }
}

struct Gaze {
  double x, y, side;  // gradients to the centre in pixels and to the side in pixels
};

// Moving a window moves its edges: d(mean)/du = (right - left) / width of the pixels at the edges, and widening it gives
// d(mean)/d(width) = ((right + left) / 2 - mean) / width. Pixels count from `pivot`, which is what lies outside.
Gaze gaze(const FoveatedGlimpseArgs& a, int64_t unit, const Scratch& s) {
  const int64_t fixation = unit / a.levels, size = a.size;
  const GlimpseAxis axis = glimpse_axis(a, fixation, unit % a.levels, 0);
  const Columns columns = fill(axis, s.x);
  fill(glimpse_axis(a, fixation, unit % a.levels, 1), s.y);
  const Rows rows = rows_of(a, fixation / a.G, columns);
  const int64_t n = rows.floats;
  // Inside the frame, and where its border is repeated, a window's weights sum to one and a pivot makes no difference.
  const Pixel pivot = a.zeros ? Pixel{a.pivot[0], a.pivot[1], a.pivot[2], 0.0f} : Pixel{};
  const bool widens = axis.half > 0.5f;
  Gaze sum = {0.0, 0.0, 0.0};
  double wider = 0.0;
  for (int64_t i = 0; i < size; ++i) {
    load_grad(a, unit, i, s.planes);
    const Taps& taps = s.y[i];
    weigh_rows(rows, taps, s, s.row);
    const Pixel outside = pivot * taps.inside;
    Pixel moved = {}, stretched = {}, edges = {}, seen = {};
    for (int64_t k = 0; k < size; ++k) {
      const GlimpseWindow& w = s.x[k].window;
      const Pixel g = {s.planes[0][k], s.planes[1][k], s.planes[2][k], 0.0f};
      const Pixel right = w.right_cell < 0 ? Pixel{} : load_pixel(s.row + 3 * (w.right_cell - columns.begin)) - outside;
      const Pixel left = w.left_cell < 0 ? Pixel{} : load_pixel(s.row + 3 * (w.left_cell - columns.begin)) - outside;
      const Pixel difference = g * (right - left);
      moved += difference;
      stretched += s.x[k].shift * difference;
      edges += 0.5f * g * (right + left);
      seen += s.x[k].inside * g * pivot;
    }
    // The other axis, transposed: the row of gradients is spread over the pixels once instead of weighing three rows.
    spread_pixels(s.planes, s.x, size, columns, s.padded, s.spread);
    const float pivots = seen[0] + seen[1] + seen[2];
    float edge[2];  // pixel rows at the upper and at the lower edge of the window
    const int cells[2] = {taps.window.left_cell, taps.window.right_cell};
    for (int e = 0; e < 2; ++e) {
      edge[e] = 0.0f;
      if (cells[e] < 0) continue;
      const float* row = s.other;
      if (rows.dtype == kUInt8) {
        const uint8_t* bytes = reinterpret_cast<const uint8_t*>(rows.at(cells[e]));
        for (int64_t j = 0; j < n; ++j) s.other[j] = static_cast<float>(bytes[j]);
      } else {
        row = load_row(rows.at(cells[e]), rows.dtype, n, s.other);
      }
      edge[e] = sum_pairs(row, s.spread, n, [](auto p, auto q) { return p * q; }) - pivots;
    }
    const float down = edge[1] - edge[0];
    sum.x += moved[0] + moved[1] + moved[2];
    sum.y += down;
    sum.side += stretched[0] + stretched[1] + stretched[2] + taps.shift * down;
    if (widens) {
      const float mean = sum_pairs(s.row, s.spread, n, [](auto p, auto q) { return p * q; }) - pivots * taps.inside;
      wider += (edges[0] + edges[1] + edges[2] - mean) + (0.5f * (edge[0] + edge[1]) - mean);
    }
  }
  const double inverse = 0.5 / axis.half;
  return {sum.x * inverse, sum.y * inverse, (sum.side + wider / size) * inverse};
}

}  // namespace

namespace FV_ISA {

// Each returns false when scratch memory could not be had.
bool foveated_glimpse_gaze_grad(const FoveatedGlimpseArgs& a, int threads) {
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    Scratch scratch(a);
    ok = scratch.memory != nullptr;
#pragma omp for schedule(dynamic)
    for (int64_t fixation = 0; fixation < a.B * a.T * a.G; ++fixation) {
      if (!scratch.memory) continue;
      double x = 0.0, y = 0.0, scale = 0.0;
      for (int64_t level = 0; level < a.levels; ++level) {
        const Gaze g = gaze(a, fixation * a.levels + level, scratch);
        x += g.x, y += g.y, scale += g.side * glimpse_side(a, level);
      }
      a.to_center[2 * fixation] = static_cast<float>(x * 0.5 * a.W);
      a.to_center[2 * fixation + 1] = static_cast<float>(y * 0.5 * a.H);
      a.to_scale[fixation] = static_cast<float>(scale);
    }
    std::free(scratch.memory);
  }
  return ok;
}

// A thread owns a frame, and adds up what its glimpses saw of it in their order.
bool foveated_glimpse_frames_grad(const FoveatedGlimpseArgs& a, int threads) {
  const int64_t floats = a.H * a.W * 3;
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    Scratch s(a);
    float* frame = static_cast<float*>(std::malloc(floats * sizeof(float)));
    ok = s.memory != nullptr && frame != nullptr;
#pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < a.B * a.T; ++t) {
      if (!s.memory || !frame) continue;
      for (int64_t i = 0; i < floats; ++i) frame[i] = 0.0f;
      for (int64_t unit = t * a.G * a.levels; unit < (t + 1) * a.G * a.levels; ++unit) {
        const Columns columns = fill(glimpse_axis(a, unit / a.levels, unit % a.levels, 0), s.x);
        fill(glimpse_axis(a, unit / a.levels, unit % a.levels, 1), s.y);
        for (int64_t i = 0; i < a.size; ++i) {
          const Taps& taps = s.y[i];
          load_grad(a, unit, i, s.planes);
          spread_pixels(s.planes, s.x, a.size, columns, s.padded, s.spread);
          for (int y = taps.window.first; y <= taps.window.last; ++y) {
            const float weight = y == taps.window.first ? taps.first : y == taps.window.last ? taps.last : taps.middle;
            add(s.spread, weight, 3 * columns.count, frame + (y * a.W + columns.begin) * 3);
          }
        }
      }
      char* out = static_cast<char*>(a.to_frames) + t * floats * dtype_size(a.frames_dtype);
      store_row(out, a.frames_dtype, floats, frame, false);
    }
    std::free(frame);
    std::free(s.memory);
  }
  return ok;
}

}  // namespace FV_ISA
}  // namespace fv
