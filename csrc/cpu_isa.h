// Which build of the CPU kernels runs: chosen once from what the processor supports, or by name.
#pragma once

#include "foveated_glimpse.h"
#include "gather_tubelets.h"
#include "masked_latent_loss.h"
#include "philox_cpu.h"
#include "query_attend.h"

namespace fv {

struct CpuKernels {
  const char* isa;  // "baseline", "avx2" or "avx512"
  bool (*masked_latent_loss)(const MaskedLatentLossArgs&, int threads);
  void (*scale_gradient)(const ScaleGradientArgs&, int threads);
  bool (*gather_tubelets)(const GatherTubeletsArgs&, int threads);
  bool (*foveated_glimpse)(const FoveatedGlimpseArgs&, int threads);
  bool (*foveated_glimpse_gaze_grad)(const FoveatedGlimpseArgs&, int threads);
  bool (*foveated_glimpse_frames_grad)(const FoveatedGlimpseArgs&, int threads);
  PhiloxWords philox_words;
  bool (*query_attend)(const QueryAttendArgs&, int threads);
  bool (*query_attend_backward)(const QueryAttendBackwardArgs&, int threads);
};

// The kernels in use. The first call picks the best set that both this build and this processor have.
const CpuKernels& cpu_kernels();

// All sets that can run here, best first; `count` receives how many.
const CpuKernels* const* usable_cpu_kernels(int* count);

// Switches to the named set; false if it cannot run here.
bool use_cpu_kernels(const char* isa);

}  // namespace fv
