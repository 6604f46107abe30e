// What every kernel shares: the host/device marker, token-grid arithmetic and the dtype codes of the C interface.
#pragma once

#include <cstddef>
#include <cstdint>

#ifdef __CUDACC__
#define FV_HD __host__ __device__ __forceinline__
#define FV_HD_MEMBER __host__ __device__ __forceinline__
#else
// `static` keeps each translation unit's copy to itself: the same source is compiled once per instruction set, and a
// shared (COMDAT) copy could otherwise be the AVX-512 one on a machine without AVX-512.
#define FV_HD static inline
#define FV_HD_MEMBER inline __attribute__((always_inline))
#endif

namespace fv {

// Codes used by fastvid/_native.py; the values are part of the C interface.
enum DType : int { kFloat32 = 0, kBFloat16 = 1, kFloat16 = 2, kInt8 = 3, kUInt8 = 4 };

FV_HD int64_t dtype_size(int dtype) { return dtype == kFloat32 ? 4 : (dtype < kInt8 ? 2 : 1); }

// High 32 bits of a * n: maps a uniform 32-bit word to [0, n). The bias is at most n / 2^32.
FV_HD uint32_t bounded(uint32_t word, uint32_t n) {
  return static_cast<uint32_t>((static_cast<uint64_t>(word) * n) >> 32);
}

}  // namespace fv
