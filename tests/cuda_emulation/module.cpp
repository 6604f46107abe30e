#include "cuda_bindings.cpp"  // in one unit: the bindings' headers take longer than all kernels

PYBIND11_MODULE(emulated, m) { fv::bind_cuda_kernels(m); }
