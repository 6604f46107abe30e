// One thread block per sample: the sample's tokens are marked in shared memory, then compacted in the block, so the
// indices leave the chip once and the host is never asked anything.
#include <cuda_runtime.h>

#include "multiblock_mask.h"

namespace fv {
namespace {

constexpr int kThreads = 256;
constexpr int kDigits = 256;  // radix of the selection by random key
static_assert(kDigits % kThreads == 0, "the block looks at whole rows of digits");

enum State : uint8_t { kFree, kBlocked, kMasked, kVisible };

struct Shared {
  uint32_t warp_sum[kThreads / 32];
  uint32_t histogram[kDigits];
  uint32_t digit, rank;
};

// Inclusive sum over the block of one value per thread; `total` receives the block's sum.
__device__ uint32_t block_scan(uint32_t value, Shared& sh, uint32_t* total) {
  const uint32_t lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  for (uint32_t step = 1; step < 32; step *= 2) {
    const uint32_t below = __shfl_up_sync(0xffffffffu, value, step);
    if (lane >= step) value += below;
  }
  __syncthreads();
  if (lane == 31) sh.warp_sum[warp] = value;
  __syncthreads();
  uint32_t before = 0, all = 0;
  for (uint32_t w = 0; w < kThreads / 32; ++w) {
    before += w < warp ? sh.warp_sum[w] : 0;
    all += sh.warp_sum[w];
  }
  *total = all;
  return before + value;
}

__device__ uint32_t block_sum(uint32_t value, Shared& sh) {
  uint32_t total;
  block_scan(value, sh, &total);
  return total;
}

// Turns the first `count` cells for which `cell_at(rank)` is in state `from` into state `to`, in order of rank.
template <class CellAt>
__device__ void take_first(uint8_t* state, Shared& sh, int64_t ranks, int64_t count, uint8_t from, uint8_t to,
                           CellAt cell_at) {
  uint32_t taken = 0;
  for (int64_t base = 0; base < ranks && taken < count; base += kThreads) {
    const int64_t rank = base + threadIdx.x;
    const int64_t cell = rank < ranks ? cell_at(rank) : 0;
    const uint32_t is_from = rank < ranks && state[cell] == from;
    uint32_t in_chunk;
    const uint32_t position = taken + block_scan(is_from, sh, &in_chunk);
    if (is_from && position <= count) state[cell] = to;
    taken += in_chunk;
  }
  __syncthreads();
}

// Turns the `count` cells in state `from` of lowest (key, cell) into state `to`: the 32-bit keys are narrowed a byte at
// a time to the count-th smallest, then ties at that key are taken in order of position.
__device__ void take_lowest(uint8_t* state, const SampleRng& rng, Shared& sh, int64_t cells, int64_t count, uint8_t from,
                            uint8_t to) {
  if (count == 0) return;
  uint32_t prefix = 0, rank = static_cast<uint32_t>(count);  // the rank-th smallest among keys that share the prefix
  for (int shift = 24; shift >= 0; shift -= 8) {
    for (int i = threadIdx.x; i < kDigits; i += kThreads) sh.histogram[i] = 0;
    __syncthreads();
    for (int64_t i = threadIdx.x; i < cells; i += kThreads) {
      if (state[i] != from) continue;
      const uint32_t key = token_key(rng, static_cast<uint32_t>(i));
      if (shift == 24 || key >> (shift + 8) == prefix) atomicAdd(&sh.histogram[(key >> shift) & 255u], 1u);
    }
    __syncthreads();
    // The thread in whose digit the rank lies says so.
    uint32_t before = 0;
    for (int base = 0; base < kDigits; base += kThreads) {
      const uint32_t here = sh.histogram[base + threadIdx.x];
      uint32_t all;
      const uint32_t through = before + block_scan(here, sh, &all);
      if (through >= rank && through - here < rank) {
        sh.digit = base + threadIdx.x;
        sh.rank = rank - (through - here);
      }
      before += all;
    }
    __syncthreads();
    prefix = (prefix << 8) | sh.digit;
    rank = sh.rank;
    __syncthreads();
  }
  uint32_t ties = 0;  // cells at exactly the threshold key seen so far
  for (int64_t base = 0; base < cells; base += kThreads) {
    const int64_t i = base + threadIdx.x;
    const bool candidate = i < cells && state[i] == from;
    const uint32_t key = candidate ? token_key(rng, static_cast<uint32_t>(i)) : 0;
    const bool tie = candidate && key == prefix;
    uint32_t in_chunk;
    const uint32_t position = ties + block_scan(tie, sh, &in_chunk);
    if ((candidate && key < prefix) || (tie && position <= rank)) state[i] = to;
    ties += in_chunk;
  }
  __syncthreads();
}

__device__ void take(uint8_t* state, const SampleRng& rng, Shared& sh, int64_t cells, int64_t count, uint8_t from,
                     uint8_t to, bool first) {
  uint32_t here = 0;
  for (int64_t i = threadIdx.x; i < cells; i += kThreads) here += state[i] == from;
  const bool all = block_sum(here, sh) == count;
  if (first || all) {
    take_first(state, sh, cells, count, from, to, [](int64_t rank) { return rank; });
  } else {
    take_lowest(state, rng, sh, cells, count, from, to);
  }
}

__device__ int64_t draw_blocks(const MaskPlan& plan, const SampleRng& rng, uint8_t* state, Shared& sh) {
  const int64_t cells = plan.T * plan.H * plan.W;
  const int64_t room = plan.fill == kTrim ? plan.masked : plan.fill == kTruncate ? cells - plan.visible : cells;
  const uint32_t wanted = plan.fill == kTrim ? 0 : block_count(plan, rng);
  int64_t covered = 0;
  for (uint32_t b = 0; b < kMaxBlocks; ++b) {
    const bool enough = plan.fill == kTokens || covered >= plan.masked;
    if ((b >= wanted && enough) || covered >= room) break;
    const Block box = draw_block(plan, rng, b);
    const int64_t volume = static_cast<int64_t>(box.t) * box.h * box.w;
    const auto cell_at = [&](int64_t rank) { return trim_token(plan, box, rank); };
    uint32_t fresh = 0;
    for (int64_t rank = threadIdx.x; rank < volume; rank += kThreads) fresh += state[cell_at(rank)] == kFree;
    const int64_t total = block_sum(fresh, sh);
    const int64_t keep = total < room - covered ? total : room - covered;
    if (keep == total) {
      for (int64_t rank = threadIdx.x; rank < volume; rank += kThreads) state[cell_at(rank)] = kBlocked;
      __syncthreads();
    } else {
      take_first(state, sh, volume, keep, kFree, kBlocked, cell_at);
    }
    covered += keep;
  }
  return covered;
}

// Writes the cells in state `wanted` in ascending order, once for each of `repeats` time slots of `cells` cells.
__device__ void compact(const uint8_t* state, Shared& sh, int64_t cells, int64_t repeats, uint8_t wanted, int64_t count,
                        int64_t* out) {
  uint32_t written = 0;
  for (int64_t base = 0; base < cells; base += kThreads) {
    const int64_t i = base + threadIdx.x;
    const uint32_t hit = i < cells && state[i] == wanted;
    uint32_t in_chunk;
    const uint32_t position = written + block_scan(hit, sh, &in_chunk);
    if (hit) {
      for (int64_t t = 0; t < repeats; ++t) out[t * count + position - 1] = t * cells + i;
    }
    written += in_chunk;
  }
}

__global__ void __launch_bounds__(kThreads) multiblock_mask_kernel(MultiblockMaskArgs args) {
  extern __shared__ uint8_t state[];  // [cells]
  __shared__ Shared sh;
  const MaskPlan& plan = args.plan;
  const int64_t repeats = plan.kind == kTube ? plan.T : 1;
  const int64_t cells = plan.T * plan.H * plan.W / repeats;
  const int64_t masked = plan.masked / repeats, visible = plan.visible / repeats;
  const SampleRng rng = sample_rng(args.seed, args.draw, args.sample_ids[blockIdx.x]);
  for (int64_t i = threadIdx.x; i < cells; i += kThreads) state[i] = kFree;
  __syncthreads();
  if (plan.kind == kBlocks) {
    const int64_t covered = draw_blocks(plan, rng, state, sh);
    if (covered < masked) take(state, rng, sh, cells, masked - covered, kFree, kBlocked, false);
    take(state, rng, sh, cells, masked, kBlocked, kMasked, plan.tail);
    if (plan.fill == kTokens) {
      for (int64_t i = threadIdx.x; i < cells; i += kThreads) state[i] = state[i] == kBlocked ? kFree : state[i];
      __syncthreads();
    }
  } else {
    take(state, rng, sh, cells, masked, kFree, kMasked, false);
  }
  take(state, rng, sh, cells, visible, kFree, kVisible, plan.tail);
  compact(state, sh, cells, repeats, kMasked, masked, args.masked + blockIdx.x * plan.masked);
  compact(state, sh, cells, repeats, kVisible, visible, args.visible + blockIdx.x * plan.visible);
}

}  // namespace

const char* multiblock_mask_cuda(const MultiblockMaskArgs& args, void* stream) {
  const MaskPlan& plan = args.plan;
  const int64_t cells = plan.kind == kTube ? plan.H * plan.W : plan.T * plan.H * plan.W;
  const size_t shared = static_cast<size_t>(cells);
  if (shared + sizeof(Shared) > (48u << 10)) {  // more than a block gets without asking
    const cudaError_t set =
        cudaFuncSetAttribute(multiblock_mask_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared));
    if (set != cudaSuccess) {
      (void)cudaGetLastError();  // or the next good launch would be blamed for it
      return set == cudaErrorInvalidValue ? "the token grid does not fit in one thread block's shared memory"
                                          : cudaGetErrorString(set);
    }
  }
  multiblock_mask_kernel<<<static_cast<unsigned>(args.batch), kThreads, shared, static_cast<cudaStream_t>(stream)>>>(args);
  const cudaError_t launched = cudaGetLastError();
  return launched == cudaSuccess ? nullptr : cudaGetErrorString(launched);
}

}  // namespace fv
