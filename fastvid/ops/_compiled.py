"""The choice of an implementation, for code that torch.compile traces.

A module of its own because the decorator imports PyTorch's compiler, which takes seconds: it is imported by the first
call that is traced.
"""

import torch

from fastvid.ops import _dispatch

# A compiled graph holds the answer as a constant: it asks the driver and may warn, which cannot be traced.
choose_for = torch.compiler.assume_constant_result(_dispatch.choose_for)
