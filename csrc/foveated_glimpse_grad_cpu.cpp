// Compiled once per instruction set (FV_ISA). Gradients of the glimpses: to centre and scale, reduced in a fixed order, and
// to the pixels, where a thread owns a frame; no atomics, and the same bits whatever the number of threads.
//
// kLanes rows of samples are a block. The pixel rows under their windows are weighed in order, then transposed, so that a
// lane is a row of samples: a pixel of a block is three registers, and a column's weight is one number for all lanes.
#include "foveated_glimpse_rows.h"

namespace fv {
namespace {

// Floats of a pixel row that are weighed before they are transposed: so many fit the L1 cache, kLanes times.
constexpr int64_t kStrip = 256;

// `floats` rounded up to whole registers.
inline int64_t padded(int64_t floats) { return (floats + kLanes - 1) / kLanes * kLanes; }

struct BlockScratch : Scratch {
  int64_t pitch, plane, columns;  // floats of a row, of one colour of the samples and of all pixels
  float* rows;                    // [kLanes, pitch]: a strip of rows, or rows of samples, before or after it is transposed
  float* block;                   // [3 W padded, kLanes]: weighed pixels
  float* spread;                  // [3 W padded, kLanes]: gradients to them
  float* samples;                 // [3, size padded, kLanes]: gradients of samples

  explicit BlockScratch(const FoveatedGlimpseArgs& a)
      : BlockScratch(a, padded(a.size) > kStrip ? padded(a.size) : kStrip, padded(a.size) * kLanes,
                     padded(3 * a.W) * kLanes) {}

 private:
  BlockScratch(const FoveatedGlimpseArgs& a, int64_t pitch, int64_t plane, int64_t columns)
      : Scratch(a, kLanes * pitch + 2 * columns + 3 * plane), pitch(pitch), plane(plane), columns(columns),
        rows(rest), block(rows + kLanes * pitch), spread(block + columns), samples(spread + columns) {}
};

Rows strip_of(const Rows& rows, int64_t start) {
  const int64_t rest = rows.floats - start;
  return {rows.corner + start * dtype_size(rows.dtype), rows.stride, rest < kStrip ? rest : kStrip, rows.dtype};
}

// The block of rows of samples from `first` on, `count` of them.
void weigh_block(const Rows& rows, const BlockScratch& s, int64_t first, int64_t count) {
  for (int64_t start = 0; start < rows.floats; start += kStrip) {
    const Rows strip = strip_of(rows, start);
    for (int64_t r = 0; r < count; ++r) weigh_rows(strip, s.y[first + r], s.other, s.rows + r * s.pitch);
    for (int64_t j = 0; j < strip.floats; j += kLanes) {
      transpose_tile(s.rows + j, s.pitch, s.block + (start + j) * kLanes, kLanes);
    }
  }
}

// A float of each lane: rows of samples from `first` on.
template <class Value>
inline Vec of_rows(const Taps* taps, int64_t first, int64_t count, Value value) {
  Vec v = {};
  for (int64_t r = 0; r < count; ++r) v[r] = value(taps[first + r]);
  return v;
}

// Gradients of a block of samples, times the gain, lanes being rows; those from `count` on are zero.
void load_grads(const FoveatedGlimpseArgs& a, int64_t unit, int64_t first, int64_t count, const BlockScratch& s) {
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t r = 0; r < kLanes; ++r) {
      float* to = s.rows + r * s.pitch;
      if (r >= count) {
        __builtin_memset(to, 0, a.size * sizeof(float));
        continue;
      }
      const int64_t offset = ((unit * 3 + c) * a.size + first + r) * a.size;
      const float* from =
          load_row(static_cast<const char*>(a.out) + offset * dtype_size(a.out_dtype), a.out_dtype, a.size, to);
      for (int64_t k = 0; k < a.size; ++k) to[k] = a.gain[c] * from[k];
    }
    for (int64_t k = 0; k < a.size; k += kLanes) {
      transpose_tile(s.rows + k, s.pitch, s.samples + c * s.plane + k * kLanes, kLanes);
    }
  }
}

