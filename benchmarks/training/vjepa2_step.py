"""A step of fine-tuning V-JEPA 2's pooler, on features that are kept and with the frozen encoder in every step.

No video is decoded: clips are random, and what is compared is the GPU's part of ``--approach pooler``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from benchmarks.training.salt_sides import autocast
from fastvid.projects.vjepa2.approach import apply_approach
from fastvid.projects.vjepa2.model import VJepa2Classifier

NAME = "V-JEPA 2 step, pooler on kept features"
OTHER = "encoder in every step"
CLASSES = 4


@dataclass(frozen=True)
class Size:
    """The sizes of a classifier with random weights, and of its batch; the default is the ViT-L of the checkpoints.

    Attributes:
        layers: of the encoder.
        width: width of a token, a multiple of 64.
        side: side of a frame, pixels.
        batch: clips in a step.
    """

    layers: int = 24
    width: int = 1024
    side: int = 256
    batch: int = 16


def make_steps(size: Size, device: torch.device) -> tuple[Callable[[], None], Callable[[], None]]:
    """Make a step on kept features and one that computes them first, of one model; both update its pooler and head."""
    config: Any = VJEPA2Config(
        crop_size=size.side, frames_per_clip=16, hidden_size=size.width, num_hidden_layers=size.layers,
        num_attention_heads=size.width // 64, pred_hidden_size=24, pred_num_hidden_layers=1,
        pred_num_attention_heads=2, pred_num_mask_tokens=1,
    )  # fmt: skip
    config.num_labels = CLASSES
    torch.manual_seed(0)
    with device:
        model = VJepa2Classifier(VJEPA2ForVideoClassification(config))
    apply_approach(model, "pooler")
    model.to(device).train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5, fused=True)
    clip = torch.randint(256, (size.batch, 16, size.side, size.side, 3), dtype=torch.uint8, device=device)
    labels = torch.arange(size.batch, device=device) % CLASSES
    with autocast(device):
        kept = model.frozen_features(clip).bfloat16()

    def update(features: torch.Tensor) -> None:
        with autocast(device):
            logits = model(features)
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if device.type == "cuda":
            torch.cuda.synchronize()

    def on_kept() -> None:
        update(kept.float())

    def on_clips() -> None:
        with autocast(device):
            features = model.frozen_features(clip)
        update(features.float())

    return on_kept, on_clips
