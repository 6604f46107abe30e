// Compiled once per instruction set (FV_ISA). A row of pred and of target is widened into L1-resident scratch, where
// the normalisation, the loss and the gradient are computed; memory sees each input once and the gradient once.
#include "masked_latent_loss.h"

#include <cmath>
#include <cstdlib>

#include "dtype.h"
#include "memory.h"
#include "vector.h"

namespace fv {
namespace {

// A target row as it is stored, and what makes it the target: (x - mean) * rstd, LayerNorm without affine parameters.
struct Target {
  const float* x;
  float mean = 0.0f, rstd = 1.0f;

  template <class V>
  V at(int64_t i) const {
    return (load_as<V>(x + i) - mean) * rstd;
  }
};

Target normalized(const float* x, int64_t n) {
  const float mean = sum_pairs(x, x, n, [](auto a, auto) { return a; }) / n;
  const float var = sum_pairs(x, x, n, [mean](auto a, auto) { return (a - mean) * (a - mean); }) / n;
  return {x, mean, 1.0f / std::sqrt(var + kLayerNormEps)};
}

// Sum of value(pred - target), and slope(pred - target) stored in `grad`, in one pass.
template <class Value, class Slope>
float of_difference(const float* p, const Target& t, float* grad, int64_t n, Value value, Slope slope) {
  return sum_terms(n, [=](int64_t i, auto like) {
    using V = decltype(like);
    const V d = load_as<V>(p + i) - t.at<V>(i);
    if (grad) store_as<V>(grad + i, slope(d));
    return value(d);
  });
}

float mse(const float* p, const Target& t, float* grad, int64_t n, float scale) {
  return of_difference(
      p, t, grad, n, [](auto d) { return d * d; }, [scale](auto d) { return 2.0f * scale * d; });
}

float l1(const float* p, const Target& t, float* grad, int64_t n, float scale) {
  return of_difference(
      p, t, grad, n, [](auto d) { return d > 0.0f ? d : -d; },
      [scale](auto d) {
        const auto sign = d > 0.0f ? scale : -scale;
        return (d > 0.0f) | (d < 0.0f) ? sign : 0.0f * d;  // a NaN stays one
      });
}

template <class V>
V clamped(V d) {
  const V below = d > 1.0f ? 1.0f : d;
  return below < -1.0f ? -1.0f : below;
}

float smooth_l1(const float* p, const Target& t, float* grad, int64_t n, float scale) {
  return of_difference(
      p, t, grad, n, [](auto d) { return clamped(d) * (d - 0.5f * clamped(d)); },
      [scale](auto d) { return scale * clamped(d); });
}

// 1 - cos(p, t), each norm clamped from below.
float cosine(const float* p, const Target& t, float* grad, int64_t n, float scale) {
  const float pp = sum_pairs(p, p, n, [](auto a, auto b) { return a * b; });
  const auto over_target = [&](auto term) {
    return sum_terms(n, [&](int64_t i, auto like) {
      using V = decltype(like);
      return term(load_as<V>(p + i), t.at<V>(i));
    });
  };
  const float tt = over_target([](auto, auto b) { return b * b; });
  const float pt = over_target([](auto a, auto b) { return a * b; });
  const float raw_norm = std::sqrt(pp);
  const float p_norm = raw_norm > kCosineEps ? raw_norm : kCosineEps;
  const float t_norm = std::sqrt(tt) > kCosineEps ? std::sqrt(tt) : kCosineEps;
  const float cos = pt / (p_norm * t_norm);
  if (grad) {
    const float along_target = -scale / (p_norm * t_norm);
    const float along_pred = raw_norm > kCosineEps ? scale * cos / (p_norm * p_norm) : 0.0f;
    for (int64_t i = 0; i < n; ++i) grad[i] = along_target * t.at<float>(i) + along_pred * p[i];
  }
  return 1.0f - cos;
}

float row_loss(int kind, const float* p, const Target& t, float* grad, int64_t n, float scale) {
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
  const auto pred_row = [&](int64_t row) {
    return static_cast<const char*>(a.pred) + (row / a.M * a.pred_batch + row % a.M * a.pred_row) * pred_size;
  };
  const auto target_row = [&](int64_t row) {
    return static_cast<const char*>(a.target) +
           (row / a.M * a.target_batch + a.masked[row] * a.target_row) * target_size;
  };
  const bool direct = a.pred_dtype == kFloat32 && !a.stream;  // the gradient is computed where it belongs
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
        if (row + 1 < rows) {
          prefetch_row(pred_row(row + 1), a.D * pred_size);
          prefetch_row(target_row(row + 1), a.D * target_size);
        }
        const float* p = load_row(pred_row(row), a.pred_dtype, a.D, scratch);
        const float* x = load_row(target_row(row), a.target_dtype, a.D, scratch + a.D);
        if (a.target_scale) {
          const float factor = fp16_to_float(a.target_scale[row / a.M * a.N + a.masked[row]]);
          float* dequantized = scratch + a.D;  // where load_row widened the bytes to
          for (int64_t i = 0; i < a.D; ++i) dequantized[i] *= factor;
        }
        const Target t = a.normalize_target ? normalized(x, a.D) : Target{x};
        void* out = a.grad ? static_cast<char*>(a.grad) + row * a.D * pred_size : nullptr;
        float* grad = !out ? nullptr : direct ? static_cast<float*>(out) : scratch + 2 * a.D;
        const float weight = a.weight ? a.weight[row] : 1.0f;
        sum += weight * row_loss(a.kind, p, t, grad, a.D, weight * a.grad_scale);
        if (out && !direct) store_row(out, a.pred_dtype, a.D, grad, a.stream);
      }
      a.partial[chunk] = sum;
    }
    store_fence();
    std::free(scratch);
  }
  return ok;
}

void scale_gradient(const ScaleGradientArgs& a, int threads) {
  constexpr int64_t kPiece = 1024;
  const int64_t size = dtype_size(a.dtype);
#pragma omp parallel num_threads(threads)
  {
    float scratch[kPiece];
#pragma omp for schedule(static)
    for (int64_t first = 0; first < a.count; first += kPiece) {
      const int64_t n = a.count - first < kPiece ? a.count - first : kPiece;
      const float* grad = load_row(static_cast<const char*>(a.grad) + first * size, a.dtype, n, scratch);
      for (int64_t i = 0; i < n; ++i) scratch[i] = a.factor * grad[i];
      store_row(static_cast<char*>(a.out) + first * size, a.dtype, n, scratch, a.stream);
    }
    store_fence();
  }
}

}  // namespace FV_ISA
}  // namespace fv
