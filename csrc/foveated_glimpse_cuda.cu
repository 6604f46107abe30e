// A thread walks over the pixels under the windows of a few samples: a crop's pixels are read about once, straight from
// the frame. A block computes the windows of its rows and columns once. Gradients to centre and scale are summed in a
// fixed order: over a thread's samples, within a warp, over a block's warps, over blocks.
//
// What bounds these kernels is arithmetic, not memory. So nothing is divided in 64 bits, and no byte or index is turned
// into a float by the conversion units, which are eight times slower than the adders.
#include <cuda_runtime.h>

#include <type_traits>

#include "dtype.h"
#include "foveated_glimpse.h"

namespace fv {
namespace {

constexpr int kWarps = kGlimpseTileX * kGlimpseThreadsY / 32;
constexpr int kSums = 3;  // to x, y and scale

struct BFloat16 {
  uint16_t bits;
};

struct Float16 {
  uint16_t bits;
};

__device__ float load(const uint8_t* p) { return float_from_bits(0x4b000000u | *p) - 0x1p23f; }  // exact, and quick
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

// The tile of one block.
struct Tile {
  uint32_t unit, number, fixation, level;
  int i, k;  // its first row and column
};

__device__ Tile this_tile(const FoveatedGlimpseArgs& a) {
  const uint32_t tiles = static_cast<uint32_t>(glimpse_tiles(a.size)), levels = static_cast<uint32_t>(a.levels);
  const uint32_t tiles_x = (static_cast<uint32_t>(a.size) + kGlimpseTileX - 1) / kGlimpseTileX;
  Tile t;
  t.unit = blockIdx.x / tiles, t.number = blockIdx.x % tiles;
  t.fixation = t.unit / levels, t.level = t.unit % levels;
  t.i = static_cast<int>(t.number / tiles_x * kGlimpseTileY);
  t.k = static_cast<int>(t.number % tiles_x * kGlimpseTileX);
  return t;
}

// The windows of a tile's rows and columns. Past the last sample they are the last one's.
struct Windows {
  GlimpseWindow rows[kGlimpseTileY], columns[kGlimpseTileX];
};

__device__ void find_windows(const FoveatedGlimpseArgs& a, const Tile& tile, Windows& windows) {
  const int thread = threadIdx.y * kGlimpseTileX + threadIdx.x, last = static_cast<int>(a.size) - 1;
  if (thread < kGlimpseTileY) {
    const int i = tile.i + thread;
    windows.rows[thread] = glimpse_window(glimpse_axis(a, tile.fixation, tile.level, 1), i < last ? i : last);
  } else if (thread < kGlimpseTileY + kGlimpseTileX) {
    const int k = tile.k + thread - kGlimpseTileY;
    windows.columns[thread - kGlimpseTileY] = glimpse_window(glimpse_axis(a, tile.fixation, tile.level, 0), k < last ? k : last);
  }
  __syncthreads();
}

template <class Pixel>
__device__ const Pixel* frame_of(const FoveatedGlimpseArgs& a, uint32_t fixation) {
  const uint32_t frame = fixation / static_cast<uint32_t>(a.G), T = static_cast<uint32_t>(a.T);
  return static_cast<const Pixel*>(a.frames) + frame / T * a.batch_stride + frame % T * a.frame_stride;
}

// Computes the samples of one thread: a column of the tile, kRows rows. It takes the pixels under their windows kColumns
// columns at a time, whose weights are then in registers for all rows.
template <int kColumns, class Pixel>
__device__ void sample_column(const FoveatedGlimpseArgs& a, const Tile& tile, const Windows& windows) {
  constexpr int kRows = kGlimpseTileY / kGlimpseThreadsY;
  const int k = tile.k + static_cast<int>(threadIdx.x), size = static_cast<int>(a.size);
  const GlimpseWindow columns = windows.columns[threadIdx.x];
  const Pixel* frame = frame_of<Pixel>(a, tile.fixation);
  float sum[kRows][3] = {};
  for (int first = columns.first; first <= columns.last; first += kColumns) {
    float weights[kColumns];
#pragma unroll
    for (int n = 0; n < kColumns; ++n) weights[n] = glimpse_weight(columns, first + n);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const GlimpseWindow& rows = windows.rows[threadIdx.y + r * kGlimpseThreadsY];
      const Pixel* row = frame + rows.first * a.row_stride + 3 * first;
      float at_y = static_cast<float>(rows.first);
      for (int y = rows.first, last = rows.last; y <= last; ++y, at_y += 1.0f, row += a.row_stride) {
        float here[3] = {};
#pragma unroll
        for (int n = 0; n < kColumns; ++n) {
          if (first + n > columns.last) continue;
          for (int c = 0; c < 3; ++c) here[c] += weights[n] * load(row + 3 * n + c);
        }
        const float weight = glimpse_weight(rows, y, at_y);
        for (int c = 0; c < 3; ++c) sum[r][c] += weight * here[c];
      }
    }
  }
  const float inside_x = glimpse_inside(columns);
  const int64_t area = a.size * a.size;
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
    const int i = tile.i + static_cast<int>(threadIdx.y) + r * kGlimpseThreadsY;
    if (i >= size || k >= size) continue;
    const float inside = glimpse_inside(windows.rows[i - tile.i]) * inside_x;
    const int64_t at = tile.unit * 3 * area + i * a.size + k;
    for (int c = 0; c < 3; ++c) {
      store(const_cast<void*>(a.out), a.out_dtype, at + c * area, a.gain[c] * (sum[r][c] - a.pivot[c] * inside));
    }
  }
}

