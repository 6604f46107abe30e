"""fastvid's ops inside other people's models: each example as its authors write it, and with the ops dropped in.

    python -m benchmarks.training.drop_in

Both variants of an example hold the same weights and give the same loss; a whole training step (forward and backward)
is timed, the variants taking turns. "Saved" is what autograd keeps between the passes: each storage once, without
parameters.
"""

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import nn
from transformers import VideoMAEConfig, VideoMAEModel, VJEPA2Config, VJEPA2Model
from transformers.models.vjepa2 import modeling_vjepa2

from benchmarks.harness.gpu_timing import GpuTimer
from benchmarks.harness.precision import exact_convolutions
from benchmarks.harness.timing import CALL, Call, CpuTimer
from fastvid import units
from fastvid.nn import VisiblePatchEmbed
from fastvid.ops import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    foveated_glimpse,
    gather_tokens,
    masked_latent_loss,
    multiblock_mask,
)


@dataclass(frozen=True)
class Example:
    """A training step twice, each giving the loss: as its authors write it, and with fastvid."""

    model: nn.Module
    plain: Callable[[], torch.Tensor]
    fastvid: Callable[[], torch.Tensor]


@dataclass(frozen=True)
class Scale:
    """Sizes of the models."""

    batch: int
    side: int
    width: int
    depth: int
    heads: int


SMALL = Scale(batch=2, side=112, width=192, depth=4, heads=3)
VIT_B = Scale(batch=16, side=224, width=768, depth=12, heads=12)
FRAMES = 16
_APPLY_MASKS = modeling_vjepa2.apply_masks  # as its authors wrote it; the example's two variants exchange it


