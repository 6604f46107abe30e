// Geometry of one sample's mask, shared by the CPU and CUDA samplers. Integers only: shares are Q24 and aspect ratios
// Q16 fixed-point numbers, so no backend's libm can disagree. fastvid/ops/multiblock_mask/reference.py is the
// definition; this file says the same thing.
#pragma once

#include "philox.h"

namespace fv {

enum MaskKind : int64_t { kBlocks = 0, kTube = 1, kRandom = 2 };
enum MaskFill : int64_t { kTrim = 0, kTruncate = 1, kTokens = 2 };

// Field order is that of MaskSpec.plan() in fastvid/ops/multiblock_mask/spec.py.
struct MaskPlan {
  int64_t T, H, W;            // token grid
  int64_t masked, visible;    // tokens wanted in each set
  int64_t kind, fill, tail;   // MaskKind; MaskFill; tail = 1 keeps the first tokens instead of random ones
  int64_t count_lo, count_hi; // blocks drawn before the target is looked at, inclusive
  int64_t same_size;          // 1: all blocks of a sample share block 0's size
  int64_t t_lo, t_hi;         // temporal extent, Q24 share of T
  int64_t by_area;            // 1: area and aspect; 0: height and width
  int64_t area_lo, area_hi;   // Q24 share of H * W
  int64_t aspect_lo, aspect_hi;  // height / width, Q16
  int64_t h_lo, h_hi, w_lo, w_hi;  // Q24 shares of H and W
};

constexpr int kMaskPlanFields = 22;
static_assert(sizeof(MaskPlan) == kMaskPlanFields * sizeof(int64_t), "MaskPlan must be a flat array of int64");

// A sampler gives up on covering the grid with blocks after this many and fills with random tokens; it is reached
// only when almost every token is to be masked.
constexpr uint32_t kMaxBlocks = 512;

enum MaskStream : uint32_t { kStreamCount = 0, kStreamSize = 1, kStreamPlace = 2, kStreamToken = 3 };

struct Block {
  int t0, h0, w0;   // first token
  int t, h, w;      // extent
  uint32_t order;   // bits of trim_rank
};

// One Q24 (or Q16) number in [lo, hi).
FV_HD int64_t draw_share(uint32_t word, int64_t lo, int64_t hi) {
  return lo + static_cast<int64_t>((static_cast<uint64_t>(word) * static_cast<uint64_t>(hi - lo)) >> 32);
}

// max(1, floor(extent * share)), the share in Q24.
FV_HD int64_t share_of(int64_t extent, int64_t share) {
  const int64_t n = (extent * share) >> 24;
  return n < 1 ? 1 : n;
}

// round(sqrt(num / den)) clamped to [1, limit]: the largest k with (2k - 1)^2 * den <= 4 * num.
FV_HD int64_t round_sqrt_ratio(int64_t num, int64_t den, int64_t limit) {
  int64_t k = 1;
  while (k < limit && (2 * k + 1) * (2 * k + 1) * den <= 4 * num) ++k;
  return k;
}

FV_HD uint32_t block_count(const MaskPlan& plan, const SampleRng& rng) {
  const uint32_t span = static_cast<uint32_t>(plan.count_hi - plan.count_lo + 1);
  return static_cast<uint32_t>(plan.count_lo) + bounded(rng(kStreamCount, 0).word[0], span);
}

FV_HD Block draw_block(const MaskPlan& plan, const SampleRng& rng, uint32_t b) {
  const Philox4 size = rng(kStreamSize, plan.same_size ? 0 : b);
  const Philox4 place = rng(kStreamPlace, b);
  Block box;
  box.t = static_cast<int>(share_of(plan.T, draw_share(size.word[0], plan.t_lo, plan.t_hi)));
  if (plan.by_area) {
    const int64_t area = share_of(plan.H * plan.W, draw_share(size.word[1], plan.area_lo, plan.area_hi));
    const int64_t aspect = draw_share(size.word[2], plan.aspect_lo, plan.aspect_hi);
    box.h = static_cast<int>(round_sqrt_ratio(area * aspect, 65536, plan.H));
    box.w = static_cast<int>(round_sqrt_ratio(area * 65536, aspect, plan.W));
  } else {
    box.h = static_cast<int>(share_of(plan.H, draw_share(size.word[1], plan.h_lo, plan.h_hi)));
    box.w = static_cast<int>(share_of(plan.W, draw_share(size.word[2], plan.w_lo, plan.w_hi)));
  }
  box.t0 = static_cast<int>(bounded(place.word[0], static_cast<uint32_t>(plan.T - box.t + 1)));
  box.h0 = static_cast<int>(bounded(place.word[1], static_cast<uint32_t>(plan.H - box.h + 1)));
  box.w0 = static_cast<int>(bounded(place.word[2], static_cast<uint32_t>(plan.W - box.w + 1)));
  box.order = place.word[3];
  return box;
}

// The token at a rank in the order in which a block is trimmed: rows (or columns) of whole tubes from a random side,
// so that what is left is a smaller block and no time slot or side is preferred. Returns t * H * W + h * W + w.
FV_HD int64_t trim_token(const MaskPlan& plan, const Block& box, int64_t rank) {
  const bool rows_first = box.order & 1u;
  // In 32 bits, whose division a GPU has done several times faster: a block has fewer tokens than memory has bytes.
  const uint32_t mid_extent = static_cast<uint32_t>(rows_first ? box.w : box.h);
  const uint32_t site = static_cast<uint32_t>(rank) / static_cast<uint32_t>(box.t);
  int t = static_cast<int>(static_cast<uint32_t>(rank) - site * static_cast<uint32_t>(box.t));
  const int slow = static_cast<int>(site / mid_extent), mid = static_cast<int>(site % mid_extent);
  int h = rows_first ? slow : mid;
  int w = rows_first ? mid : slow;
  if (box.order & 2u) h = box.h - 1 - h;
  if (box.order & 4u) w = box.w - 1 - w;
  if (box.order & 8u) t = box.t - 1 - t;
  return (static_cast<int64_t>(box.t0 + t) * plan.H + box.h0 + h) * plan.W + box.w0 + w;
}

// The random key by which tokens (or tube sites) are ranked; ties are broken by position.
FV_HD uint32_t token_key(const SampleRng& rng, uint32_t token) {
  const Philox4 four = rng(kStreamToken, token >> 2);
  const uint32_t even = token & 2u ? four.word[2] : four.word[0], odd = token & 2u ? four.word[3] : four.word[1];
  return token & 1u ? odd : even;  // an index known only at run time would put the four words in memory on a GPU
}

FV_HD SampleRng sample_rng(int64_t seed, int64_t draw, int64_t sample_id) {
  SampleRng rng;
  rng.seed_lo = static_cast<uint32_t>(seed);
  rng.seed_hi = static_cast<uint32_t>(static_cast<uint64_t>(seed) >> 32);
  rng.draw = static_cast<uint32_t>(draw);
  rng.id_lo = static_cast<uint32_t>(sample_id);
  rng.id_hi = static_cast<uint32_t>(static_cast<uint64_t>(sample_id) >> 32);
  return rng;
}

struct MultiblockMaskArgs {
  const int64_t* sample_ids;  // [B]
  int64_t* visible;           // [B, plan.visible]
  int64_t* masked;            // [B, plan.masked]
  int64_t batch, seed, draw;
  MaskPlan plan;
};

void multiblock_mask_cpu(const MultiblockMaskArgs& args, int threads);

// Returns nullptr, or a sentence saying what CUDA refused.
const char* multiblock_mask_cuda(const MultiblockMaskArgs& args, void* stream);

}  // namespace fv
