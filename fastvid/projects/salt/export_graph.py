"""An encoder as one file without Python code: a program of torch.export, or an ONNX model."""

import copy
import importlib.util
import warnings
from pathlib import Path

import torch
from torch import nn

from fastvid.models.vit import VideoViT
from fastvid.projects.salt.export_check import check_equal, random_clips
from fastvid.projects.salt.trained import TrainedEncoder

_ONE_FILE = 1_500_000_000  # bytes of weights; an ONNX file holds at most 2 GB, larger ones have theirs beside it
_TOLERANCE = 1e-4  # of the largest value, in float32


class ClipsToTokens(nn.Module):
    """An encoder of torch's own operations alone: clips uint8 [B, T, H, W, 3] to float32 tokens [B, N, dim]."""

    def __init__(self, encoder: VideoViT):
        super().__init__()
        self.encoder = copy.deepcopy(encoder).cpu().float().eval()
        mean, std = torch.tensor(encoder.config.mean), torch.tensor(encoder.config.std)
        self.scale: torch.Tensor  # (pixel / 255 - mean) / std = pixel * scale + shift
        self.shift: torch.Tensor
        self.register_buffer("scale", 1 / (255 * std))
        self.register_buffer("shift", -mean / std)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Compute the tokens."""
        pixels = (clips.float() * self.scale + self.shift).permute(0, 4, 1, 2, 3)
        x = self.encoder.patch_embed.proj(pixels).flatten(2).transpose(1, 2)
        return self.encoder.encode(self.encoder.patch_norm(x) + self.encoder.positions)


@torch.no_grad()
def write_pt2(trained: TrainedEncoder, folder: Path) -> None:
    """Write ``model.pt2``, which ``torch.export.load`` opens, for any number of clips, and compare it.

    Raises:
        ValueError: what it computes is not what the encoder does.
    """
    module, clips = ClipsToTokens(trained.encoder), random_clips(trained.encoder.config, 2)
    program = torch.export.export(module, (clips,), dynamic_shapes={"clips": {0: _batch()}})
    path = folder / "model.pt2"
    torch.export.save(program, path)
    clips = random_clips(trained.encoder.config, 3)
    _check(trained, clips, torch.export.load(path).module()(clips), "the program")


@torch.no_grad()
def write_onnx(trained: TrainedEncoder, folder: Path) -> None:
    """Write ``model.onnx``, from ``clips`` to ``tokens``, for any number of clips, and compare it in ONNX Runtime.

    Raises:
        ValueError: onnx is not installed, or what it computes is not what the encoder does.
    """
    if any(importlib.util.find_spec(name) is None for name in ("onnx", "onnxscript", "onnxruntime")):
        raise ValueError("--to onnx needs onnx: pip install 'fastvid[onnx]'")
    import onnxruntime

    module, path = ClipsToTokens(trained.encoder), folder / "model.onnx"
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch about itself
        torch.onnx.export(
            module, (random_clips(trained.encoder.config, 2),), path, input_names=["clips"], output_names=["tokens"],
            dynamo=True, dynamic_shapes={"clips": {0: _batch()}}, external_data=size > _ONE_FILE, verbose=False,
        )  # fmt: skip
    clips = random_clips(trained.encoder.config, 3)
    (tokens,) = onnxruntime.InferenceSession(path).run(None, {"clips": clips.numpy()})
    _check(trained, clips, torch.from_numpy(tokens), "the ONNX model")


def _batch() -> "torch.export.Dim":
    return torch.export.Dim("batch", min=1, max=1 << 16)


def _check(trained: TrainedEncoder, clips: torch.Tensor, found: torch.Tensor, what: str) -> None:
    expected = copy.deepcopy(trained.encoder).cpu().float().eval()(clips)
    check_equal(found, expected, _TOLERANCE, what)