template <class Pixel>
__global__ void __launch_bounds__(kWarps * 32) foveated_glimpse_kernel(FoveatedGlimpseArgs a) {
  __shared__ Windows windows;
  const Tile tile = this_tile(a);
  find_windows(a, tile, windows);
  const GlimpseWindow& columns = windows.columns[threadIdx.x];
  const int widest = __reduce_max_sync(0xffffffffu, columns.last - columns.first + 1);  // a warp holds all columns
  if (widest <= 2) {
    sample_column<2, Pixel>(a, tile, windows);
  } else if (widest <= 3) {
    sample_column<3, Pixel>(a, tile, windows);
  } else {
    sample_column<5, Pixel>(a, tile, windows);
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
  __shared__ Windows windows;
  const Tile tile = this_tile(a);
  find_windows(a, tile, windows);
  const int k = tile.k + static_cast<int>(threadIdx.x), size = static_cast<int>(a.size);
  const GlimpseWindow columns = windows.columns[threadIdx.x];
  const Pixel* frame = frame_of<Pixel>(a, tile.fixation);
  const float half = glimpse_axis(a, tile.fixation, tile.level, 0).half;
  const bool widens = half > 0.5f;
  const int64_t area = a.size * a.size;
  const float over_size = 1.0f / static_cast<float>(a.size);
  float sums[kSums] = {};
  for (int r = threadIdx.y; k < size && r < kGlimpseTileY && tile.i + r < size; r += kGlimpseThreadsY) {
    const GlimpseWindow rows = windows.rows[r];
    const int64_t at = tile.unit * 3 * area + (tile.i + r) * a.size + k;
    float grad[3], outside = 0.0f;
    for (int c = 0; c < 3; ++c) {
      grad[c] = a.gain[c] * load(a.out, a.out_dtype, at + c * area);
      if (a.zeros) outside += grad[c] * a.pivot[c];  // with a repeated border a shift makes no difference
    }
    float along_x = 0.0f, along_y = 0.0f, wider = 0.0f;
    float at_y = static_cast<float>(rows.first);
    for (int y = rows.first; y <= rows.last; ++y, at_y += 1.0f) {
      const Pixel* row = frame + y * a.row_stride;
      const float weight = glimpse_weight(rows, y, at_y);
      const float right = columns.right_cell < 0 ? 0.0f : seen(row, columns.right_cell, grad, outside);
      const float left = columns.left_cell < 0 ? 0.0f : seen(row, columns.left_cell, grad, outside);
      along_x += weight * (right - left);
      wider += weight * 0.5f * (right + left);
      if (!widens) continue;
      float at_x = static_cast<float>(columns.first);
      for (int x = columns.first; x <= columns.last; ++x, at_x += 1.0f) {
        wider -= 2.0f * weight * glimpse_weight(columns, x, at_x) * seen(row, x, grad, outside);
      }
    }
    const Pixel* bottom_row = frame + (rows.right_cell < 0 ? 0 : rows.right_cell) * a.row_stride;
    const Pixel* top_row = frame + (rows.left_cell < 0 ? 0 : rows.left_cell) * a.row_stride;
    float at_x = static_cast<float>(columns.first);
    for (int x = columns.first; x <= columns.last; ++x, at_x += 1.0f) {
      const float weight = glimpse_weight(columns, x, at_x);
      const float bottom = rows.right_cell < 0 ? 0.0f : seen(bottom_row, x, grad, outside);
      const float top = rows.left_cell < 0 ? 0.0f : seen(top_row, x, grad, outside);
      along_y += weight * (bottom - top);
      wider += weight * 0.5f * (bottom + top);
    }
    sums[0] += along_x;
    sums[1] += along_y;
    sums[2] += along_x * glimpse_offset(k, a.size) + along_y * glimpse_offset(tile.i + r, a.size) +
               (widens ? wider * over_size : 0.0f);
  }
  const float inverse = 0.5f / half;
  sums[0] *= inverse * (0.5f * static_cast<float>(a.W));
  sums[1] *= inverse * (0.5f * static_cast<float>(a.H));
  sums[2] *= inverse * glimpse_side(a, tile.level);
  block_sum(sums);
  if (threadIdx.x == 0 && threadIdx.y == 0) {
    float* partial = a.partial + (static_cast<int64_t>(tile.unit) * glimpse_tiles(a.size) + tile.number) * kSums;
    for (int n = 0; n < kSums; ++n) partial[n] = sums[n];
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
  const dim3 block(kGlimpseTileX, kGlimpseThreadsY);
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
