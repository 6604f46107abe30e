#include "gather_tokens.h"

#include <cstring>
#include <vector>

#include "memory.h"

namespace fv {
namespace {

void copy_row(char* to, const char* from, int64_t bytes, bool stream) {
  if (stream) {
    stream_copy(to, from, bytes);
  } else {
    std::memcpy(to, from, bytes);
  }
}

void zero_row(char* to, int64_t bytes, bool stream) {
  if (stream) {
    stream_zero(to, bytes);
  } else {
    std::memset(to, 0, bytes);
  }
}

}  // namespace

void gather_tokens_cpu(const GatherTokensArgs& a, int threads) {
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < a.B * a.K; ++row) {
      const char* src = a.x + (row / a.K) * a.batch_stride + a.index[row] * a.row_stride;
      copy_row(a.out + row * a.row_bytes, src, a.row_bytes, a.stream);
    }
    store_fence();
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
#pragma omp parallel num_threads(threads)
  {
#pragma omp for schedule(static)
    for (int64_t row = 0; row < a.B * a.N; ++row) {
      char* dst = a.out + row * a.row_bytes;
      const int64_t i = source[row];
      if (i < 0) {
        zero_row(dst, a.row_bytes, a.stream);
      } else {
        copy_row(dst, a.grad + (i / a.K) * a.batch_stride + (i % a.K) * a.row_stride, a.row_bytes, a.stream);
      }
    }
    store_fence();
  }
  return -1;
}

}  // namespace fv
