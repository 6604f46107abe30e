// Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011): the one source of randomness.
// A counter-based generator has no state: word i of a stream is a pure function of (key, counter), so CPU threads,
// CUDA blocks, Triton programs and fastvid/random.py all draw the same numbers in any order.
#pragma once

#include "common.h"

namespace fv {

constexpr uint32_t kPhiloxM0 = 0xD2511F53u, kPhiloxM1 = 0xCD9E8D57u;  // multipliers
constexpr uint32_t kPhiloxW0 = 0x9E3779B9u, kPhiloxW1 = 0xBB67AE85u;  // what the key grows by each round

struct Philox4 {
  uint32_t word[4];
};

FV_HD Philox4 philox4x32(uint32_t c0, uint32_t c1, uint32_t c2, uint32_t c3, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t p0 = static_cast<uint64_t>(kPhiloxM0) * c0;
    const uint64_t p1 = static_cast<uint64_t>(kPhiloxM1) * c2;
    const uint32_t n0 = static_cast<uint32_t>(p1 >> 32) ^ c1 ^ k0;
    const uint32_t n2 = static_cast<uint32_t>(p0 >> 32) ^ c3 ^ k1;
    c1 = static_cast<uint32_t>(p1);
    c3 = static_cast<uint32_t>(p0);
    c0 = n0;
    c2 = n2;
    k0 += kPhiloxW0;
    k1 += kPhiloxW1;
  }
  return {{c0, c1, c2, c3}};
}

// The random words of one sample: key = seed, counter = (stream and index, draw, sample id).
struct SampleRng {
  uint32_t seed_lo, seed_hi, draw, id_lo, id_hi;

  FV_HD_MEMBER Philox4 operator()(uint32_t stream, uint32_t index) const {
    return philox4x32((stream << 28) | index, draw, id_lo, id_hi, seed_lo, seed_hi);
  }
};

}  // namespace fv