inline void add_pixel(float* p, const Vec* v, float weight) {
  for (int c = 0; c < 3; ++c) store_vec(p + c * kLanes, load_vec(p + c * kLanes) + weight * v[c]);
}

// The transpose of weighing the columns: spread[x, c] = sum over k of gradients[c][k] * w_k(x).
void spread_block(const BlockScratch& s, int64_t size, int64_t floats) {
  // Copies, which the stores below cannot change as far as the compiler knows.
  const float* const planes[3] = {s.samples, s.samples + s.plane, s.samples + 2 * s.plane};
  const Taps* x = s.x;
  float* const spread = s.spread;
  __builtin_memset(spread, 0, floats * sizeof(Vec));
  for (int64_t k = 0; k < size; ++k) {
    const Taps taps = x[k];
    Vec g[3];
    for (int c = 0; c < 3; ++c) g[c] = load_vec(planes[c] + k * kLanes);
    float* p = spread + taps.offset * kLanes;
    add_pixel(p, g, taps.first);
    if (taps.next == 0) continue;
    for (int x = 0; x < taps.between; ++x) add_pixel(p += 3 * kLanes, g, taps.middle);
    add_pixel(p += 3 * kLanes, g, taps.last);
  }
}

// Calls use(start, floats) for strips of the spread gradients, with their rows in s.rows.
template <class Use>
void for_strips(const BlockScratch& s, int64_t floats, Use use) {
  for (int64_t start = 0; start < floats; start += kStrip) {
    const int64_t n = floats - start < kStrip ? floats - start : kStrip;
    for (int64_t j = 0; j < n; j += kLanes) {
      transpose_tile(s.spread + (start + j) * kLanes, kLanes, s.rows + j, s.pitch);
    }
    use(start, n);
  }
}

inline Vec bytes_as(Vec, const uint8_t* p) { return to_float(widen(p)); }
inline float bytes_as(float, const uint8_t* p) { return *p; }

// Sum over a strip of a pixel row times a row of gradients.
float dot(const Rows& strip, int64_t y, const float* grad, float* scratch) {
  if (strip.dtype == kUInt8) {
    const uint8_t* bytes = reinterpret_cast<const uint8_t*>(strip.at(y));
    return sum_terms(strip.floats, [=](int64_t i, auto like) {
      return bytes_as(like, bytes + i) * load_as<decltype(like)>(grad + i);
    });
  }
  const float* row = load_row(strip.at(y), strip.dtype, strip.floats, scratch);
  return sum_pairs(row, grad, strip.floats, [](auto p, auto g) { return p * g; });
}

struct Gaze {
  double x, y, side;  // gradients to the centre in pixels and to the side in pixels
};

