// Philox words in bulk, compiled once for each instruction set.
#include "philox_cpu.h"

#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace fv::FV_ISA {

#ifdef __AVX2__
// Each 64-bit lane holds one 32-bit word and ignores what is above it, as vpmuludq does: no lane is ever moved.
static inline __m256i lanes(uint32_t value) { return _mm256_set1_epi64x(value); }

void philox_words(const SampleRng& rng, uint32_t stream, uint32_t groups, uint32_t* words) {
  const __m256i m0 = lanes(kPhiloxM0), m1 = lanes(kPhiloxM1);
  for (uint32_t first = 0; first < groups; first += kPhiloxLanes) {
    __m256i c0[2], c1[2], c2[2], c3[2];  // two sets of four counters hide the latency of the products
    for (uint32_t v = 0; v < 2; ++v) {
      c0[v] = _mm256_add_epi64(lanes((stream << 28) | (first + 4 * v)), _mm256_setr_epi64x(0, 1, 2, 3));
      c1[v] = lanes(rng.draw), c2[v] = lanes(rng.id_lo), c3[v] = lanes(rng.id_hi);
    }
    uint32_t k0 = rng.seed_lo, k1 = rng.seed_hi;
    for (int round = 0; round < 10; ++round, k0 += kPhiloxW0, k1 += kPhiloxW1) {
      for (uint32_t v = 0; v < 2; ++v) {
        const __m256i p0 = _mm256_mul_epu32(c0[v], m0), p1 = _mm256_mul_epu32(c2[v], m1);
        c0[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p1, 32), c1[v]), lanes(k0));
        c2[v] = _mm256_xor_si256(_mm256_xor_si256(_mm256_srli_epi64(p0, 32), c3[v]), lanes(k1));
        c1[v] = p1, c3[v] = p0;
      }
    }
    for (uint32_t v = 0; v < 2; ++v) {
      uint32_t out[4][8];
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[0]), c0[v]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[1]), c1[v]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[2]), c2[v]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(out[3]), c3[v]);
      for (uint32_t i = 0; i < 4; ++i) {
        for (uint32_t w = 0; w < 4; ++w) words[4 * (first + 4 * v + i) + w] = out[w][2 * i];
      }
    }
  }
}
#else
void philox_words(const SampleRng& rng, uint32_t stream, uint32_t groups, uint32_t* words) {
  for (uint32_t group = 0; group < groups; ++group) {
    const Philox4 four = rng(stream, group);
    for (uint32_t w = 0; w < 4; ++w) words[4 * group + w] = four.word[w];
  }
}
#endif

}  // namespace fv::FV_ISA
