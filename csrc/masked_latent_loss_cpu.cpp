// Compiled once per instruction set (FV_ISA). A row of pred and of target is widened into L1-resident scratch, where
// the normalisation, the loss and the gradient are computed; memory sees each input once and the gradient once.
#include "masked_latent_loss.h"

#include <cmath>
#include <cstdlib>

#include "dtype.h"
#include "vector.h"

namespace fv {
namespace {

// y <- (y - mean) / sqrt(var + eps), LayerNorm without affine parameters.
void normalize(const float* x, float* y, int64_t n) {
  const float mean = sum_pairs(x, x, n, [](auto a, auto) { return a; }) / n;
  const float var = sum_pairs(x, x, n, [mean](auto a, auto) { return (a - mean) * (a - mean); }) / n;
  const float rstd = 1.0f / std::sqrt(var + kLayerNormEps);
  for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd;
}

template <class Slope>
void map_grad(const float* p, const float* t, float* grad, int64_t n, Slope slope) {
  for (int64_t i = 0; i < n; ++i) grad[i] = slope(p[i] - t[i]);
}

float mse(const float* p, const float* t, float* grad, int64_t n, float scale) {
  if (grad) map_grad(p, t, grad, n, [scale](float d) { return 2.0f * scale * d; });
  return sum_pairs(p, t, n, [](auto a, auto b) { return (a - b) * (a - b); });
}

float l1(const float* p, const float* t, float* grad, int64_t n, float scale) {
  if (grad) map_grad(p, t, grad, n, [scale](float d) { return d > 0 ? scale : (d < 0 ? -scale : 0.0f * d); });
  return sum_pairs(p, t, n, [](auto a, auto b) { return a > b ? a - b : b - a; });
}

float smooth_l1(const float* p, const float* t, float* grad, int64_t n, float scale) {
  if (grad) {
    map_grad(p, t, grad, n, [scale](float d) { return d > 1.0f ? scale : (d < -1.0f ? -scale : scale * d); });
  }
  return sum_pairs(p, t, n, [](auto a, auto b) {
    auto d = a > b ? a - b : b - a;
    return d < 1.0f ? 0.5f * d * d : d - 0.5f;
  });
}

// 1 - cos(p, t), each norm clamped from below.
float cosine(const float* p, const float* t, float* grad, int64_t n, float scale) {
  const float pp = sum_pairs(p, p, n, [](auto a, auto b) { return a * b; });
  const float tt = sum_pairs(t, t, n, [](auto a, auto b) { return a * b; });
  const float pt = sum_pairs(p, t, n, [](auto a, auto b) { return a * b; });
  const float raw_norm = std::sqrt(pp);
  const float p_norm = raw_norm > kCosineEps ? raw_norm : kCosineEps;
  const float t_norm = std::sqrt(tt) > kCosineEps ? std::sqrt(tt) : kCosineEps;
  const float cos = pt / (p_norm * t_norm);
  if (grad) {
    const float along_target = -scale / (p_norm * t_norm);
    const float along_pred = raw_norm > kCosineEps ? scale * cos / (p_norm * p_norm) : 0.0f;
    for (int64_t i = 0; i < n; ++i) grad[i] = along_target * t[i] + along_pred * p[i];
  }
  return 1.0f - cos;
}

float row_loss(int kind, const float* p, const float* t, float* grad, int64_t n, float scale) {
  switch (kind) {
    case kMse: return mse(p, t, grad, n, scale);
    case kL1: return l1(p, t, grad, n, scale);
    case kSmoothL1: return smooth_l1(p, t, grad, n, scale);
    default: return cosine(p, t, grad, n, scale);
  }
}

}  // namespace

namespace FV_ISA {

// Returns false when scratch memory could not be had.
bool masked_latent_loss(const MaskedLatentLossArgs& a, int threads) {
  const int64_t rows = a.B * a.M;
  const int64_t chunks = (rows + kLossChunk - 1) / kLossChunk;
  const int64_t pred_size = dtype_size(a.pred_dtype), target_size = dtype_size(a.target_dtype);
  const bool stream = rows * a.D * pred_size > (int64_t{4} << 20);
  bool ok = true;
#pragma omp parallel num_threads(threads) reduction(&& : ok)
  {
    float* scratch = static_cast<float*>(std::malloc(3 * a.D * sizeof(float)));
    ok = scratch != nullptr;
#pragma omp for schedule(static)
    for (int64_t chunk = 0; chunk < chunks; ++chunk) {
      if (!scratch) continue;
      double sum = 0.0;
      const int64_t end = (chunk + 1) * kLossChunk < rows ? (chunk + 1) * kLossChunk : rows;
      for (int64_t row = chunk * kLossChunk; row < end; ++row) {
        const int64_t b = row / a.M, m = row % a.M;
        const char* pred = static_cast<const char*>(a.pred) + (b * a.pred_batch + m * a.pred_row) * pred_size;
        const char* target =
            static_cast<const char*>(a.target) + (b * a.target_batch + a.masked[row] * a.target_row) * target_size;
        const float* p = load_row(pred, a.pred_dtype, a.D, scratch);
        const float* t = load_row(target, a.target_dtype, a.D, scratch + a.D);
        if (a.target_scale) {
          const float factor = fp16_to_float(a.target_scale[b * a.N + a.masked[row]]);
          float* dequantized = scratch + a.D;  // where load_row widened the bytes to
          for (int64_t i = 0; i < a.D; ++i) dequantized[i] *= factor;
        }
        if (a.normalize_target) {
          normalize(t, scratch + a.D, a.D);
          t = scratch + a.D;
        }
        float* grad = a.grad ? scratch + 2 * a.D : nullptr;
        sum += row_loss(a.kind, p, t, grad, a.D, a.grad_scale);
        if (a.grad) {
          store_row(static_cast<char*>(a.grad) + row * a.D * pred_size, a.pred_dtype, a.D, grad, stream);
        }
      }
      a.partial[chunk] = sum;
    }
    store_fence();
    std::free(scratch);
  }
  return ok;
}

}  // namespace FV_ISA
}  // namespace fv
