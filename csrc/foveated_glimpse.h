// Foveated glimpses: concentric square crops around fixations, resampled by the area each sample's window covers.
// fastvid/ops/foveated_glimpse/reference.py is the definition; the window arithmetic here rounds in the same order.
#pragma once

#include <cmath>

#include "common.h"

namespace fv {

struct FoveatedGlimpseArgs {
  const void* frames;   // [B, T, H, W, 3]; the last two dimensions contiguous
  const float* center;  // [B, T, G, 2] contiguous, (x, y)
  const float* scale;   // [B, T, G] contiguous
  int frames_dtype;
  int64_t B, T, H, W, G, levels, size;
  int64_t batch_stride, frame_stride, row_stride;  // elements
  float level_ratio;
  float gain[3], pivot[3];  // value = gain[c] * (pixel - pivot[c])
  bool zeros, antialias;

  const void* out;  // [B, T, G, levels, 3, size, size] contiguous: the glimpses, or their gradient in a backward pass
  int out_dtype;
  float *to_center, *to_scale;  // gradients, shaped as center and scale
  void* to_frames;              // gradient [B, T, H, W, 3] contiguous, in frames_dtype
  bool stream;                  // CPU: the stores to `out` bypass the cache
  float* partial;               // CUDA: [B, T, G, levels * tiles, 3] workspace of a reduction
};

// One axis of one glimpse's level.
struct GlimpseAxis {
  float middle, side, half;  // of the crop, of the crop, half a window; pixels
  int extent, size;
  bool zeros;
};

// The pixels under a sample's window and its exact edges.
struct GlimpseWindow {
  int first, last;         // pixels with weight; none when last < first
  int left_cell, right_cell;  // pixels that hold the edges: -1 is outside the frame, where padding "zeros" has nothing
  float left, right;       // edges, in "zeros" cut at the frame's
  float inverse;           // 1 / width
};

FV_HD float glimpse_offset(int i, int64_t size) {
  return (static_cast<float>(i) + 0.5f) / static_cast<float>(size) - 0.5f;
}

// Side of level 0 at scale 1, times the growth to `level`: d(side) / d(scale).
FV_HD float glimpse_side(const FoveatedGlimpseArgs& a, int64_t level) {
  float growth = 1.0f;
  for (int64_t l = 0; l < level; ++l) growth *= a.level_ratio;
  return static_cast<float>(a.H < a.W ? a.H : a.W) * growth;
}

FV_HD float glimpse_width(const FoveatedGlimpseArgs& a, float side) {
  const float step = side / static_cast<float>(a.size);
  return a.antialias && !(step <= 1.0f) ? step : 1.0f;  // a NaN stays one
}

// `axis` 0 is x, 1 is y; `glimpse` counts over (b, t, g).
FV_HD GlimpseAxis glimpse_axis(const FoveatedGlimpseArgs& a, int64_t glimpse, int64_t level, int axis) {
  const int64_t extent = axis == 0 ? a.W : a.H;
  const float scale = a.scale[glimpse] > 0.0f ? a.scale[glimpse] : NAN;
  const float side = scale * glimpse_side(a, level);
  const float middle = ((a.center[2 * glimpse + axis] + 1.0f) * static_cast<float>(extent) - 1.0f) / 2.0f;
  return {middle, side, glimpse_width(a, side) / 2.0f, static_cast<int>(extent), static_cast<int>(a.size), a.zeros};
}

// The pixel whose cell holds a coordinate, cut at the frame; NaN gives 0.
FV_HD int glimpse_cell(float x, int extent) {
  const float cell = floorf(x + 0.5f), end = static_cast<float>(extent - 1);
  return static_cast<int>(cell > 0.0f ? (cell < end ? cell : end) : 0.0f);
}

FV_HD GlimpseWindow glimpse_window(const GlimpseAxis& axis, int i) {
  const float u = axis.middle + glimpse_offset(i, axis.size) * axis.side;
  GlimpseWindow w;
  w.left = u - axis.half;
  w.right = u + axis.half;
  w.inverse = 1.0f / (w.right - w.left);  // not 1 / width: the weights sum to one whatever u was rounded to
  w.first = w.left_cell = glimpse_cell(w.left, axis.extent);
  w.last = w.right_cell = glimpse_cell(w.right, axis.extent);
  if (axis.zeros) {
    const float begin = -0.5f, end = static_cast<float>(axis.extent) - 0.5f;
    if (w.left < begin || w.left >= end) w.left_cell = -1;
    if (w.right < begin || w.right >= end) w.right_cell = -1;
    if (w.right <= begin || w.left >= end) w.last = w.first - 1;
    w.left = w.left < begin ? begin : w.left;
    w.right = w.right > end ? end : w.right;
  }
  return w;
}

// Share of the window that pixel j's cell covers; first <= j <= last. The outermost windows' ends count as the frame's
// repeated pixels do: to the first and the last. `x` is j.
FV_HD float glimpse_weight(const GlimpseWindow& w, int j, float x) {
  const float begin = j == w.first ? w.left : x - 0.5f;
  const float end = j == w.last ? w.right : x + 0.5f;
  return (end - begin) * w.inverse;
}

FV_HD float glimpse_weight(const GlimpseWindow& w, int j) { return glimpse_weight(w, j, static_cast<float>(j)); }

// Share of the window that is inside the frame (all of it for padding "border").
FV_HD float glimpse_inside(const GlimpseWindow& w) { return w.last < w.first ? 0.0f : (w.right - w.left) * w.inverse; }

// On a GPU a thread block takes a tile of a level's samples, and a thread some rows of a column of it.
constexpr int kGlimpseTileX = 32, kGlimpseTileY = 32, kGlimpseThreadsY = 8;

// Tiles of a level: that many partial sums, of 3 floats each, foveated_glimpse_gaze_grad_cuda needs room for in `partial`
// per fixation and level.
FV_HD int64_t glimpse_tiles(int64_t size) {
  return ((size + kGlimpseTileX - 1) / kGlimpseTileX) * ((size + kGlimpseTileY - 1) / kGlimpseTileY);
}

// Each returns nullptr, or what went wrong.
const char* foveated_glimpse_cuda(const FoveatedGlimpseArgs& args, void* stream);
const char* foveated_glimpse_gaze_grad_cuda(const FoveatedGlimpseArgs& args, void* stream);

}  // namespace fv
