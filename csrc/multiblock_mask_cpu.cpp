// One sample's mask at a time, samples spread over threads.
#include "multiblock_mask.h"

#include <algorithm>
#include <vector>

namespace fv {
namespace {

enum State : uint8_t { kFree, kBlocked, kMasked, kVisible };

// Scratch of one thread, reused over its samples. A cell is a token, or for tubes a site of the H x W grid.
struct Scratch {
  std::vector<uint8_t> state;
  std::vector<uint64_t> ranked;  // key << 32 | cell
};

// Moves `count` cells from state `from` to state `to`: the first ones, or those of lowest random key.
void take(Scratch& s, const SampleRng& rng, uint8_t from, uint8_t to, int64_t count, bool first) {
  const int64_t available = std::count(s.state.begin(), s.state.end(), from);
  if (first || count == available) {
    for (uint8_t& cell : s.state) {
      if (count > 0 && cell == from) cell = to, --count;
    }
    return;
  }
  s.ranked.clear();
  for (size_t i = 0; i < s.state.size(); ++i) {
    if (s.state[i] != from) continue;
    const uint64_t key = token_key(rng, static_cast<uint32_t>(i));
    s.ranked.push_back((key << 32) | i);
  }
  std::nth_element(s.ranked.begin(), s.ranked.begin() + count, s.ranked.end());
  for (int64_t k = 0; k < count; ++k) s.state[s.ranked[k] & 0xffffffffu] = to;
}

// Marks blocks until the plan's stopping rule holds; returns how many tokens they cover.
int64_t draw_blocks(const MaskPlan& plan, const SampleRng& rng, std::vector<uint8_t>& state) {
  const int64_t room = plan.meet == kTrim       ? plan.masked
                       : plan.meet == kTruncate ? plan.T * plan.H * plan.W - plan.visible
                                                : plan.T * plan.H * plan.W;
  const uint32_t wanted = plan.meet == kTrim ? 0 : block_count(plan, rng);
  int64_t covered = 0;
  for (uint32_t b = 0; b < kMaxBlocks; ++b) {
    const bool enough = plan.meet == kTokens || covered >= plan.masked;
    if ((b >= wanted && enough) || covered >= room) break;
    const Block box = draw_block(plan, rng, b);
    int64_t fresh = 0;
    for (int t = box.t0; t < box.t0 + box.t; ++t) {
      for (int h = box.h0; h < box.h0 + box.h; ++h) {
        const uint8_t* row = &state[(static_cast<int64_t>(t) * plan.H + h) * plan.W + box.w0];
        for (int w = 0; w < box.w; ++w) fresh += row[w] == kFree;
      }
    }
    const int64_t keep = std::min(fresh, room - covered);
    int64_t left = keep;
    if (keep == fresh) {
      for (int t = box.t0; t < box.t0 + box.t; ++t) {
        for (int h = box.h0; h < box.h0 + box.h; ++h) {
          uint8_t* row = &state[(static_cast<int64_t>(t) * plan.H + h) * plan.W + box.w0];
          for (int w = 0; w < box.w; ++w) row[w] = kBlocked;
        }
      }
    } else {
      for (int64_t rank = 0; left > 0; ++rank) {
        uint8_t& cell = state[trim_token(plan, box, rank)];
        if (cell == kFree) cell = kBlocked, --left;
      }
    }
    covered += keep;
  }
  return covered;
}

void mask_cells(const MaskPlan& plan, const SampleRng& rng, Scratch& s, int64_t masked, int64_t visible) {
  if (plan.kind == kBlocks) {
    const int64_t covered = draw_blocks(plan, rng, s.state);
    if (covered < masked) take(s, rng, kFree, kBlocked, masked - covered, false);
    take(s, rng, kBlocked, kMasked, masked, plan.tail);
    // A surplus of covered tokens stays out of both sets, except where i.i.d. tokens meet the target.
    if (plan.meet == kTokens) std::replace(s.state.begin(), s.state.end(), uint8_t{kBlocked}, uint8_t{kFree});
  } else {
    take(s, rng, kFree, kMasked, masked, false);
  }
  take(s, rng, kFree, kVisible, visible, plan.tail);
}

}  // namespace

void multiblock_mask_cpu(const MultiblockMaskArgs& args, int threads) {
  const MaskPlan& plan = args.plan;
  const int64_t sites = plan.H * plan.W;
  const int64_t repeats = plan.kind == kTube ? plan.T : 1;  // a tube's site is masked at every time
  const int64_t cells = sites * plan.T / repeats;
#pragma omp parallel num_threads(threads)
  {
    Scratch scratch;
#pragma omp for
    for (int64_t b = 0; b < args.batch; ++b) {
      scratch.state.assign(cells, kFree);
      const SampleRng rng = sample_rng(args.seed, args.draw, args.sample_ids[b]);
      mask_cells(plan, rng, scratch, plan.masked / repeats, plan.visible / repeats);
      int64_t* masked = args.masked + b * plan.masked;
      int64_t* visible = args.visible + b * plan.visible;
      for (int64_t t = 0; t < repeats; ++t) {
        for (int64_t i = 0; i < cells; ++i) {
          if (scratch.state[i] == kMasked) *masked++ = t * sites + i;
          if (scratch.state[i] == kVisible) *visible++ = t * sites + i;
        }
      }
    }
  }
}

}  // namespace fv
