// The module's part that exists where nvcc does.
#pragma once

#include <pybind11/pybind11.h>

namespace fv {

void bind_cuda_kernels(pybind11::module_& m);

}  // namespace fv
