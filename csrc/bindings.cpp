// The C interface as Python sees it: addresses and sizes in, nothing allocated for the caller, no torch header.
// Validation is Python's (fastvid/ops/*/op.py); only what would read out of bounds is checked again here.
#include <memory>
#include <new>
#include <string>

#include "arguments.h"
#include "cpu_isa.h"
#include "cuda_bindings.h"
#include "gather_tokens.h"
#include "memory.h"

namespace py = pybind11;

namespace {

using fv::Address;
using fv::at;

// Flat position of the first index outside [0, n), or -1.
int64_t first_out_of_range(const int64_t* index, int64_t count, int64_t n) {
  for (int64_t i = 0; i < count; ++i) {
    if (index[i] < 0 || index[i] >= n) return i;
  }
  return -1;
}

void multiblock_mask_cpu(Address ids, Address visible, Address masked, int64_t batch, int64_t seed, int64_t draw,
                         const std::vector<int64_t>& plan, int threads) {
  const auto args = fv::mask_args(ids, visible, masked, batch, seed, draw, plan);
  py::gil_scoped_release release;
  fv::multiblock_mask_cpu(args, threads);
}

// Returns the position of a bad index (nothing is computed then), or -1. grad may be 0.
int64_t masked_latent_loss(Address pred, int pred_dtype, int64_t pred_batch, int64_t pred_row, Address target,
                           int target_dtype, int64_t target_batch, int64_t target_row, Address target_scale,
                           Address masked, Address weight, Address loss, Address grad, int64_t B, int64_t M, int64_t N,
                           int64_t D, int kind, bool normalize_target, double mean_scale, double grad_scale,
                           int threads) {
  const int64_t bad = first_out_of_range(at<const int64_t>(masked), B * M, N);
  if (bad >= 0) return bad;
  py::gil_scoped_release release;
  const int64_t chunks = (B * M + fv::kLossChunk - 1) / fv::kLossChunk;
  std::vector<double> partial(chunks, 0.0);
  fv::MaskedLatentLossArgs args{};
  args.pred = at<const void>(pred), args.target = at<const void>(target), args.masked = at<const int64_t>(masked);
  args.target_scale = at<const uint16_t>(target_scale), args.weight = at<const float>(weight);
  args.grad = at<void>(grad), args.partial = partial.data();
  args.pred_dtype = pred_dtype, args.target_dtype = target_dtype, args.kind = kind;
  args.normalize_target = normalize_target;
  args.B = B, args.M = M, args.N = N, args.D = D;
  args.pred_batch = pred_batch, args.pred_row = pred_row;
  args.target_batch = target_batch, args.target_row = target_row;
  args.grad_scale = static_cast<float>(grad_scale);
  args.stream = grad && fv::prepare_output(args.grad, B * M * D * fv::dtype_size(pred_dtype));
  if (!fv::cpu_kernels().masked_latent_loss(args, threads)) throw std::bad_alloc();
  double sum = 0.0;
  for (double chunk : partial) sum += chunk;
  *at<float>(loss) = static_cast<float>(sum * mean_scale);
  return -1;
}

void scale_gradient(Address grad, Address out, int dtype, int64_t count, double factor, int threads) {
  py::gil_scoped_release release;
  const bool stream = fv::prepare_output(at<void>(out), count * fv::dtype_size(dtype));
  fv::cpu_kernels().scale_gradient(
      {at<const void>(grad), at<void>(out), dtype, count, static_cast<float>(factor), stream}, threads);
}

int64_t gather_tubelets(Address clip, int64_t batch_stride, int64_t frame_stride, int64_t row_stride, Address index,
                        Address out, int out_dtype, int64_t B, int64_t V, int64_t T, int64_t H, int64_t W,
                        int64_t tubelet, int64_t patch, const std::vector<float>& scale, const std::vector<float>& shift,
                        int threads) {
  const int64_t tokens = (T / tubelet) * (H / patch) * (W / patch);
  if (index) {
    const int64_t bad = first_out_of_range(at<const int64_t>(index), B * V, tokens);
    if (bad >= 0) return bad;
  }
  py::gil_scoped_release release;
  fv::GatherTubeletsArgs args{};
  args.clip = at<const uint8_t>(clip), args.index = at<const int64_t>(index), args.out = at<void>(out);
  args.out_dtype = out_dtype;
  args.B = B, args.V = V, args.T = T, args.H = H, args.W = W, args.tubelet = tubelet, args.patch = patch;
  args.batch_stride = batch_stride, args.frame_stride = frame_stride, args.row_stride = row_stride;
  fv::prepare_output(args.out, B * V * 3 * tubelet * patch * patch * fv::dtype_size(out_dtype));
  for (int c = 0; c < 3; ++c) args.scale[c] = scale.at(c), args.shift[c] = shift.at(c);
  if (!fv::cpu_kernels().gather_tubelets(args, threads)) throw std::bad_alloc();
  return -1;
}

// Returns the position of a scale that is not positive (nothing is computed then), or -1.
int64_t foveated_glimpse(FV_GLIMPSE_PARAMETERS, Address out, int out_dtype, int threads) {
  fv::FoveatedGlimpseArgs args = FV_GLIMPSE_ARGS;
  args.out = at<void>(out), args.out_dtype = out_dtype;
  for (int64_t i = 0; i < args.B * args.T * args.G; ++i) {
    if (!(args.scale[i] > 0.0f)) return i;
  }
  py::gil_scoped_release release;
  args.stream = fv::prepare_output(at<void>(out), args.B * args.T * args.G * args.levels * 3 * args.size * args.size *
                                                      fv::dtype_size(out_dtype));
  if (!fv::cpu_kernels().foveated_glimpse(args, threads)) throw std::bad_alloc();
  return -1;
}

void foveated_glimpse_gaze_grad(FV_GLIMPSE_PARAMETERS, Address grad, int grad_dtype, Address to_center, Address to_scale,
                                int threads) {
  fv::FoveatedGlimpseArgs args = FV_GLIMPSE_ARGS;
  args.out = at<void>(grad), args.out_dtype = grad_dtype;
  args.to_center = at<float>(to_center), args.to_scale = at<float>(to_scale);
  py::gil_scoped_release release;
  if (!fv::cpu_kernels().foveated_glimpse_gaze_grad(args, threads)) throw std::bad_alloc();
}

void foveated_glimpse_frames_grad(FV_GLIMPSE_PARAMETERS, Address grad, int grad_dtype, Address to_frames, int threads) {
  fv::FoveatedGlimpseArgs args = FV_GLIMPSE_ARGS;
  args.out = at<void>(grad), args.out_dtype = grad_dtype, args.to_frames = at<void>(to_frames);
  py::gil_scoped_release release;
  if (!fv::cpu_kernels().foveated_glimpse_frames_grad(args, threads)) throw std::bad_alloc();
}

int64_t gather_tokens(Address x, int64_t batch_stride, int64_t row_stride, Address index, Address out, int64_t B,
                      int64_t N, int64_t K, int64_t row_bytes, int threads) {
  const int64_t bad = first_out_of_range(at<const int64_t>(index), B * K, N);
  if (bad >= 0) return bad;
  py::gil_scoped_release release;
  const bool stream = fv::prepare_output(at<void>(out), B * K * row_bytes);
  fv::gather_tokens_cpu({at<const char>(x), at<const int64_t>(index), at<char>(out), B, N, K, batch_stride, row_stride,
                         row_bytes, stream},
                        threads);
  return -1;
}

// Returns {position of an index out of range, position of an index that repeats}, each -1 when there is none.
std::pair<int64_t, int64_t> scatter_tokens(Address grad, int64_t batch_stride, int64_t row_stride, Address index,
                                           Address out, int64_t B, int64_t N, int64_t K, int64_t row_bytes,
                                           int threads) {
  const int64_t bad = first_out_of_range(at<const int64_t>(index), B * K, N);
  if (bad >= 0) return {bad, -1};
  py::gil_scoped_release release;
  const bool stream = fv::prepare_output(at<void>(out), B * N * row_bytes);
  return {-1, fv::scatter_tokens_cpu({at<const char>(grad), at<const int64_t>(index), at<char>(out), B, N, K,
                                      batch_stride, row_stride, row_bytes, stream},
                                     threads)};
}

// The first `n` integers of a shape or of strides.
void read(const py::tuple& from, size_t n, int64_t* to) {
  if (from.size() < n) throw py::value_error("a shape or strides of too few dimensions");
  for (size_t i = 0; i < n; ++i) to[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(from.ptr(), i));
}

// A query or its gradient is [B, S, H, Q, D], or [B, H, Q, D] with S = 1: its sizes or strides without the last.
void read_query(const py::tuple& from, int64_t absent, int64_t* to) {
  if (from.size() == 5) return read(from, 4, to);
  int64_t found[3];
  read(from, 3, found);
  to[0] = found[0], to[1] = absent, to[2] = found[1], to[3] = found[2];
}

// Shapes and strides are those of the tensors, whole.
fv::QueryAttendInputs attend_inputs(Address query, Address key, Address value, int dtype, const py::tuple& query_shape,
                                    const py::tuple& key_shape, const py::tuple& query_strides,
                                    const py::tuple& key_strides, const py::tuple& value_strides, double scale) {
  fv::QueryAttendInputs in{};
  in.query = at<const void>(query), in.key = at<const void>(key), in.value = at<const void>(value);
  in.dtype = dtype, in.scale = static_cast<float>(scale);
  int64_t q[4], k[4];
  read_query(query_shape, 1, q), read(key_shape, 4, k);
  in.B = q[0], in.S = q[1], in.H = q[2], in.Q = q[3], in.N = k[2], in.D = k[3];
  read_query(query_strides, 0, in.query_strides);
  read(key_strides, 3, in.key_strides), read(value_strides, 3, in.value_strides);
  return in;
}

// precise, lse, entropy and peak are 0 when they are not wanted.
void query_attend(Address query, Address key, Address value, int dtype, const py::tuple& query_shape,
                  const py::tuple& key_shape, const py::tuple& query_strides, const py::tuple& key_strides,
                  const py::tuple& value_strides, double scale, int threads, Address out, Address precise, Address lse,
                  Address entropy, Address peak) {
  const fv::QueryAttendArgs args{
      attend_inputs(query, key, value, dtype, query_shape, key_shape, query_strides, key_strides, value_strides, scale),
      at<void>(out), at<float>(precise), at<float>(lse), at<float>(entropy), at<int64_t>(peak)};
  py::gil_scoped_release release;
  if (!fv::cpu_kernels().query_attend(args, threads)) throw std::bad_alloc();
}

// grad_cache_strides are grad_key's and grad_value's.
void query_attend_backward(Address query, Address key, Address value, int dtype, const py::tuple& query_shape,
                           const py::tuple& key_shape, const py::tuple& query_strides, const py::tuple& key_strides,
                           const py::tuple& value_strides, double scale, int threads, Address grad_out,
                           const py::tuple& grad_out_strides, Address precise, Address lse, Address grad_entropy,
                           Address entropy, Address grad_query, Address grad_key, Address grad_value,
                           const py::tuple& grad_cache_strides) {
  fv::QueryAttendBackwardArgs args{};
  args.in =
      attend_inputs(query, key, value, dtype, query_shape, key_shape, query_strides, key_strides, value_strides, scale);
  args.grad_out = at<const void>(grad_out), args.precise = at<const float>(precise);
  args.lse = at<const float>(lse), args.grad_entropy = at<const float>(grad_entropy);
  args.entropy = at<const float>(entropy);
  args.grad_query = at<void>(grad_query), args.grad_key = at<void>(grad_key), args.grad_value = at<void>(grad_value);
  read_query(grad_out_strides, 0, args.grad_out_strides);
  if (args.grad_key) read(grad_cache_strides, 3, args.grad_cache_strides);
  py::gil_scoped_release release;
  const int64_t cache_bytes = args.in.B * args.in.H * args.in.N * args.in.D * fv::dtype_size(dtype);
  if (args.grad_key) {
    args.stream = fv::prepare_output(args.grad_key, cache_bytes);
    args.stream = fv::prepare_output(args.grad_value, cache_bytes) && args.stream;
  }
  if (!fv::cpu_kernels().query_attend_backward(args, threads)) throw std::bad_alloc();
}

py::dict build_info() {
  py::dict info;
  info["compiler"] = FV_COMPILER;
  info["build_type"] = FV_BUILD_TYPE;
#ifdef FV_WITH_CUDA
  info["cuda"] = true;
  info["cuda_version"] = FV_CUDA_VERSION;
  info["cuda_archs"] = FV_CUDA_ARCHS;
#else
  info["cuda"] = false;
#endif
  return info;
}

std::vector<std::string> usable_isas() {
  int count = 0;
  const fv::CpuKernels* const* sets = fv::usable_cpu_kernels(&count);
  std::vector<std::string> names;
  for (int i = 0; i < count; ++i) names.emplace_back(sets[i]->isa);
  return names;
}

}  // namespace

