"""Training augmentation of uint8 clips: colour jitter, RandAugment, mixup."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch

from fastvid.random import SampleRandom
from fastvid.ranges import NotNegative, Range

_STREAM, _MIX_STREAM = 11, 12  # Philox streams


@dataclass(frozen=True)
class ColourOptions:
    """The greatest changes of a clip's colours; 0 for none."""

    brightness: NotNegative = 0.0
    """As torchvision's ColorJitter."""
    contrast: NotNegative = 0.0
    """As torchvision's ColorJitter."""
    saturation: NotNegative = 0.0
    """As torchvision's ColorJitter."""
    hue: Annotated[float, Range(0, 0.5)] = 0.0
    """As torchvision's ColorJitter, at most 0.5."""


@dataclass(frozen=True)
class Augment(ColourOptions):
    """Changes a clip's colours and shape at random, the same for all of its frames.

    What happens to a clip is a pure function of (its sample id, ``seed``, the draw), and not of the batch it is in; on
    the CPU it is the same bit by bit. First comes colour jitter in the order brightness, contrast, saturation, hue,
    with the parameters of torchvision's ``ColorJitter``: a factor from [max(0, 1 - x), 1 + x], a hue shift from [-x, x]
    turns. Then comes RandAugment (arXiv 1909.13719), ``num_ops`` times one of its 14 operations, with the ranges of
    torchvision's: ``magnitude`` is in [0, 30], of which 30 shears by 0.3, turns by 30 degrees, shifts by 150 / 331 of
    the side, changes colour, contrast, brightness and sharpness by a factor 1 ± 0.9, leaves 4 bits, solarizes all.
    Statistics that an operation needs, such as the mean for contrast, are those of the whole clip, so that equal pixels
    stay equal from frame to frame.

    Mirroring and cropping are the view's (:class:`fastvid.video.ViewSpec`).

    Attributes:
        randaugment: (number of operations, magnitude); None: without.
        seed: the run's seed.

    Example:
        >>> augment = Augment(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1, randaugment=(2, 9), seed=0)
        >>> clips = augment(clips, sample_ids, draw=epoch)
    """

    randaugment: tuple[int, float] | None = None
    seed: int = 0

    def __post_init__(self):
        if min(self.brightness, self.contrast, self.saturation) < 0 or not 0 <= self.hue <= 0.5:
            raise ValueError(
                f"colour jitter needs brightness, contrast and saturation of at least 0 and hue in [0, 0.5]; got {self}"
            )
        if self.randaugment is not None and not (self.randaugment[0] >= 1 and 0 <= self.randaugment[1] <= 30):
            raise ValueError(
                f"RandAugment needs at least one operation and a magnitude in [0, 30]; got {self.randaugment}"
            )

    @property
    def does_nothing(self) -> bool:
        """Return whether every clip stays as it is."""
        return not (self.brightness or self.contrast or self.saturation or self.hue or self.randaugment)

    def __call__(self, clips: torch.Tensor, ids: torch.Tensor, draw: int) -> torch.Tensor:
        """Augment a batch.

        Args:
            clips: uint8 [B, T, H, W, 3], on any device; not changed.
            ids: int64 [B], sample ids (:func:`fastvid.random.sample_id`).
            draw: number of the draw of these samples, such as the epoch.

        Returns:
            uint8 [B, T, H, W, 3] on the same device; ``clips`` itself where there is nothing to do.

        Raises:
            ValueError: other shapes or dtypes.
        """
        if clips.dtype != torch.uint8 or clips.ndim != 5 or clips.shape[-1] != 3:
            raise ValueError(f"clips to augment must be uint8 [B, T, H, W, 3]; got {clips.dtype} {list(clips.shape)}")
        if ids.dtype != torch.int64 or ids.shape != clips.shape[:1]:
            raise ValueError(f"{len(clips)} clips need int64 ids [{len(clips)}]; got {ids.dtype} {list(ids.shape)}")
        if self.does_nothing:
            return clips
        out = torch.empty_like(clips)
        for clip, ident, place in zip(clips, ids.tolist(), out, strict=True):
            rng = SampleRandom(ident, self.seed, draw, stream=_STREAM)
            place.copy_(self._one(clip.permute(0, 3, 1, 2), rng).permute(0, 2, 3, 1))
        return out

    def _one(self, clip: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        """Augment one clip uint8 [T, 3, H, W]."""
        from fastvid.nn.augment_ops import OPS, apply_op, colour_jitter  # and torchvision, which takes seconds

        # All four are always drawn, so that one's being off moves none of the others.
        brightness, contrast, saturation = (
            rng.uniform(max(0.0, 1 - x), 1 + x) for x in (self.brightness, self.contrast, self.saturation)
        )
        hue = rng.uniform(-self.hue, self.hue)
        clip = colour_jitter(
            clip, brightness if self.brightness else None, contrast if self.contrast else None,
            saturation if self.saturation else None, hue if self.hue else None,
        )  # fmt: skip
        if self.randaugment is not None:
            count, magnitude = self.randaugment
            for _ in range(count):
                op, sign = OPS[rng.below(len(OPS))], 1 - 2 * rng.below(2)
                clip = apply_op(clip, op, magnitude / 30, sign)
        return clip


def mixup(
    x: torch.Tensor, targets: torch.Tensor, alpha: float, seed: int, draw: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mix each sample of a batch with the next one, and the last with the first (arXiv 1710.09412).

    ``lambda x_i + (1 - lambda) x_{i+1}``, and the same of the targets, with one lambda ~ Beta(alpha, alpha) for the
    batch, as the paper's authors do: a pure function of (alpha, seed, draw).

    Args:
        x: [B, ...]: uint8 clips, which are mixed in float32 and rounded, or floating features.
        targets: floating [B, C], such as one-hot rows.
        alpha: above 0; the smaller, the nearer lambda is to 0 or 1.
        seed: the run's seed.
        draw: number of the draw, such as the optimizer step.

    Returns:
        (x, targets) of the same shapes and dtypes; new tensors.

    Raises:
        ValueError: alpha is not above 0, or shapes or dtypes cannot be mixed.
    """
    if not alpha > 0:
        raise ValueError(f"mixup needs alpha above 0; got {alpha}")
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise ValueError(f"mixup is of uint8 clips or floating features; got {x.dtype}")
    if not targets.is_floating_point() or targets.ndim != 2 or len(targets) != len(x):
        raise ValueError(
            f"mixup of {len(x)} samples needs floating targets [{len(x)}, C]; got {targets.dtype} {list(targets.shape)}"
        )
    share = beta(alpha, SampleRandom("mixup", seed, draw, stream=_MIX_STREAM))
    return _mixed(x, share), _mixed(targets, share)


def beta(alpha: float, rng: SampleRandom) -> float:
    """Draw a number in [0, 1] from Beta(alpha, alpha): G1 / (G1 + G2) of two Gamma(alpha) variates."""
    difference = _log_gamma_variate(alpha, rng) - _log_gamma_variate(alpha, rng)
    # Rounded, so that a last-digit difference between math libraries stays without effect.
    return round(1 / (1 + math.exp(min(-difference, 700.0))), 6)


def _log_gamma_variate(shape: float, rng: SampleRandom) -> float:
    """Draw the logarithm of a variate from Gamma(shape, 1), which itself underflows for small shapes.

    Source: Marsaglia and Tsang, "A simple method for generating gamma variables", ACM TOMS 26, 2000; shapes below 1 as
    in its section 6.
    """
    boost = 0.0
    if shape < 1:
        boost, shape = math.log(_open_uniform(rng)) / shape, shape + 1
    d = shape - 1 / 3
    c = 1 / math.sqrt(9 * d)
    while True:
        # Box and Muller's normal variate.
        x = math.sqrt(-2 * math.log(_open_uniform(rng))) * math.cos(2 * math.pi * rng.uniform())
        v = (1 + c * x) ** 3
        if v > 0 and math.log(_open_uniform(rng)) < x * x / 2 + d - d * v + d * math.log(v):
            return math.log(d * v) + boost


def _open_uniform(rng: SampleRandom) -> float:
    """Draw a uniform float in (0, 1)."""
    return (rng.word() + 0.5) / 2**32


def _mixed(x: torch.Tensor, share: float) -> torch.Tensor:
    mixed = torch.lerp(x.roll(-1, 0).float(), x.float(), share)
    return (mixed.round_() if x.dtype == torch.uint8 else mixed).to(x.dtype)
