// Compiled once per instruction set (FV_ISA). One tubelet at a time: its interleaved uint8 rows are split into colour
// planes in L1 and written out once in the output's dtype.
#include "gather_tubelets.h"

#include <cstdlib>

#include "dtype.h"

namespace fv {
namespace {

// Splits n interleaved RGB pixels into three normalised planes, `plane` floats apart.
void split_row(const uint8_t* src, int64_t n, float* dst, int64_t plane, const float* scale, const float* shift) {
  int64_t i = 0;
#if defined(__AVX2__)
  // Byte shuffles that collect one colour's 16 pixels from the three 16-byte words of 16 interleaved pixels.
  const __m128i pick[3][3] = {
      {_mm_setr_epi8(0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
       _mm_setr_epi8(-1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14, -1, -1, -1, -1, -1),
       _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 1, 4, 7, 10, 13)},
      {_mm_setr_epi8(1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
       _mm_setr_epi8(-1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15, -1, -1, -1, -1, -1),
       _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 2, 5, 8, 11, 14)},
      {_mm_setr_epi8(2, 5, 8, 11, 14, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1),
       _mm_setr_epi8(-1, -1, -1, -1, -1, 1, 4, 7, 10, 13, -1, -1, -1, -1, -1, -1),
       _mm_setr_epi8(-1, -1, -1, -1, -1, -1, -1, -1, -1, -1, 0, 3, 6, 9, 12, 15)}};
  for (; i + 16 <= n; i += 16) {
    const __m128i* words = reinterpret_cast<const __m128i*>(src + 3 * i);
    const __m128i w0 = _mm_loadu_si128(words), w1 = _mm_loadu_si128(words + 1), w2 = _mm_loadu_si128(words + 2);
    for (int c = 0; c < 3; ++c) {
      const __m128i bytes = _mm_or_si128(_mm_or_si128(_mm_shuffle_epi8(w0, pick[c][0]), _mm_shuffle_epi8(w1, pick[c][1])),
                                         _mm_shuffle_epi8(w2, pick[c][2]));
      const __m256 a = _mm256_set1_ps(scale[c]), b = _mm256_set1_ps(shift[c]);
      const __m256 lo = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
      const __m256 hi = _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_srli_si128(bytes, 8)));
      _mm256_storeu_ps(dst + c * plane + i, _mm256_fmadd_ps(lo, a, b));
      _mm256_storeu_ps(dst + c * plane + i + 8, _mm256_fmadd_ps(hi, a, b));
    }
  }
#endif
  for (; i < n; ++i) {
    for (int c = 0; c < 3; ++c) dst[c * plane + i] = static_cast<float>(src[3 * i + c]) * scale[c] + shift[c];
  }
}

}  // namespace

namespace FV_ISA {

bool gather_tubelets(const GatherTubeletsArgs& a, int threads) {
  const int64_t P = a.patch, F = a.tubelet;
  const int64_t grid_h = a.H / P, grid_w = a.W / P;
  const int64_t plane = F * P * P, tubelet = 3 * plane;
  const int64_t out_size = dtype_size(a.out_dtype);
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    float* scratch = static_cast<float*>(std::malloc(tubelet * sizeof(float)));
    ok = scratch != nullptr;
#pragma omp for schedule(static)
    for (int64_t row = 0; row < a.B * a.V; ++row) {
      if (!scratch) continue;
      const int64_t b = row / a.V, token = a.index ? a.index[row] : row % a.V;
      const int64_t t = token / (grid_h * grid_w), h = token / grid_w % grid_h, w = token % grid_w;
      const uint8_t* corner = a.clip + b * a.batch_stride + t * F * a.frame_stride + h * P * a.row_stride + w * P * 3;
      // float32 goes straight to its place; narrower dtypes are converted from the scratch in one go.
      char* out = static_cast<char*>(a.out) + row * tubelet * out_size;
      float* dst = a.out_dtype == kFloat32 ? reinterpret_cast<float*>(out) : scratch;
      for (int64_t f = 0; f < F; ++f) {
        for (int64_t r = 0; r < P; ++r) {
          split_row(corner + f * a.frame_stride + r * a.row_stride, P, dst + (f * P + r) * P, plane, a.scale, a.shift);
        }
      }
      if (a.out_dtype != kFloat32) store_row(out, a.out_dtype, tubelet, scratch, false);
    }
    std::free(scratch);
  }
  return ok;
}

}  // namespace FV_ISA
}  // namespace fv
