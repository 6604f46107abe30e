// One sample's mask at a time, samples spread over threads.
#include "cpu_isa.h"
#include "multiblock_mask.h"

#include <algorithm>
#include <vector>

namespace fv {
namespace {

enum State : uint8_t { kFree, kBlocked, kMasked, kVisible };

// Scratch of one thread, reused over its samples. A cell is a token, or for tubes a site of the H x W grid. The loops
// over cells hold no branch that depends on the mask: it would be mispredicted every other time, and cost more than the
// arithmetic.
struct Scratch {
  std::vector<uint8_t> state;
  std::vector<uint32_t> keys;            // of the cells, of this sample if `drawn`
  bool drawn;
  std::vector<uint64_t> tied;            // key << 32 | cell
  std::vector<int64_t> masked, visible;  // one more than there are tokens of each
};

// Moves every cell in state `from` to state `to`. std::replace stores under a branch, which is neither predicted nor
// vectorised; here every cell is stored.
void take_all(std::vector<uint8_t>& state, uint8_t from, uint8_t to) {
  for (uint8_t& cell : state) cell = cell == from ? to : cell;
}

// Moves `count` cells from state `from` to state `to`: the first ones, or those of lowest random key.
void take(Scratch& s, const SampleRng& rng, uint8_t from, uint8_t to, int64_t count, bool first) {
  const int64_t cells = static_cast<int64_t>(s.state.size());
  uint8_t* state = s.state.data();
  if (count == std::count(s.state.begin(), s.state.end(), from)) {
    take_all(s.state, from, to);
    return;
  }
  if (first) {
    for (int64_t i = 0; i < cells; ++i) {
      const bool hit = state[i] == from && count > 0;
      state[i] = hit ? to : state[i];
      count -= hit;
    }
    return;
  }
  if (!s.drawn) cpu_kernels().philox_words(rng, kStreamToken, static_cast<uint32_t>((cells + 3) / 4), s.keys.data());
  s.drawn = true;
  // Rank by the key's leading byte: whole bins are in or out, and only the few cells of the bin in between are sorted.
  const uint32_t* keys = s.keys.data();
  int64_t bins[256] = {};
  for (int64_t i = 0; i < cells; ++i) bins[keys[i] >> 24] += state[i] == from;
  uint32_t split = 0;
  int64_t below = 0;
  while (below + bins[split] <= count) below += bins[split++];
  for (int64_t i = 0; i < cells; ++i) {
    const bool in = (state[i] == from) & ((keys[i] >> 24) < split);
    state[i] = in ? to : state[i];
  }
  int64_t ties = 0;
  for (int64_t i = 0; i < cells; ++i) {
    if (keys[i] >> 24 == split && state[i] == from) s.tied[ties++] = (static_cast<uint64_t>(keys[i]) << 32) | i;
  }
  std::nth_element(s.tied.begin(), s.tied.begin() + (count - below), s.tied.begin() + ties);
  for (int64_t i = 0; i < count - below; ++i) state[s.tied[i] & 0xffffffffu] = to;
}

// Marks blocks until the plan's stopping rule holds; returns how many tokens they cover.
int64_t draw_blocks(const MaskPlan& plan, const SampleRng& rng, std::vector<uint8_t>& state) {
  const int64_t room = plan.fill == kTrim       ? plan.masked
                       : plan.fill == kTruncate ? plan.T * plan.H * plan.W - plan.visible
                                                : plan.T * plan.H * plan.W;
  const uint32_t wanted = plan.fill == kTrim ? 0 : block_count(plan, rng);
  int64_t covered = 0;
  for (uint32_t b = 0; b < kMaxBlocks; ++b) {
    const bool enough = plan.fill == kTokens || covered >= plan.masked;
    if ((b >= wanted && enough) || covered >= room) break;
    const Block box = draw_block(plan, rng, b);
    const auto each_row = [&](auto visit) {
      for (int t = box.t0; t < box.t0 + box.t; ++t) {
        for (int h = box.h0; h < box.h0 + box.h; ++h) {
          visit(&state[(static_cast<int64_t>(t) * plan.H + h) * plan.W + box.w0]);
        }
      }
    };
    int64_t fresh = 0;
    const bool fits = covered + static_cast<int64_t>(box.t) * box.h * box.w <= room;
    each_row([&](uint8_t* row) {
      for (int w = 0; w < box.w; ++w) {
        fresh += row[w] == kFree;
        if (fits) row[w] = kBlocked;
      }
    });
    const int64_t keep = std::min(fresh, room - covered);
    if (!fits && keep == fresh) {
      each_row([&](uint8_t* row) { std::fill_n(row, box.w, uint8_t{kBlocked}); });
    } else if (!fits) {
      int64_t left = keep;
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
    if (plan.fill == kTokens) take_all(s.state, kBlocked, kFree);
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
  // A mask takes about 10 us and waking a thread as long as several of them, or much longer on a busy machine.
  const int team = static_cast<int>(std::clamp<int64_t>(args.batch / 64, 1, threads));
#pragma omp parallel num_threads(team)
  {
    Scratch scratch;
    scratch.keys.resize((cells / (4 * kPhiloxLanes) + 1) * 4 * kPhiloxLanes);
    scratch.tied.resize(cells);
    scratch.masked.resize(plan.masked + 1);
    scratch.visible.resize(plan.visible + 1);
#pragma omp for
    for (int64_t b = 0; b < args.batch; ++b) {
      scratch.state.assign(cells, kFree);
      scratch.drawn = false;
      const SampleRng rng = sample_rng(args.seed, args.draw, args.sample_ids[b]);
      mask_cells(plan, rng, scratch, plan.masked / repeats, plan.visible / repeats);
      int64_t masked = 0, visible = 0;
      for (int64_t t = 0; t < repeats; ++t) {
        for (int64_t i = 0; i < cells; ++i) {
          scratch.masked[masked] = scratch.visible[visible] = t * sites + i;
          masked += scratch.state[i] == kMasked;
          visible += scratch.state[i] == kVisible;
        }
      }
      std::copy_n(scratch.masked.begin(), masked, args.masked + b * plan.masked);
      std::copy_n(scratch.visible.begin(), visible, args.visible + b * plan.visible);
    }
  }
}

}  // namespace fv
