"""Frozen teachers: what the student's predictions are compared with.

A teacher takes the whole uint8 clip and returns one latent per token of the student's grid. It is always in eval mode,
never has gradients, and normalises pixels its own way.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.pixel_statistics import pixel_statistics
from fastvid.models.pretrained import IMAGE_ENCODERS, Parts, load_pretrained, open_config
from fastvid.models.vit import VideoViT


class Teacher(nn.Module):
    """A frozen model that gives one latent per token of the student's grid.

    Attributes:
        grid: (T, H, W) tokens.
        dim: width of a latent.
        depth: number of blocks.
        layers: numbers of the blocks that teach; empty for the last one alone.
        name: for logs and reports.
    """

    grid: tuple[int, int, int]
    dim: int
    depth: int
    layers: tuple[int, ...] = ()
    name: str
    scale: torch.Tensor  # float32 [3], of teachers that normalise pixels here: pixel * scale + shift
    shift: torch.Tensor

    def freeze(self) -> "Teacher":
        """Turn gradients off permanently; :meth:`train` has no effect afterwards."""
        self.requires_grad_(False)
        return self.eval()

    def train(self, mode: bool = True) -> "Teacher":
        return super().train(False)

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def deep_latents(self, clip: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
        """Return what several blocks give, side by side, [B, N, len(layers) * dim]: the last block's output after the
        last norm, the others' before any."""
        raise NotImplementedError

    def normalize_as(self, source: str) -> None:
        """Normalise pixels as the model at ``source`` wants them: ``scale`` and ``shift`` become buffers."""
        mean, std = pixel_statistics(source)  # (pixel / 255 - mean) / std
        self.register_buffer("scale", 1 / (255 * torch.tensor(std)), persistent=False)
        self.register_buffer("shift", -torch.tensor(mean) / torch.tensor(std), persistent=False)

    @torch.no_grad()
    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        """Map clip uint8 [B, T, H, W, 3] to latents [B, N, dim]."""
        return self.latents(clip)


class DeepTeacher(Teacher):
    """A teacher of which several blocks teach, each with a latent of every token.

    Args:
        teacher: whose blocks they are.
        layers: their numbers, ascending; the first block is 1.

    Raises:
        ValueError: the teacher does not have these blocks.
    """

    def __init__(self, teacher: Teacher, layers: Sequence[int]):
        super().__init__()
        check_layers(layers, teacher.depth, f"teacher {teacher.name}")
        self.teacher, self.layers = teacher, tuple(layers)
        self.grid, self.dim, self.depth, self.name = teacher.grid, teacher.dim, teacher.depth, teacher.name
        self.freeze()

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        """Map clips to [B, N * len(layers), dim]: the latents of a token are rows next to each other."""
        return self.teacher.deep_latents(clip, self.layers).unflatten(-1, (len(self.layers), -1)).flatten(1, 2)


def with_layers(teacher: Teacher, layers: Sequence[int]) -> Teacher:
    """Return the :class:`DeepTeacher` of these blocks, or the teacher itself where none are named."""
    return DeepTeacher(teacher, layers) if layers else teacher


def check_layers(layers: Sequence[int], depth: int, who: str) -> None:
    """Raise ValueError unless these are numbers of an encoder's blocks, ascending, none twice."""
    if list(layers) != sorted(set(layers)) or not all(1 <= layer <= depth for layer in layers):
        raise ValueError(
            f"layers {', '.join(map(str, layers))}: {who} has blocks 1 to {depth}; give some of them in ascending order"
        )


