#include "gather_tokens.h"

#include <cstring>
#include <vector>

namespace fv {

void gather_tokens_cpu(const GatherTokensArgs& a, int threads) {
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < a.B * a.K; ++row) {
    const char* src = a.x + (row / a.K) * a.batch_stride + a.index[row] * a.row_stride;
    std::memcpy(a.out + row * a.row_bytes, src, a.row_bytes);
  }
}

int64_t scatter_tokens_cpu(const ScatterTokensArgs& a, int threads) {
  // source[b * N + n] is the position in index of token n of sample b. Built first, so that every output row is
  // written exactly once and none has to be zeroed and then written again.
  std::vector<int64_t> source(a.B * a.N, -1);
  for (int64_t i = 0; i < a.B * a.K; ++i) {
    int64_t& slot = source[(i / a.K) * a.N + a.index[i]];
    if (slot >= 0) return i;
    slot = i;
  }
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t row = 0; row < a.B * a.N; ++row) {
    char* dst = a.out + row * a.row_bytes;
    const int64_t i = source[row];
    if (i < 0) {
      std::memset(dst, 0, a.row_bytes);
    } else {
      std::memcpy(dst, a.grad + (i / a.K) * a.batch_stride + (i % a.K) * a.row_stride, a.row_bytes);
    }
  }
  return -1;
}

}  // namespace fv
