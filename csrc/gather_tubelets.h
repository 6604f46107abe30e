// Normalised visible tubelets straight from uint8 pixels.
#pragma once

#include "common.h"

namespace fv {

struct GatherTubeletsArgs {
  const uint8_t* clip;   // [B, T, H, W, 3]; the last two dimensions contiguous
  const int64_t* index;  // [B, V] token of the (T/F, H/P, W/P) grid, or nullptr for all tokens in order
  void* out;             // [B, V, 3 * F * P * P] contiguous
  int out_dtype;
  int64_t B, V, T, H, W, tubelet, patch;
  int64_t batch_stride, frame_stride, row_stride;  // bytes
  float scale[3], shift[3];                        // value = pixel * scale[c] + shift[c]
};

}  // namespace fv
