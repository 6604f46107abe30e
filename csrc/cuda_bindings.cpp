// The CUDA kernels as Python sees them, on the current device and the stream whose address is given; nothing waits.
#include "cuda_bindings.h"

#include <stdexcept>
#include <string>

#include "arguments.h"

namespace {

using fv::Address;
using fv::at;

void check(const char* op, const char* error) {
  if (error) throw std::runtime_error(std::string(op) + ": " + error);
}

void multiblock_mask(Address ids, Address visible, Address masked, int64_t batch, int64_t seed, int64_t draw,
                     const std::vector<int64_t>& plan, Address stream) {
  const auto args = fv::mask_args(ids, visible, masked, batch, seed, draw, plan);
  check("multiblock_mask", fv::multiblock_mask_cuda(args, at<void>(stream)));
}

void foveated_glimpse(FV_GLIMPSE_PARAMETERS, Address out, int out_dtype, Address stream) {
  fv::FoveatedGlimpseArgs args = FV_GLIMPSE_ARGS;
  args.out = at<void>(out), args.out_dtype = out_dtype;
  check("foveated_glimpse", fv::foveated_glimpse_cuda(args, at<void>(stream)));
}

void foveated_glimpse_gaze_grad(FV_GLIMPSE_PARAMETERS, Address grad, int grad_dtype, Address to_center,
                                Address to_scale, Address partial, Address stream) {
  fv::FoveatedGlimpseArgs args = FV_GLIMPSE_ARGS;
  args.out = at<void>(grad), args.out_dtype = grad_dtype, args.partial = at<float>(partial);
  args.to_center = at<float>(to_center), args.to_scale = at<float>(to_scale);
  check("foveated_glimpse", fv::foveated_glimpse_gaze_grad_cuda(args, at<void>(stream)));
}

}  // namespace

void fv::bind_cuda_kernels(pybind11::module_& m) {
  m.def("multiblock_mask_cuda", &multiblock_mask);
  m.def("foveated_glimpse_cuda", &foveated_glimpse);
  m.def("foveated_glimpse_gaze_grad_cuda", &foveated_glimpse_gaze_grad);
  m.def("glimpse_tiles", &fv::glimpse_tiles, "Partial sums per level that foveated_glimpse_gaze_grad_cuda writes.");
}
