// exp of a register of floats: the compiler does not vectorise calls of std::exp. Included only by the files that are
// compiled once per instruction set.
#pragma once

#include "vector.h"

namespace fv {
namespace {

typedef int32_t IntVec __attribute__((vector_size(FV_VECTOR_BYTES)));

// Below it exp is under the smallest normal float and given as 0.
constexpr float kExpLowest = -87.0f;

// exp(x) for x <= 88, within 1.1 ulp; 0 below kExpLowest; NaN for NaN. Cody and Waite's reduction to
// [-ln2 / 2, ln2 / 2] and the polynomial of Cephes' expf.
inline Vec exp_vec(Vec x) {
  const Vec zero = {};
  const auto under = x < kExpLowest;
  const Vec clamped = under ? zero + kExpLowest : x;
  constexpr float kRound = 12582912.0f;  // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
  const Vec shifted = clamped * 1.44269504088896341f + kRound;
  const Vec n = shifted - kRound;
  const Vec r = (clamped - n * 0.693359375f) - n * -2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * (r * r) + r + 1.0f;
  const Vec power = (Vec)(((IntVec)shifted << 23) + (127 << 23));  // 2^n
  return under ? zero : p * power;  // a product, not a sum of exponents: it keeps a NaN
}

}  // namespace
}  // namespace fv
