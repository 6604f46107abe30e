"""Masks for a batch of 32 clips, against samplers that loop in Python."""

import math

import torch

from benchmarks.harness import byte_model
from benchmarks.harness.timing import Variant
from benchmarks.harness.workloads import VIT_B
from fastvid.ops import MaskSpec, multiblock_mask

BATCH = 32
GRID, TOKENS, MASKED, VISIBLE = VIT_B.grid, VIT_B.total, VIT_B.masked, VIT_B.visible
# Presets, by kind of device.
WORKLOADS = {
    "cpu": ["multiblock", "salt"],
    "cuda": ["multiblock", "salt", "vjepa_short", "vjepa_long", "tube", "random"],
}


def python_multiblock(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw V-JEPA blocks per sample until the target is covered, dropping the surplus of the last block."""
    visible, masked = [], []
    for _ in range(batch):
        cells = torch.zeros(GRID, dtype=torch.bool)
        while True:
            aspect = 0.75 + 0.75 * torch.rand(()).item()
            h = min(14, round(math.sqrt(29 * aspect)))
            w = min(14, round(math.sqrt(29 / aspect)))
            top = torch.randint(0, 14 - h + 1, ()).item()
            left = torch.randint(0, 14 - w + 1, ()).item()
            before = cells.clone()
            cells[:, top : top + h, left : left + w] = True
            surplus = int(cells.sum()) - MASKED
            if surplus >= 0:
                fresh = (cells & ~before).flatten().nonzero().squeeze(1)
                cells.view(-1)[fresh[len(fresh) - surplus :]] = False
                break
        masked.append(cells.flatten().nonzero().squeeze(1))
        visible.append((~cells).flatten().nonzero().squeeze(1))
    return torch.stack(visible), torch.stack(masked)


def python_salt(batch: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw per sample 4 to 8 blocks, then random tokens to the exact count, as SALT-VLA published it."""
    visible, masked = [], []
    for _ in range(batch):
        cells = torch.zeros(GRID, dtype=torch.bool)
        for _ in range(int(torch.randint(4, 9, ()).item())):
            t = max(1, int(8 * (0.1 + 0.4 * torch.rand(()).item())))
            h = max(1, int(14 * (0.15 + 0.55 * torch.rand(()).item())))
            w = max(1, int(14 * (0.15 + 0.55 * torch.rand(()).item())))
            t0 = int(torch.randint(0, 8 - t + 1, ()).item())
            h0 = int(torch.randint(0, 14 - h + 1, ()).item())
            w0 = int(torch.randint(0, 14 - w + 1, ()).item())
            cells[t0 : t0 + t, h0 : h0 + h, w0 : w0 + w] = True
        flat = cells.flatten()
        missing = MASKED - int(flat.sum())
        pool = (~flat if missing > 0 else flat).nonzero().squeeze(1)
        flat[pool[torch.randperm(len(pool))[: abs(missing)]]] = missing > 0
        masked.append(flat.nonzero().squeeze(1))
        visible.append((~flat).nonzero().squeeze(1))
    return torch.stack(visible), torch.stack(masked)


def check_same_kind(ours, theirs):
    """Check that both are exact partitions of equal counts that mask all times alike; random masks cannot be equal."""
    for visible, masked in (ours, theirs):
        assert visible.shape[1:] == (VISIBLE,)
        assert masked.shape[1:] == (MASKED,)
        together = torch.cat([visible, masked], dim=1).sort(dim=1).values
        assert torch.equal(together, torch.arange(TOKENS).expand_as(together))
    shares = [torch.bincount(masked.flatten() // 196, minlength=8) / masked.numel() for _, masked in (ours, theirs)]
    torch.testing.assert_close(shares[0], shares[1], rtol=0.12, atol=0.01)


PYTHON = {"multiblock": python_multiblock, "salt": python_salt}


def test_multiblock_mask(workload, device, kernel, record):
    ids = torch.arange(BATCH, device=device.kind)
    spec, python = getattr(MaskSpec, workload)(), PYTHON.get(workload)
    drawn = iter(range(2**31))
    backend = kernel("multiblock_mask")

    def ours(rows=ids, draw=None, backend=backend):
        draw = next(drawn) if draw is None else draw
        sizes = {"masked": MASKED, "visible": VISIBLE}
        return multiblock_mask(rows, GRID, **sizes, spec=spec, seed=0, draw=draw, backend=backend)

    def gate():
        reference = ours(ids.cpu(), draw=7, backend="reference")
        for got, expected in zip(ours(draw=7), reference, strict=True):
            assert torch.equal(got.cpu(), expected)
        if python:
            check_same_kind(ours(torch.arange(200), backend="auto"), python(200))

    # 100 launches in one graph: what is measured is the kernel, not the graph's start. On a CPU a call is a call.
    variants = {"fastvid": Variant(ours, calls=100)}
    if backend == "native" and device.kind == "cuda":
        variants["its Triton kernel"] = Variant(lambda: ours(backend="triton"), calls=100)
    if python:
        variants["a Python loop"] = Variant(lambda: [x.to(device.kind) for x in python(BATCH)], capture=False)
    least_bytes = {"forward": byte_model.multiblock_mask(BATCH, MASKED, VISIBLE)} if device.kind == "cuda" else {}
    record(f"multiblock_mask {workload}, B32", variants, gate=gate, least_bytes=least_bytes, rounds=11)