PYBIND11_MODULE(_C, m) {
  m.doc() = "fastvid's native core. Use fastvid.ops; these functions trust their arguments.";
  m.def("build_info", &build_info, "How this extension was compiled.");
  m.def("isa", [] { return std::string(fv::cpu_kernels().isa); }, "Name of the CPU kernel set in use.");
  m.def("usable_isas", &usable_isas, "CPU kernel sets that can run on this processor, best first.");
  m.def("use_isa", &fv::use_cpu_kernels, "Switch to a CPU kernel set by name; False if it cannot run here.");
  m.def("multiblock_mask_cpu", &multiblock_mask_cpu);
  m.def("masked_latent_loss", &masked_latent_loss);
  m.def("scale_gradient", &scale_gradient);
  m.def("gather_tubelets", &gather_tubelets);
  m.def("foveated_glimpse", &foveated_glimpse);
  m.def("foveated_glimpse_gaze_grad", &foveated_glimpse_gaze_grad);
  m.def("foveated_glimpse_frames_grad", &foveated_glimpse_frames_grad);
  m.def("gather_tokens", &gather_tokens);
  m.def("scatter_tokens", &scatter_tokens);
  m.def("query_attend", &query_attend);
  m.def("query_attend_backward", &query_attend_backward);
#ifdef FV_WITH_CUDA
  fv::bind_cuda_kernels(m);
#endif
}
