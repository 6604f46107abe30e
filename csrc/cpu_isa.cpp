#include "cpu_isa.h"

#include <atomic>
#include <cstring>

#define FV_DECLARE(ISA)                                               \
  namespace fv::ISA {                                                 \
  bool masked_latent_loss(const MaskedLatentLossArgs&, int);          \
  void scale_gradient(const ScaleGradientArgs&, int);                 \
  bool gather_tubelets(const GatherTubeletsArgs&, int);               \
  bool foveated_glimpse(const FoveatedGlimpseArgs&, int);             \
  bool foveated_glimpse_gaze_grad(const FoveatedGlimpseArgs&, int);   \
  bool foveated_glimpse_frames_grad(const FoveatedGlimpseArgs&, int); \
  void philox_words(const SampleRng&, uint32_t, uint32_t, uint32_t*); \
  bool query_attend(const QueryAttendArgs&, int);                     \
  bool query_attend_backward(const QueryAttendBackwardArgs&, int);    \
  }                                                                   \
  static const fv::CpuKernels k_##ISA = {                             \
      #ISA,                                                           \
      fv::ISA::masked_latent_loss,                                    \
      fv::ISA::scale_gradient,                                        \
      fv::ISA::gather_tubelets,                                       \
      fv::ISA::foveated_glimpse,                                      \
      fv::ISA::foveated_glimpse_gaze_grad,                            \
      fv::ISA::foveated_glimpse_frames_grad,                          \
      fv::ISA::philox_words,                                          \
      fv::ISA::query_attend,                                          \
      fv::ISA::query_attend_backward};

FV_DECLARE(baseline)
#ifdef FV_X86
FV_DECLARE(avx2)
FV_DECLARE(avx512)
#endif

namespace fv {
namespace {

struct Usable {
  const CpuKernels* sets[3];
  int count = 0;

  Usable() {
#ifdef FV_X86
    // What x86-64-v3 and v4 add over v2; a hypervisor may hide any of them.
    const bool v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c") &&
                    __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    const bool v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                    __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
                    __builtin_cpu_supports("avx512vl");
    if (v4) sets[count++] = &k_avx512;
    if (v3) sets[count++] = &k_avx2;
#endif
    sets[count++] = &k_baseline;
  }
};

const Usable& usable() {
  static const Usable found;
  return found;
}

std::atomic<const CpuKernels*>& chosen() {
  static std::atomic<const CpuKernels*> current{usable().sets[0]};
  return current;
}

}  // namespace

const CpuKernels& cpu_kernels() { return *chosen().load(std::memory_order_relaxed); }

const CpuKernels* const* usable_cpu_kernels(int* count) {
  *count = usable().count;
  return usable().sets;
}

bool use_cpu_kernels(const char* isa) {
  for (int i = 0; i < usable().count; ++i) {
    if (std::strcmp(usable().sets[i]->isa, isa) == 0) {
      chosen().store(usable().sets[i]);
      return true;
    }
  }
  return false;
}

}  // namespace fv
