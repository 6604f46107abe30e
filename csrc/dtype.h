// Narrow float formats on the CPU: load to float32, store rounded to nearest even.
#pragma once

#include <cstring>

#include "common.h"

#ifndef __CUDACC__
#include "memory.h"
#endif

#if defined(__F16C__)
#include <immintrin.h>
#endif

namespace fv {

FV_HD float float_from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

FV_HD uint32_t bits_from_float(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  return bits;
}

FV_HD float bf16_to_float(uint16_t v) { return float_from_bits(static_cast<uint32_t>(v) << 16); }

FV_HD uint16_t float_to_bf16(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t narrow;
  asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(narrow) : "f"(value));
  return narrow;
#endif
  const uint32_t bits = bits_from_float(value);
  const uint32_t rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16;
  const uint32_t quiet = (bits >> 16) | 0x40u;  // keeps a NaN a NaN
  return static_cast<uint16_t>((bits & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
}

FV_HD float fp16_to_float(uint16_t v) {
#if defined(__CUDA_ARCH__)
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(v));
  return wide;
#endif
  const uint32_t sign = static_cast<uint32_t>(v & 0x8000u) << 16;
  const uint32_t magnitude = v & 0x7fffu;
  if (magnitude >= 0x7c00u) return float_from_bits(sign | 0x7f800000u | ((magnitude & 0x3ffu) << 13));
  if (magnitude >= 0x0400u) return float_from_bits(sign | ((magnitude + 0x1c000u) << 13));
  const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
  return float_from_bits(sign | bits_from_float(subnormal));
}

FV_HD uint16_t float_to_fp16(float value) {
#if defined(__CUDA_ARCH__)
  uint16_t narrow;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(narrow) : "f"(value));
  return narrow;
#endif
  const uint32_t bits = bits_from_float(value);
  const uint32_t sign = (bits >> 16) & 0x8000u;
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return static_cast<uint16_t>(sign | 0x7e00u);    // NaN
  if (magnitude >= 0x477ff000u) return static_cast<uint16_t>(sign | 0x7c00u);   // rounds to infinity
  if (magnitude < 0x38800000u) {                                                // subnormal or zero
    const float scaled = float_from_bits(magnitude) + 0.5f;                     // rounds at 2^-24
    return static_cast<uint16_t>(sign | (bits_from_float(scaled) - 0x3f000000u));
  }
  const uint32_t rounded = magnitude + 0xc8000fffu + ((magnitude >> 13) & 1u);  // rebias, round to even
  return static_cast<uint16_t>(sign | (rounded >> 13));
}

// Reads n values as float32. A float32 row is returned as it stands; others are widened into `scratch`.
FV_HD const float* load_row(const void* row, int dtype, int64_t n, float* scratch) {
  if (dtype == kFloat32) return static_cast<const float*>(row);
  if (dtype == kInt8) {
    const int8_t* bytes = static_cast<const int8_t*>(row);
    for (int64_t i = 0; i < n; ++i) scratch[i] = static_cast<float>(bytes[i]);
    return scratch;
  }
  const uint16_t* narrow = static_cast<const uint16_t*>(row);
  if (dtype == kBFloat16) {
    for (int64_t i = 0; i < n; ++i) scratch[i] = bf16_to_float(narrow[i]);
    return scratch;
  }
  int64_t i = 0;
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    _mm256_storeu_ps(scratch + i, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(narrow + i))));
  }
#endif
  for (; i < n; ++i) scratch[i] = fp16_to_float(narrow[i]);
  return scratch;
}

#ifndef __CUDACC__  // whole rows are the CPU's

// Writes n float32 values as bfloat16 or float16.
FV_HD void narrow_row(uint16_t* out, int dtype, int64_t n, const float* values) {
  int64_t i = 0;
  if (dtype == kBFloat16) {
    for (; i < n; ++i) out[i] = float_to_bf16(values[i]);
    return;
  }
#if defined(__F16C__)
  for (; i + 8 <= n; i += 8) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm256_cvtps_ph(_mm256_loadu_ps(values + i), 0));
  }
#endif
  for (; i < n; ++i) out[i] = float_to_fp16(values[i]);
}

// Writes n float32 values in the row's dtype; with `stream` past the cache (see prepare_output), and the thread calls
// store_fence after its last row.
FV_HD void store_row(void* row, int dtype, int64_t n, const float* values, bool stream) {
  if (dtype == kFloat32) {
    if (stream) return stream_copy(row, values, n * sizeof(float));
    float* floats = static_cast<float*>(row);
    for (int64_t i = 0; i < n; ++i) floats[i] = values[i];  // short rows: a call of memcpy costs more
    return;
  }
  uint16_t* out = static_cast<uint16_t*>(row);
  if (!stream) return narrow_row(out, dtype, n, values);
  constexpr int64_t kPiece = 512;
  uint16_t piece[kPiece];
  for (int64_t i = 0; i < n; i += kPiece) {
    const int64_t count = n - i < kPiece ? n - i : kPiece;
    narrow_row(piece, dtype, count, values + i);
    stream_copy(out + i, piece, count * sizeof(uint16_t));
  }
}

#endif  // __CUDACC__

}  // namespace fv
