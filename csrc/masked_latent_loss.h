// Loss between predicted latents and the targets at masked tokens, with its gradient, in one pass over both.
#pragma once

#include "common.h"

namespace fv {

enum LossKind : int { kMse = 0, kL1 = 1, kSmoothL1 = 2, kCosine = 3 };

constexpr float kLayerNormEps = 1e-5f;
constexpr float kCosineEps = 1e-8f;

struct MaskedLatentLossArgs {
  const void* pred;    // [B, M, D], rows contiguous
  const void* target;  // [B, N, D], rows contiguous
  const uint16_t* target_scale;  // [B, N] contiguous float16 factors of an int8 target's rows, or nullptr
  const int64_t* masked;  // [B, M]
  const float* weight;    // [B, M] factors of a row's loss and gradient, or nullptr
  void* grad;          // [B, M, D] contiguous in pred's dtype, or nullptr
  double* partial;     // [chunks]: sum of the loss over each chunk of rows, before the mean
  int pred_dtype, target_dtype, kind;
  bool normalize_target;
  bool stream;  // the gradient's stores bypass the cache
  int64_t B, M, N, D;
  int64_t pred_batch, pred_row, target_batch, target_row;  // strides in elements
  float grad_scale;    // multiplies d(sum of the loss)/d(pred)
};

// out = factor * grad, multiplied in float32.
struct ScaleGradientArgs {
  const void* grad;  // [count]
  void* out;         // [count], in the same dtype
  int dtype;
  int64_t count;
  float factor;
  bool stream;  // the stores bypass the cache
};

// Rows are summed in chunks of fixed size, so the loss does not depend on the number of threads.
constexpr int64_t kLossChunk = 32;

}  // namespace fv