def _masks(scale: Scale, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Return visible (25 %) and masked (75 %) tokens of 2 x 16 x 16 tubelets."""
    grid = (FRAMES // 2, scale.side // 16, scale.side // 16)
    tokens = grid[0] * grid[1] * grid[2]
    ids = torch.arange(scale.batch, device=device)
    return multiblock_mask(ids, grid, masked=tokens - tokens // 4, visible=tokens // 4, seed=0, draw=0)


def _normalized(clip: torch.Tensor) -> torch.Tensor:
    """Map uint8 [..., H, W, 3] to float [..., 3, H, W], as image processors do."""
    mean, std = (torch.tensor(x, device=clip.device) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return ((clip.float() / 255 - mean) / std).movedim(-1, -3)


class VisibleEmbeddings(nn.Module):
    """VideoMAE's embeddings for uint8 clips [B, T, H, W, 3] and visible tokens [B, V]."""

    positions: torch.Tensor

    def __init__(self, embeddings: Any):
        super().__init__()
        conv = embeddings.patch_embeddings.projection
        self.patch = VisiblePatchEmbed(conv.out_channels, tubelet=conv.kernel_size[0], patch=conv.kernel_size[1])
        self.patch.proj = conv
        self.register_buffer("positions", embeddings.position_embeddings[0])

    def forward(self, clip: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
        return self.patch(clip, visible) + self.positions[visible]


def videomae(scale: Scale, device: str) -> Example:
    """Make the example of transformers' VideoMAE encoder: only visible tubelets are normalised and embedded."""
    config = VideoMAEConfig(
        image_size=scale.side, hidden_size=scale.width, num_hidden_layers=scale.depth,
        num_attention_heads=scale.heads, intermediate_size=4 * scale.width, num_frames=FRAMES,
    )  # fmt: skip
    model: Any = VideoMAEModel(config)
    model.to(device)
    clip = torch.randint(256, (scale.batch, FRAMES, scale.side, scale.side, 3), dtype=torch.uint8, device=device)
    visible, masked = _masks(scale, device)
    hidden = torch.zeros(scale.batch, visible.shape[1] + masked.shape[1], dtype=torch.bool, device=device)
    hidden.scatter_(1, masked, True)
    theirs, ours = model.embeddings, VisibleEmbeddings(model.embeddings).to(device)

    def plain() -> torch.Tensor:
        model.embeddings = theirs
        return model(_normalized(clip), hidden).last_hidden_state.square().mean()

    def fastvid() -> torch.Tensor:
        model.embeddings = ours
        return model(clip, visible).last_hidden_state.square().mean()

    return Example(model, plain, fastvid)


def vjepa2(scale: Scale, device: str) -> Example:
    """Make the example of transformers' V-JEPA 2: picking tokens, and the L1 loss on layer-normed latents of a
    teacher.
    """
    config = VJEPA2Config(
        crop_size=scale.side, frames_per_clip=FRAMES, hidden_size=scale.width, num_hidden_layers=scale.depth,
        num_attention_heads=scale.heads, pred_hidden_size=scale.width // 2, pred_num_hidden_layers=2,
        pred_num_attention_heads=scale.heads, pred_num_mask_tokens=1,
    )  # fmt: skip
    model, teacher = (nn.Module.to(VJEPA2Model(config), device) for _ in range(2))
    teacher.requires_grad_(False)
    clip = torch.randint(256, (scale.batch, FRAMES, scale.side, scale.side, 3), dtype=torch.uint8, device=device)
    video, (visible, masked) = _normalized(clip), _masks(scale, device)

    def predict() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            target = teacher(video, skip_predictor=True, context_mask=[visible]).last_hidden_state
        return model(video, context_mask=[visible], target_mask=[masked]).predictor_output.last_hidden_state, target

    def plain() -> torch.Tensor:
        modeling_vjepa2.apply_masks = _APPLY_MASKS
        pred, target = predict()
        return (pred - _APPLY_MASKS(F.layer_norm(target, target.shape[-1:]), [masked])).abs().mean()

    def fastvid() -> torch.Tensor:
        modeling_vjepa2.apply_masks = lambda tensor, masks: torch.cat([gather_tokens(tensor, m) for m in masks])
        pred, target = predict()
        return masked_latent_loss(pred, target, masked, kind="l1", normalize_target=True)

    return Example(model, plain, fastvid)


def timm_glimpses(scale: Scale, device: str) -> Example:
    """Make the example of a timm ViT on three-level glimpses of uint8 frames, whose gaze is learnt."""
    size, levels = 64, 3
    model: Any = timm.create_model(
        "vit_tiny_patch16_224", img_size=size, num_classes=10, embed_dim=scale.width, depth=scale.depth,
        num_heads=scale.heads,
    ).to(device)  # fmt: skip
    side = 2 * scale.side
    frames = torch.randint(256, (scale.batch, 4, side, side, 3), dtype=torch.uint8, device=device)
    # Not 0: samples that stand exactly on a pixel have two one-sided derivatives, and rounding picks one.
    model.center = nn.Parameter(0.5 * torch.rand(scale.batch, 4, 1, 2, device=device) - 0.25)
    share = torch.full((scale.batch, 4, 1), size / side, device=device)  # one pixel a sample at level 0

    def plain() -> torch.Tensor:
        pixels = _normalized(frames).flatten(0, 1)
        steps = (torch.arange(size, device=device) + 0.5) * 2 / size - 1
        grid = torch.stack(torch.meshgrid(steps, steps, indexing="xy"), -1)
        crops = []
        for level in range(levels):
            reach = (share * 2**level).flatten()[:, None, None, None] * grid
            at = model.center.flatten(0, 2)[:, None, None] + reach
            crops.append(F.grid_sample(pixels, at, padding_mode="border", align_corners=False))
        return model(torch.stack(crops, 1).flatten(0, 1)).square().mean()

    def fastvid() -> torch.Tensor:
        crops = foveated_glimpse(frames, model.center, share, size=size, levels=levels, antialias=False)
        return model(crops.flatten(0, 3)).square().mean()

    return Example(model, plain, fastvid)


EXAMPLES = {
    "VideoMAE (transformers)": videomae,
    "V-JEPA 2 (transformers)": vjepa2,
    "ViT on glimpses (timm)": timm_glimpses,
}


def step(example: Example, variant: str) -> torch.Tensor:
    """Run one forward and backward pass, and return the loss."""
    example.model.zero_grad()
    loss = getattr(example, variant)()
    loss.backward()
    return loss.detach()


def saved_bytes(example: Example, variant: str) -> int:
    """Count the bytes that autograd keeps from the forward pass for the backward pass, without parameters."""
    parameters = {p.untyped_storage().data_ptr() for p in example.model.parameters()}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        storage = x.untyped_storage()
        if storage.data_ptr() not in parameters:
            kept[storage.data_ptr()] = storage.nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = getattr(example, variant)()  # the graph keeps what was saved alive: no address is used twice
    del loss
    return sum(kept.values())


def measure(name: str, scale: Scale, device: str, rounds: int) -> dict:
    """Measure one example and return its row. Raise an error if the two variants disagree."""
    torch.manual_seed(0)
    example = EXAMPLES[name](scale, device)
    gradients = {}
    with exact_convolutions():
        for variant in ("plain", "fastvid"):
            loss = step(example, variant)
            grads = [p.grad.clone() for p in example.model.parameters() if p.grad is not None]
            gradients[variant] = [loss, *grads]
    for got, expected in zip(gradients["fastvid"], gradients["plain"], strict=True):
        if (got - expected).norm() > 1e-3 * expected.norm():
            raise AssertionError(
                f"{name}: the two variants differ by more than 1e-3 of a gradient's (or the loss's) norm"
            )
    calls = {variant: Call(partial(step, example, variant), capture=False) for variant in gradients}
    timed = (GpuTimer if device == "cuda" else CpuTimer)(calls).times(rounds)[CALL]
    return {
        "example": name,
        "ms": {variant: round(of.median, 1) for variant, of in timed.items()},
        "times_faster": timed["plain"].median / timed["fastvid"].median,
        "saved_bytes": {variant: saved_bytes(example, variant) for variant in gradients},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--out", help="write the rows as JSON here")
    arguments = parser.parse_args()
    scale = VIT_B if arguments.device == "cuda" else SMALL
    rows = [measure(name, scale, arguments.device, arguments.rounds) for name in EXAMPLES]
    print(f"{scale}, {arguments.device}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(
        "| example | as written | with fastvid | | saved, as written | saved, with fastvid |\n|---|---|---|---|---|---|"
    )
    for row in rows:
        ms, saved = row["ms"], {variant: units.size(n) for variant, n in row["saved_bytes"].items()}
        print(
            f"| {row['example']} | {ms['plain']} ms | {ms['fastvid']} ms | {row['times_faster']:.2f}x | "
            f"{saved['plain']} | {saved['fastvid']} |"
        )
    if arguments.out:
        with open(arguments.out, "w") as file:
            json.dump({"scale": str(scale), "device": arguments.device, "rows": rows}, file, indent=1)


if __name__ == "__main__":
    main()
