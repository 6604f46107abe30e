"""The choice of an implementation in code that torch.compile traces.

This is a module of its own because the decorator imports PyTorch's compiler, which takes seconds. Only the first traced
call imports it.
"""

import torch

from fastvid.ops import _dispatch

# A compiled graph holds the answer as a constant: finding it asks the driver and may warn, which cannot be traced.
choose_for = torch.compiler.assume_constant_result(_dispatch.choose_for)
