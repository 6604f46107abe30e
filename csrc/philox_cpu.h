// Philox words in bulk on the CPU.
#pragma once

#include "philox.h"

namespace fv {

constexpr uint32_t kPhiloxLanes = 8;  // counters computed side by side

// Writes words 4 g .. 4 g + 3 of a stream for every group g < groups. `words` has room for `groups` rounded up to a
// multiple of kPhiloxLanes, times 4.
using PhiloxWords = void (*)(const SampleRng& rng, uint32_t stream, uint32_t groups, uint32_t* words);

}  // namespace fv
