"""Patch embedding of the visible quarter of a clip, against the usual way: all of it, then drop three quarters."""

import torch
import torch.nn.functional as F

from benchmarks.harness import byte_model
from benchmarks.harness.timing import Variant
from benchmarks.harness.workloads import WORKLOADS as WORKLOADS
from benchmarks.harness.workloads import drawn
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, gather_tubelets


def constants(device):
    return torch.tensor(IMAGENET_MEAN, device=device), torch.tensor(IMAGENET_STD, device=device)


def clip_and_index(workload, device, batch):
    torch.manual_seed(0)
    T, H, W = workload.tokens.grid
    clip = torch.randint(256, (batch, 2 * T, 16 * H, 16 * W, 3), dtype=torch.uint8, device=device.kind)
    return clip, drawn(batch, workload.tokens.total, workload.tokens.visible, device.kind)


def tubelets(x):
    """View [B, T, H, W, 3] as [B, T / 2, H / 16, W / 16, 3, 2, 16, 16]."""
    B, T, H, W, _ = x.shape
    return x.view(B, T // 2, 2, H // 16, 16, W // 16, 16, 3).permute(0, 1, 3, 5, 7, 2, 4, 6)


def gather_first(clip, index, mean, std, dtype):
    """Run the best plain PyTorch we know: pick uint8 tubelets, then normalise only those."""
    x = tubelets(clip)
    _, _, H, W = x.shape[:4]
    row = torch.arange(len(index), device=index.device).unsqueeze(1)
    picked = x[row, index // (H * W), index // W % H, index % W]  # [B, V, 3, 2, 16, 16]
    return ((picked.float() / 255 - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)).flatten(2).to(dtype)


def test_patch_embedding_at_a_quarter_visible(users_workload, device, kernel, record):
    workload, backend = users_workload, kernel("gather_tubelets")
    B, D, dtype = workload.batch, workload.tokens.dim, workload.dtype
    clip, index = clip_and_index(workload, device, B)
    mean, std = constants(device.kind)
    conv = torch.nn.Conv3d(3, D, (2, 16, 16), (2, 16, 16), device=device.kind, dtype=dtype).requires_grad_(False)

    def usual():
        pixels = (clip.permute(0, 4, 1, 2, 3).float() / 255 - mean.view(3, 1, 1, 1)) / std.view(3, 1, 1, 1)
        return torch.take_along_dim(conv(pixels.to(dtype)).flatten(2).mT, index.unsqueeze(-1), dim=1)

    def unfolded():
        """Embed without the convolution: reshape and multiply all tokens."""
        x = tubelets((clip.float() / 255 - mean) / std).reshape(B, -1, 1536).to(dtype)
        return torch.take_along_dim(F.linear(x, conv.weight.flatten(1), conv.bias), index.unsqueeze(-1), dim=1)

    def fastvid():
        return F.linear(gather_tubelets(clip, index, dtype=dtype, backend=backend), conv.weight.flatten(1), conv.bias)

    variants = {
        "fastvid": Variant(fastvid),
        "float, Conv3d, gather": Variant(usual),
        "float, reshape, Linear, gather": Variant(unfolded),
    }
    if device.kind == "cuda":

        def best():
            return F.linear(gather_first(clip, index, mean, std, dtype), conv.weight.flatten(1), conv.bias)

        variants["compiled gather-first, Linear"] = Variant(torch.compile(best, dynamic=False))
    record(
        f"gather_tubelets + Linear, {workload}", variants, tolerance=1e-3 if device.kind == "cpu" else 2e-2, rounds=5
    )


def test_gather_tubelets_alone(workload, device, kernel, record):
    backend, V, size = kernel("gather_tubelets"), workload.tokens.visible, workload.dtype.itemsize
    B = workload.batch or device.batch_over_l2(byte_model.gather_tubelets(1, V, out_size=size))
    clip, index = clip_and_index(workload, device, B)

    def op(backend):
        return Variant(lambda: gather_tubelets(clip, index, dtype=workload.dtype, backend=backend))

    variants = {"fastvid": op(backend), "eager reference": op("reference")}
    if device.kind == "cuda":
        compiled, (mean, std) = torch.compile(gather_first, dynamic=False), constants(device.kind)
        variants["compiled gather-first"] = Variant(lambda: compiled(clip, index, mean, std, workload.dtype))
    record(
        f"gather_tubelets, {workload}",
        variants,
        tolerance=1e-5 if device.kind == "cpu" else 1e-2,
        least_bytes={"forward": byte_model.gather_tubelets(B, V, out_size=size)},
        rounds=9,
    )