// Moving a window moves its edges: d(mean)/du = (right - left) / width of the pixels at the edges, and widening it gives
// d(mean)/d(width) = ((right + left) / 2 - mean) / width. Pixels count from `pivot`, which is what lies outside.
Gaze gaze(const FoveatedGlimpseArgs& a, int64_t unit, const BlockScratch& s) {
  const int64_t fixation = unit / a.levels, size = a.size;
  const GlimpseAxis axis = glimpse_axis(a, fixation, unit % a.levels, 0);
  const Columns columns = fill(axis, s.x);
  fill(glimpse_axis(a, fixation, unit % a.levels, 1), s.y);
  const Rows rows = rows_of(a, fixation / a.G, columns);
  const bool widens = axis.half > 0.5f;
  Gaze sum = {0.0, 0.0, 0.0};
  double wider = 0.0;
  for (int64_t first = 0; first < size; first += kLanes) {
    const int64_t count = size - first < kLanes ? size - first : kLanes;
    load_grads(a, unit, first, count, s);
    weigh_block(rows, s, first, count);
    const Vec inside = of_rows(s.y, first, count, [](const Taps& t) { return t.inside; });
    Vec moved = {}, stretched = {}, edges = {}, pivots = {}, mean = {};
    for (int64_t k = 0; k < size; ++k) {
      const Taps& taps = s.x[k];
      const int left_cell = taps.window.left_cell, right_cell = taps.window.right_cell;
      for (int c = 0; c < 3; ++c) {
        const Vec g = load_vec(s.samples + c * s.plane + k * kLanes);
        const float* pixel = s.block + (c - 3 * columns.begin) * kLanes;
        Vec left = {}, right = {};
        if (left_cell >= 0) left = load_vec(pixel + 3 * left_cell * kLanes);
        if (right_cell >= 0) right = load_vec(pixel + 3 * right_cell * kLanes);
        // Inside the frame, and where its border is repeated, a window's weights sum to one: no pivot is needed.
        if (a.zeros) {
          const Vec outside = a.pivot[c] * inside;
          if (left_cell >= 0) left -= outside;
          if (right_cell >= 0) right -= outside;
          pivots += (taps.inside * a.pivot[c]) * g;
        }
        const Vec difference = g * (right - left);
        moved += difference;
        stretched += taps.shift * difference;
        if (widens) edges += 0.5f * g * (right + left);
      }
    }
    // The other axis, transposed: gradients are spread over the pixels once instead of weighing three pixel rows.
    spread_block(s, size, rows.floats);
    for (int64_t j = 0; widens && j < rows.floats; ++j) {
      mean += load_vec(s.spread + j * kLanes) * load_vec(s.block + j * kLanes);
    }
    float edge[kLanes][2] = {};  // pixel rows at the upper and at the lower edge of the window
    for_strips(s, rows.floats, [&](int64_t start, int64_t) {
      const Rows strip = strip_of(rows, start);
      for (int64_t r = 0; r < count; ++r) {
        const GlimpseWindow& w = s.y[first + r].window;
        const float* grad = s.rows + r * s.pitch;
        if (w.left_cell >= 0) edge[r][0] += dot(strip, w.left_cell, grad, s.other);
        if (w.right_cell >= 0) edge[r][1] += dot(strip, w.right_cell, grad, s.other);
      }
    });
    for (int64_t r = 0; r < count; ++r) {
      const Taps& taps = s.y[first + r];
      const float upper = taps.window.left_cell < 0 ? 0.0f : edge[r][0] - pivots[r];
      const float lower = taps.window.right_cell < 0 ? 0.0f : edge[r][1] - pivots[r];
      sum.x += moved[r];
      sum.y += lower - upper;
      sum.side += stretched[r] + taps.shift * (lower - upper);
      if (widens) {
        const float here = mean[r] - pivots[r] * taps.inside;
        wider += (edges[r] - here) + (0.5f * (upper + lower) - here);
      }
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
    BlockScratch scratch(a);
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
    BlockScratch s(a);
    float* frame = static_cast<float*>(std::malloc(floats * sizeof(float)));
    ok = s.memory != nullptr && frame != nullptr;
#pragma omp for schedule(dynamic)
    for (int64_t t = 0; t < a.B * a.T; ++t) {
      if (!s.memory || !frame) continue;
      for (int64_t i = 0; i < floats; ++i) frame[i] = 0.0f;
      for (int64_t unit = t * a.G * a.levels; unit < (t + 1) * a.G * a.levels; ++unit) {
        const Columns columns = fill(glimpse_axis(a, unit / a.levels, unit % a.levels, 0), s.x);
        fill(glimpse_axis(a, unit / a.levels, unit % a.levels, 1), s.y);
        for (int64_t first = 0; first < a.size; first += kLanes) {
          const int64_t count = a.size - first < kLanes ? a.size - first : kLanes;
          load_grads(a, unit, first, count, s);
          spread_block(s, a.size, 3 * columns.count);
          for_strips(s, 3 * columns.count, [&](int64_t start, int64_t n) {
            for (int64_t r = 0; r < count; ++r) {
              const Taps& taps = s.y[first + r];
              for (int y = taps.window.first; y <= taps.window.last; ++y) {
                const float weight =
                    y == taps.window.first ? taps.first : y == taps.window.last ? taps.last : taps.middle;
                add(s.rows + r * s.pitch, weight, n, frame + (y * a.W + columns.begin) * 3 + start);
              }
            }
          });
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
