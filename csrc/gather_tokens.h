// Rows of x selected per sample, and the scatter that is its gradient. Bytes only: the dtype does not matter.
#pragma once

#include "common.h"

namespace fv {

struct GatherTokensArgs {
  const char* x;         // [B, N, D], rows contiguous
  const int64_t* index;  // [B, K]
  char* out;             // [B, K, D] contiguous
  int64_t B, N, K;
  int64_t batch_stride, row_stride, row_bytes;  // bytes
  bool stream;  // the stores to `out` bypass the cache
};

struct ScatterTokensArgs {
  const char* grad;      // [B, K, D], rows contiguous
  const int64_t* index;  // [B, K], unique per row
  char* out;             // [B, N, D] contiguous
  int64_t B, N, K;
  int64_t batch_stride, row_stride, row_bytes;  // bytes, of grad
  bool stream;  // the stores to `out` bypass the cache
};

void gather_tokens_cpu(const GatherTokensArgs& args, int threads);

// Writes every row of `out` once: the gradient's row, or zeros. Returns the flat position of an index that occurs twice
// in its row, or -1.
int64_t scatter_tokens_cpu(const ScatterTokensArgs& args, int threads);

}  // namespace fv
