// A thread per sample walks over the pixels under its window: a crop's pixels are read about once, straight from the
// frame. Gradients to centre and scale are summed in a fixed order: within a warp, over a block's warps, over blocks.
#include <cuda_runtime.h>

#include <type_traits>

#include "dtype.h"
#include "foveated_glimpse.h"

namespace fv {
namespace {

constexpr int kWarps = kGlimpseTileX * kGlimpseTileY / 32;
constexpr int kSums = 3;  // to x, y and scale

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

__device__ float load(const uint8_t* p) { return static_cast<float>(*p); }
__device__ float load(const float* p) { return *p; }
__device__ float load(const BFloat16* p) { return bf16_to_float(p->bits); }
__device__ float load(const Float16* p) { return fp16_to_float(p->bits); }

__device__ float load(const void* base, int dtype, int64_t i) {
  if (dtype == kFloat32) return static_cast<const float*>(base)[i];
  const uint16_t bits = static_cast<const uint16_t*>(base)[i];
  return dtype == kBFloat16 ? bf16_to_float(bits) : fp16_to_float(bits);
}

__device__ void store(void* base, int dtype, int64_t i, float value) {
  if (dtype == kFloat32) {
    static_cast<float*>(base)[i] = value;
  } else {
    static_cast<uint16_t*>(base)[i] = dtype == kBFloat16 ? float_to_bf16(value) : float_to_fp16(value);
  }
}

// The sample of one thread.
struct Sample {
  int64_t unit, fixation, level, tile;
  int i, k;
  bool exists;
};

__device__ Sample this_sample(const FoveatedGlimpseArgs& a) {
  const int64_t tiles = glimpse_tiles(a.size), tiles_x = (a.size + kGlimpseTileX - 1) / kGlimpseTileX;
  Sample s;
  s.unit = blockIdx.x / tiles, s.tile = blockIdx.x % tiles;
  s.fixation = s.unit / a.levels, s.level = s.unit % a.levels;
  s.i = static_cast<int>(s.tile / tiles_x * kGlimpseTileY + threadIdx.y);
  s.k = static_cast<int>(s.tile % tiles_x * kGlimpseTileX + threadIdx.x);
  s.exists = s.i < a.size && s.k < a.size;
  return s;
}

template <class Pixel>
__device__ const Pixel* frame_of(const FoveatedGlimpseArgs& a, int64_t fixation) {
  const int64_t frame = fixation / a.G;
  return static_cast<const Pixel*>(a.frames) + frame / a.T * a.batch_stride + frame % a.T * a.frame_stride;
}

template <class Pixel>
__global__ void __launch_bounds__(kWarps * 32) foveated_glimpse_kernel(FoveatedGlimpseArgs a) {
  const Sample s = this_sample(a);
  if (!s.exists) return;
  const GlimpseWindow rows = glimpse_window(glimpse_axis(a, s.fixation, s.level, 1), s.i);
  const GlimpseWindow columns = glimpse_window(glimpse_axis(a, s.fixation, s.level, 0), s.k);
  const Pixel* frame = frame_of<Pixel>(a, s.fixation);
  float sum[3] = {};
  for (int y = rows.first; y <= rows.last; ++y) {
    const Pixel* row = frame + y * a.row_stride;
    const float weight = glimpse_weight(rows, y);
    for (int x = columns.first; x <= columns.last; ++x) {
      const float share = weight * glimpse_weight(columns, x);
      for (int c = 0; c < 3; ++c) sum[c] += share * load(row + 3 * x + c);
    }
  }
  const float inside = glimpse_inside(rows) * glimpse_inside(columns);
  for (int c = 0; c < 3; ++c) {
    const int64_t at = ((s.unit * 3 + c) * a.size + s.i) * a.size + s.k;
    store(const_cast<void*>(a.out), a.out_dtype, at, a.gain[c] * (sum[c] - a.pivot[c] * inside));
  }
}

// The gradient's product with one pixel, counted from what lies outside the frame.
template <class Pixel>
__device__ float seen(const Pixel* row, int x, const float* grad, float outside) {
  const Pixel* p = row + 3 * x;
  return grad[0] * load(p) + grad[1] * load(p + 1) + grad[2] * load(p + 2) - outside;
}

// Adds kSums values of each thread over the block; the first thread gets the result.
__device__ void block_sum(float* value) {
  __shared__ float warp_sum[kSums][kWarps];
  const int thread = threadIdx.y * kGlimpseTileX + threadIdx.x, lane = thread % 32;
  for (int n = 0; n < kSums; ++n) {
    for (int step = 16; step > 0; step /= 2) value[n] += __shfl_down_sync(0xffffffffu, value[n], step);
    if (lane == 0) warp_sum[n][thread / 32] = value[n];
  }
  __syncthreads();
  if (thread != 0) return;
  for (int n = 0; n < kSums; ++n) {
    value[n] = 0.0f;
    for (int warp = 0; warp < kWarps; ++warp) value[n] += warp_sum[n][warp];
  }
}

// Moving a window moves its edges: d(mean)/du = (right - left) / width of the pixels at them, and widening it gives
// d(mean)/d(width) = ((right + left) / 2 - mean) / width.
template <class Pixel>
__global__ void __launch_bounds__(kWarps * 32) foveated_glimpse_gaze_kernel(FoveatedGlimpseArgs a) {
  const Sample s = this_sample(a);
  float sums[kSums] = {};
  if (s.exists) {
    const GlimpseAxis axis = glimpse_axis(a, s.fixation, s.level, 0);
    const GlimpseWindow rows = glimpse_window(glimpse_axis(a, s.fixation, s.level, 1), s.i);
    const GlimpseWindow columns = glimpse_window(axis, s.k);
    const Pixel* frame = frame_of<Pixel>(a, s.fixation);
    float grad[3], outside = 0.0f;
    for (int c = 0; c < 3; ++c) {
      grad[c] = a.gain[c] * load(a.out, a.out_dtype, ((s.unit * 3 + c) * a.size + s.i) * a.size + s.k);
      if (a.zeros) outside += grad[c] * a.pivot[c];  // with a repeated border a shift makes no difference
    }
    const bool widens = axis.half > 0.5f;
    float along_x = 0.0f, along_y = 0.0f, wider = 0.0f;
    for (int y = rows.first; y <= rows.last; ++y) {
      const Pixel* row = frame + y * a.row_stride;
      const float weight = glimpse_weight(rows, y);
      const float right = columns.right_cell < 0 ? 0.0f : seen(row, columns.right_cell, grad, outside);
      const float left = columns.left_cell < 0 ? 0.0f : seen(row, columns.left_cell, grad, outside);
      along_x += weight * (right - left);
      wider += weight * 0.5f * (right + left);
      if (!widens) continue;
      for (int x = columns.first; x <= columns.last; ++x) {
        wider -= 2.0f * weight * glimpse_weight(columns, x) * seen(row, x, grad, outside);
      }
    }
    for (int x = columns.first; x <= columns.last; ++x) {
      const float weight = glimpse_weight(columns, x);
      const float bottom =
          rows.right_cell < 0 ? 0.0f : seen(frame + rows.right_cell * a.row_stride, x, grad, outside);
      const float top = rows.left_cell < 0 ? 0.0f : seen(frame + rows.left_cell * a.row_stride, x, grad, outside);
      along_y += weight * (bottom - top);
      wider += weight * 0.5f * (bottom + top);
    }
    const float inverse = 0.5f / axis.half;
    const float to_side = along_x * glimpse_offset(s.k, a.size) + along_y * glimpse_offset(s.i, a.size) +
                          (widens ? wider / static_cast<float>(a.size) : 0.0f);
    sums[0] = along_x * inverse * (0.5f * static_cast<float>(a.W));
    sums[1] = along_y * inverse * (0.5f * static_cast<float>(a.H));
    sums[2] = to_side * inverse * glimpse_side(a, s.level);
  }
  block_sum(sums);
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    for (int n = 0; n < kSums; ++n) a.partial[(s.unit * glimpse_tiles(a.size) + s.tile) * kSums + n] = sums[n];
  }
}

// One warp per fixation adds up its blocks' sums.
__global__ void __launch_bounds__(32) foveated_glimpse_sum_kernel(FoveatedGlimpseArgs a) {
  const int64_t fixation = blockIdx.x, count = a.levels * glimpse_tiles(a.size);
  const float* partial = a.partial + fixation * count * kSums;
  float sums[kSums] = {};
  for (int64_t i = threadIdx.x; i < count; i += 32) {
    for (int n = 0; n < kSums; ++n) sums[n] += partial[i * kSums + n];
  }
  for (int n = 0; n < kSums; ++n) {
    for (int step = 16; step > 0; step /= 2) sums[n] += __shfl_down_sync(0xffffffffu, sums[n], step);
  }
  if (threadIdx.x != 0) return;
  a.to_center[2 * fixation] = sums[0];
  a.to_center[2 * fixation + 1] = sums[1];
  a.to_scale[fixation] = sums[2];
}

const char* launched() {
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

// Runs `launch` with a null pointer of the frames' type.
template <class Launch>
const char* by_frames_dtype(const FoveatedGlimpseArgs& args, Launch launch) {
  const int64_t blocks = args.B * args.T * args.G * args.levels * glimpse_tiles(args.size);
  if (blocks > 0x7fffffff) return "too many glimpses for one launch";
  const unsigned grid = static_cast<unsigned>(blocks);
  const dim3 block(kGlimpseTileX, kGlimpseTileY);
  switch (args.frames_dtype) {
    case kUInt8: launch(static_cast<uint8_t*>(nullptr), grid, block); break;
    case kFloat32: launch(static_cast<float*>(nullptr), grid, block); break;
    case kBFloat16: launch(static_cast<BFloat16*>(nullptr), grid, block); break;
    default: launch(static_cast<Float16*>(nullptr), grid, block);
  }
  return launched();
}

}  // namespace

const char* foveated_glimpse_cuda(const FoveatedGlimpseArgs& args, void* stream) {
  return by_frames_dtype(args, [&](auto* pixel, unsigned grid, dim3 block) {
    using Pixel = std::remove_pointer_t<decltype(pixel)>;
    foveated_glimpse_kernel<Pixel><<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args);
  });
}

const char* foveated_glimpse_gaze_grad_cuda(const FoveatedGlimpseArgs& args, void* stream) {
  const char* error = by_frames_dtype(args, [&](auto* pixel, unsigned grid, dim3 block) {
    using Pixel = std::remove_pointer_t<decltype(pixel)>;
    foveated_glimpse_gaze_kernel<Pixel><<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args);
  });
  if (error) return error;
  foveated_glimpse_sum_kernel<<<static_cast<unsigned>(args.B * args.T * args.G), 32, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return launched();
}

}  // namespace fv
