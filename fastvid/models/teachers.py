"""Frozen teachers: what the student's predictions are compared with.

A teacher takes the whole uint8 clip and returns one latent per token of the student's grid. It is always in eval mode,
never has gradients, and normalises pixels its own way.
"""

from pathlib import Path

import torch
from torch import nn

from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.pixel_statistics import pixel_statistics
from fastvid.models.pretrained import Parts, load_pretrained, open_config
from fastvid.models.vit import VideoViT


class Teacher(nn.Module):
    """Base of the teachers.

    Attributes:
        grid: (T, H, W) tokens.
        dim: width of a latent.
        name: for logs and reports.
    """

    grid: tuple[int, int, int]
    dim: int
    name: str

    def freeze(self) -> "Teacher":
        """Turn gradients off permanently; :meth:`train` has no effect afterwards."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(False)

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    @torch.no_grad()
    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Map clip uint8 [B, T, H, W, 3] to latents [B, N, dim]."""
        return self.latents(clip)


class EncoderTeacher(Teacher):
    """A video ViT of our own: the pixel teacher of stage 1, or one from a checkpoint."""

    def __init__(self, encoder: VideoViT, name: str = "pixel"):
        super().__init__()
        self.encoder, self.grid, self.dim, self.name = encoder, encoder.grid, encoder.dim, name
        self.freeze()

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        return self.encoder(clip)


# What the encoders can do without: V-JEPA 2's predictor, the decoder of VideoMAE's pretraining, classifiers' heads.
_FAMILIES = {"videomae": "VideoMAE", "vjepa2": "V-JEPA 2"}
_PARTS = {
    "videomae": Parts(may_leave_out=("decoder.", "encoder_to_decoder.", "mask_token", "fc_norm.", "classifier.")),
    "vjepa2": Parts(may_lack=("predictor.",), may_leave_out=("pooler.", "classifier.")),
}


class HuggingFaceTeacher(Teacher):
    """A transformers VideoMAE or V-JEPA 2 encoder, from the hub or a local folder.

    Args:
        source: hub name or folder with ``config.json`` and ``model.safetensors``, which must hold every tensor of the
            encoder. Its code is never executed: ``trust_remote_code`` is off. Pixels are normalised by its
            ``preprocessor_config.json`` where it has one, by ImageNet's statistics otherwise, which is what both
            families were trained with.
        frames: frames of the student's clips. V-JEPA 2's rotary positions take any length; VideoMAE's
            table takes its own.
        size: side of the student's clips in pixels.

    Raises:
        FileNotFoundError: nothing at ``source``.
        ValueError: neither model family; damaged files, or weights that do not fit; or the model was built for other
            clips than the student's.
    """

    def __init__(self, source: str, *, frames: int, size: int):
        super().__init__()
        from transformers import AutoModel

        config = open_config(source, _FAMILIES)
        videomae = config.model_type == "videomae"
        side_of = "image_size" if videomae else "crop_size"
        for name in (side_of, "num_frames" if videomae else "frames_per_clip", "patch_size", "tubelet_size"):
            if type(getattr(config, name)) is not int or getattr(config, name) < 1:
                raise ValueError(
                    f"teacher {source}: {name} is {getattr(config, name)!r} in its config.json, not a whole number"
                )
        wants_size = getattr(config, side_of)
        wants_frames = config.num_frames if videomae else frames
        if (wants_frames, wants_size) != (frames, size) or frames % config.tubelet_size:
            raise ValueError(
                f"teacher {source} takes clips of {wants_frames} frames of {wants_size} x {wants_size} pixels, in "
                f"pairs; the student's have {frames} of {size} x {size}: set --data.frames and --data.size to match"
            )
        self.model, lacking = load_pretrained(AutoModel, source, config=config, parts=_PARTS[config.model_type])
        if "predictor." in lacking:  # it was drawn at random, and the weights' hash is to be that of the files
            self.model.predictor = None
        self.family, self.name, self.dim = config.model_type, f"hf:{source}", config.hidden_size
        side = size // config.patch_size
        self.grid = (frames // config.tubelet_size, side, side)
        mean, std = pixel_statistics(source)
        self.scale: torch.Tensor  # (pixel / 255 - mean) / std = pixel * scale + shift
        self.shift: torch.Tensor
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)), persistent=False)
        self.register_buffer("shift", -torch.tensor(mean) / torch.tensor(std), persistent=False)
        self.freeze()

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        pixels = (clip.to(self.scale.dtype) * self.scale + self.shift).permute(0, 1, 4, 2, 3)  # [B, T, 3, H, W]
        if self.family == "videomae":
            return self.model(pixel_values=pixels).last_hidden_state
        return self.model(pixel_values_videos=pixels, skip_predictor=True).last_hidden_state


def load_teacher(source: str, *, frames: int, size: int) -> Teacher:
    """Open a teacher that is not trained here.

    Args:
        source: ``checkpoint:PATH`` (a folder with an encoder, or a run's folder) or ``hf:NAME_OR_DIR``.
        frames: number of frames of the student's clips.
        size: size of the student's clips, pixels.

    Raises:
        ValueError: another kind of source, a teacher for other clips, damaged files, or weights that do not fit.
        FileNotFoundError: nothing at PATH, NAME or DIR.
    """
    kind, _, where = source.partition(":")
    if kind == "checkpoint" and where:
        folder = Path(where).expanduser()
        # A run keeps its encoders in sub-folders; the student is what it was run for.
        inner = next((folder / n for n in ("student", "teacher") if (folder / n / "encoder.json").is_file()), folder)
        encoder = load_encoder(inner)
        if (encoder.config.frames, encoder.config.size) != (frames, size):
            raise ValueError(
                f"teacher {inner} takes clips of {encoder.config.frames} frames of {encoder.config.size} pixels; the "
                f"student's have {frames} of {size}"
            )
        return EncoderTeacher(encoder, name=source)
    if kind == "hf" and where:
        return HuggingFaceTeacher(where, frames=frames, size=size)
    raise ValueError(f"teacher source {source!r}: use pixel, checkpoint:PATH or hf:NAME_OR_DIR")


def check_grids(teacher: Teacher, student: VideoViT) -> None:
    """Raise ValueError unless teacher and student cut a clip into the same tokens."""
    if teacher.grid != student.grid:
        raise ValueError(
            f"teacher {teacher.name} has a token grid of {teacher.grid}, the student of {student.grid}: their patch "
            "and tubelet sizes must agree"
        )