class EncoderTeacher(Teacher):
    """A video ViT of our own: the pixel teacher of stage 1, or one from a checkpoint."""

    def __init__(self, encoder: VideoViT, name: str = "pixel"):
        super().__init__()
        self.encoder, self.grid, self.dim, self.name = encoder, encoder.grid, encoder.dim, name
        self.depth = len(encoder.blocks)
        self.freeze()

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        return self.encoder(clip)

    def deep_latents(self, clip: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
        return self.encoder(clip, None, layers)


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
        config: its configuration, where it has been opened.

    Raises:
        FileNotFoundError: nothing at ``source``.
        ValueError: neither model family; damaged files, or weights that do not fit; or the model was built for other
            clips than the student's.
    """

    def __init__(self, source: str, *, frames: int, size: int, config: Any = None):
        super().__init__()
        from transformers import AutoModel

        config = open_config(source, _FAMILIES) if config is None else config
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
        self.depth = config.num_hidden_layers
        side = size // config.patch_size
        self.grid = (frames // config.tubelet_size, side, side)
        self.normalize_as(source)
        self.freeze()

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        return self._run(clip).last_hidden_state

    def deep_latents(self, clip: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
        return _side_by_side(self._run(clip, output_hidden_states=True), layers, self.depth)

    def _run(self, clip: torch.Tensor, **options: bool) -> Any:
        pixels = (clip.to(self.scale.dtype) * self.scale + self.shift).permute(0, 1, 4, 2, 3)  # [B, T, 3, H, W]
        if self.family == "videomae":
            return self.model(pixel_values=pixels, **options)
        return self.model(pixel_values_videos=pixels, skip_predictor=True, **options)


def _side_by_side(out: Any, layers: Sequence[int], depth: int) -> torch.Tensor:
    """Return what these blocks of a transformers model gave, [B, N, len(layers) * dim]."""
    # The first hidden states went into the first block; the last are before or after the norm, as a family has it.
    states = [out.last_hidden_state if layer == depth else out.hidden_states[layer] for layer in layers]
    return torch.cat(states, dim=-1)


class ImageTeacher(Teacher):
    """A transformers DINOv2 or DINOv3 that encodes each frame; the latent of a token is the mean over its frames.

    Frames are resized (bilinear, antialiased) so that one patch of the encoder covers one token of the student: clips
    of 224 pixels in tokens of 16 become frames of 196 for patches of 14. It teaches what things are at every moment;
    how they move, the student learns where it predicts moments that are hidden.

    Args:
        source: hub name or folder with ``config.json`` and ``model.safetensors``, which must hold every tensor of the
            encoder. Its code is never executed. Pixels are normalised as for :class:`HuggingFaceTeacher`.
        grid: (T, H, W) tokens of the student.
        tubelet: frames of a token.
        config: its configuration, where it has been opened.

    Raises:
        FileNotFoundError: nothing at ``source``.
        ValueError: another model family; damaged files, or weights that do not fit.
    """

    def __init__(self, source: str, *, grid: tuple[int, int, int], tubelet: int, config: Any = None):
        super().__init__()
        from transformers import AutoModel

        config = open_config(source, IMAGE_ENCODERS) if config is None else config
        # The mask token is of its pretraining: nothing here reads it.
        self.model, _ = load_pretrained(AutoModel, source, config=config, parts=Parts(("embeddings.mask_token",)))
        self.family, self.name, self.dim = config.model_type, f"hf:{source}", config.hidden_size
        self.grid, self.tubelet, self.depth = grid, tubelet, config.num_hidden_layers
        self.side = (grid[1] * config.patch_size, grid[2] * config.patch_size)
        self.normalize_as(source)
        self.freeze()

    def latents(self, clip: torch.Tensor) -> torch.Tensor:
        return self._of_tubelets(self._run(clip).last_hidden_state, len(clip))

    def deep_latents(self, clip: torch.Tensor, layers: Sequence[int]) -> torch.Tensor:
        tokens = _side_by_side(self._run(clip, output_hidden_states=True), layers, self.depth)
        return self._of_tubelets(tokens, len(clip))

    def _run(self, clip: torch.Tensor, **options: bool) -> Any:
        pixels = (clip.to(self.scale.dtype) * self.scale + self.shift).flatten(0, 1).permute(0, 3, 1, 2)
        if pixels.shape[2:] != self.side:
            pixels = F.interpolate(pixels, self.side, mode="bilinear", antialias=True)
        return self.model(pixel_values=pixels, **options)

    def _of_tubelets(self, tokens: torch.Tensor, clips: int) -> torch.Tensor:
        """Map the tokens of all frames, [clips * T, tokens, D], to those of the tubelets, [clips, N, D]."""
        patches = tokens[:, -self.grid[1] * self.grid[2] :]  # behind the class token and the registers
        return patches.unflatten(0, (clips, self.grid[0], self.tubelet)).mean(2).flatten(1, 2)


def load_teacher(source: str, *, frames: int, size: int, patch: int = 16, tubelet: int = 2) -> Teacher:
    """Open a teacher that is not trained here.

    Args:
        source: ``checkpoint:PATH`` (a folder with an encoder, or a run's folder) or ``hf:NAME_OR_DIR``.
        frames: number of frames of the student's clips.
        size: size of the student's clips, pixels.
        patch: side of the student's tokens, pixels; for an encoder of images, which takes any.
        tubelet: frames of the student's tokens; for an encoder of images.

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
        config = open_config(where, _FAMILIES | IMAGE_ENCODERS)
        if config.model_type not in IMAGE_ENCODERS:
            return HuggingFaceTeacher(where, frames=frames, size=size, config=config)
        if size % patch or frames % tubelet:
            raise ValueError(
                f"{frames} frames of {size} x {size} pixels do not divide into tokens of {tubelet} frames of "
                f"{patch} x {patch}, for teacher {where}"
            )
        grid = (frames // tubelet, size // patch, size // patch)
        return ImageTeacher(where, grid=grid, tubelet=tubelet, config=config)
    raise ValueError(f"teacher source {source!r}: use pixel, checkpoint:PATH or hf:NAME_OR_DIR")


def check_grids(teacher: Teacher, student: VideoViT) -> None:
    """Raise ValueError unless teacher and student cut a clip into the same tokens."""
    if teacher.grid != student.grid:
        raise ValueError(
            f"teacher {teacher.name} has a token grid of {teacher.grid}, the student of {student.grid}: their patch "
            "and tubelet sizes must agree"
        )
