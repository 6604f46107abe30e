// Attention of a few queries over many tokens, with entropy and arg-max, in one pass over keys and values.
#pragma once

#include "common.h"

namespace fv {

struct QueryAttendInputs {
  const void* query;  // [B, S, H, Q, D], rows contiguous, as in the others
  const void* key;    // [B, H, N, D]
  const void* value;  // [B, H, N, D]
  int dtype;
  float scale;
  int64_t B, S, H, Q, N, D;
  int64_t query_strides[4], key_strides[3], value_strides[3];  // in elements, all dimensions but the last
};

struct QueryAttendArgs {
  QueryAttendInputs in;
  void* out;        // [B, S, H, Q, D] contiguous, in dtype
  float* precise;   // the same before rounding to dtype, or nullptr
  float* lse;       // [B, S, H, Q]: log sum exp of the scores, or nullptr
  float* entropy;   // [B, S, H, Q], or nullptr
  int64_t* peak;    // [B, S, H, Q], or nullptr
};

struct QueryAttendBackwardArgs {
  QueryAttendInputs in;
  const void* grad_out;  // [B, S, H, Q, D] in dtype
  int64_t grad_out_strides[4];
  const float* precise;       // [B, S, H, Q, D] contiguous: the output in float32
  const float* lse;           // [B, S, H, Q]
  const float* grad_entropy;  // [B, S, H, Q], or nullptr
  const float* entropy;       // [B, S, H, Q]; not read without grad_entropy
  void* grad_query;           // [B, S, H, Q, D] contiguous in dtype, or nullptr
  void* grad_key;             // [B, H, N, D] in dtype, strides below, or nullptr; grad_value likewise and together
  void* grad_value;
  int64_t grad_cache_strides[3];
  bool stream;  // the stores to grad_key and grad_value bypass the cache
};

// Queries that are attended to together.
constexpr int64_t kQueryTile = 16;

}  // namespace fv
