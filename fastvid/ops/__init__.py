"""The kernels as pure functions on tensors.

Each op lives in a folder of its own: ``reference.py`` is the definition in plain PyTorch, ``triton.py`` holds the GPU
kernels, ``op.py`` the schema, the implementations and the public function. Every op takes ``backend="auto" |
"reference" | "native" | "triton"``: ``auto`` picks the fastest implementation there is for the device, ``reference`` is
that definition, ``native`` insists on the compiled C++ or CUDA kernel and ``triton`` on the Triton one.
"""

from fastvid.ops.foveated_glimpse import foveated_glimpse
from fastvid.ops.gather_tokens import gather_tokens
from fastvid.ops.gather_tubelets import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets
from fastvid.ops.masked_latent_loss import masked_latent_loss, masked_mse, quantize_tokens
from fastvid.ops.multiblock_mask import MaskSpec, mask_distance, multiblock_mask
from fastvid.ops.penalties import covariance_penalty, variance_penalty
from fastvid.ops.query_attend import peak_to_center, query_attend
from fastvid.random import sample_id

__all__ = [
    "IMAGENET_MEAN",
    "IMAGENET_STD",
    "MaskSpec",
    "covariance_penalty",
    "foveated_glimpse",
    "gather_tokens",
    "gather_tubelets",
    "mask_distance",
    "masked_latent_loss",
    "masked_mse",
    "multiblock_mask",
    "peak_to_center",
    "quantize_tokens",
    "query_attend",
    "sample_id",
    "variance_penalty",
]
