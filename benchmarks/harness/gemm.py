"""The rate of a large matrix product: the most arithmetic that a step could do here."""

import time

import torch


def gemm_rate(device: torch.device) -> float:
    """Measure the FLOP/s of a large matrix product in the step's dtype, the best of several: the peak of a step here.

    On a CPU, per second of a processor, as a busy neighbour would halve what the wall's clock says.
    """
    n, dtype = (8192, torch.bfloat16) if device.type == "cuda" else (2048, torch.float32)
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    a, b = (torch.randn(n, n, device=device, dtype=dtype) for _ in range(2))

    def once() -> float:
        started = clock()
        a @ b
        if device.type == "cuda":
            torch.cuda.synchronize()
        return clock() - started

    return 2 * n**3 / min([once() for _ in range(8)][2:])
