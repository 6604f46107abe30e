"""What a call costs besides the kernel's own time: launches, and bytes of memory. Both are exact, on any machine."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ahead_of_time.compilation import caught_launches
from tests.ahead_of_time.workloads import WORKLOADS

# Launches, and bytes allocated besides the outputs: the loss keeps the sum of each of its 24 x 1176 rows, the
# gradient of a gaze three sums for each of a fixation's 3 x 12 x 3 tiles.
COSTS = {
    "masked_latent_loss": (2, 4 * 24 * 1176),
    "foveated_glimpse_gaze_grad": (2, 4 * (8 * 16 * 4) * (3 * 12 * 3) * 3),
}


class _Allocations(TorchDispatchMode):
    """Sums the memory that a block asks for, and lists the operators other than that."""

    def __init__(self):
        super().__init__()
        self.bytes, self.others = 0, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if function in (torch.ops.aten.new_empty.default, torch.ops.aten.empty_like.default):
            self.bytes += result.nbytes
        elif not function.is_view and function is not torch.ops.aten.empty.memory_format:
            self.others.append(function)
        return result


@pytest.mark.parametrize("name", WORKLOADS)
def test_launches_and_allocations(name):
    workload = WORKLOADS[name]()
    with caught_launches() as launches, _Allocations() as used:
        outputs = workload()
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    expected, extra = COSTS.get(name.split()[0], (1, 0))
    assert len(launches) == expected
    assert used.bytes == sum(output.nbytes for output in outputs) + extra
    assert used.others == [], "operators of PyTorch beside the kernels"
