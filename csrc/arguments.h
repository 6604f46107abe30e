// From Python's addresses and numbers to the kernels' arguments, for the bindings of both devices.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <vector>

#include "foveated_glimpse.h"
#include "multiblock_mask.h"

namespace fv {

namespace py = pybind11;
using Address = uintptr_t;

template <class T>
T* at(Address address) {
  return reinterpret_cast<T*>(address);
}

inline MultiblockMaskArgs mask_args(Address ids, Address visible, Address masked, int64_t batch, int64_t seed,
                                    int64_t draw, const std::vector<int64_t>& plan) {
  if (plan.size() != kMaskPlanFields) throw py::value_error("a mask plan has the wrong number of fields");
  MultiblockMaskArgs args{at<const int64_t>(ids), at<int64_t>(visible), at<int64_t>(masked), batch, seed, draw, {}};
  std::copy(plan.begin(), plan.end(), reinterpret_cast<int64_t*>(&args.plan));
  const MaskPlan& p = args.plan;
  const bool fits = p.T > 0 && p.H > 0 && p.W > 0 && p.masked >= 0 && p.visible >= 0 &&
                    p.masked + p.visible <= p.T * p.H * p.W;
  if (!fits) throw py::value_error("the counts of a mask plan do not fit its grid");
  return args;
}

// What every function of a glimpse takes first. `strides` of batch, frame and row, in elements; `shape` is (B, T, H, W, G,
// levels, size).
inline FoveatedGlimpseArgs glimpse_args(Address frames, int frames_dtype, const std::array<int64_t, 3>& strides,
                                        Address center, Address scale, const std::array<int64_t, 7>& shape,
                                        float level_ratio, const std::array<float, 3>& gain,
                                        const std::array<float, 3>& pivot, bool zeros, bool antialias) {
  FoveatedGlimpseArgs args{};
  args.frames = at<const void>(frames), args.frames_dtype = frames_dtype;
  args.center = at<const float>(center), args.scale = at<const float>(scale);
  args.batch_stride = strides[0], args.frame_stride = strides[1], args.row_stride = strides[2];
  args.B = shape[0], args.T = shape[1], args.H = shape[2], args.W = shape[3];
  args.G = shape[4], args.levels = shape[5], args.size = shape[6];
  args.level_ratio = level_ratio, args.zeros = zeros, args.antialias = antialias;
  for (int c = 0; c < 3; ++c) args.gain[c] = gain[c], args.pivot[c] = pivot[c];
  return args;
}

#define FV_GLIMPSE_PARAMETERS                                                                                          \
  fv::Address frames, int frames_dtype, const std::array<int64_t, 3>&strides, fv::Address center, fv::Address scale,   \
      const std::array<int64_t, 7>&shape, float level_ratio, const std::array<float, 3>&gain,                          \
      const std::array<float, 3>&pivot, bool zeros, bool antialias
#define FV_GLIMPSE_ARGS \
  fv::glimpse_args(frames, frames_dtype, strides, center, scale, shape, level_ratio, gain, pivot, zeros, antialias)

}  // namespace fv
