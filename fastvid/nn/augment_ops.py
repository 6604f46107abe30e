"""torchvision's colour and shape operations on all frames of a uint8 clip alike."""

import math

import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

_GREY = (124.0, 116.0, 104.0)  # ImageNet's mean, about zero once normalised: what comes in from outside the frame

OPS = (
    "identity", "autocontrast", "equalize", "rotate", "solarize", "color", "posterize", "contrast", "brightness",
    "sharpness", "shear_x", "shear_y", "translate_x", "translate_y",
)  # fmt: skip


def colour_jitter(
    clip: torch.Tensor, brightness: float | None, contrast: float | None, saturation: float | None, hue: float | None
) -> torch.Tensor:
    """Apply colour jitter, in this order, with given factors (a shift in turns for hue); None leaves one out.

    Args:
        clip: uint8 [T, 3, H, W].
        brightness: factor.
        contrast: factor.
        saturation: factor.
        hue: in [-0.5, 0.5].

    Returns:
        uint8 [T, 3, H, W].
    """
    tall = _tall(clip)
    if brightness is not None:
        tall = tv.adjust_brightness(tall, brightness)
    if contrast is not None:
        tall = tv.adjust_contrast(tall, contrast)
    if saturation is not None:
        tall = tv.adjust_saturation(tall, saturation)
    if hue is not None:
        tall = tv.adjust_hue(tall, hue)
    return _frames(tall, len(clip))


def apply_op(clip: torch.Tensor, op: str, strength: float, sign: int = 1) -> torch.Tensor:
    """Apply one operation of RandAugment to all frames of a clip.

    Args:
        clip: uint8 [T, 3, H, W].
        op: one of ``OPS``.
        strength: in [0, 1].
        sign: +1 or -1, for the operations that have a direction.

    Returns:
        uint8 [T, 3, H, W].
    """
    height, width = clip.shape[-2:]
    signed = sign * strength
    match op:
        case "identity":
            return clip
        case "rotate":
            return _moved(clip, angle=-30.0 * signed)  # positive angles of affine are clockwise
        case "shear_x" | "shear_y":
            degrees = math.degrees(math.atan(0.3 * signed))
            return _moved(clip, shear=[degrees, 0.0] if op == "shear_x" else [0.0, degrees])
        case "translate_x" | "translate_y":
            along_x = op == "translate_x"
            pixels = int(150 / 331 * (width if along_x else height) * signed)
            return _moved(clip, translate=[pixels, 0] if along_x else [0, pixels])
        case "sharpness":
            return tv.adjust_sharpness(clip, 1 + 0.9 * signed)
    tall = _tall(clip)
    match op:
        case "autocontrast":
            tall = tv.autocontrast(tall)
        case "equalize":
            tall = tv.equalize(tall)
        case "posterize":
            tall = tv.posterize(tall, 8 - round(4 * strength))
        case "solarize":
            tall = tv.solarize(tall, 255 * (1 - strength))
        case "color":
            tall = tv.adjust_saturation(tall, 1 + 0.9 * signed)
        case "contrast":
            tall = tv.adjust_contrast(tall, 1 + 0.9 * signed)
        case "brightness":
            tall = tv.adjust_brightness(tall, 1 + 0.9 * signed)
        case _:
            raise ValueError(f"RandAugment has no operation {op!r}: choose one of {', '.join(OPS)}")
    return _frames(tall, len(clip))


def _tall(clip: torch.Tensor) -> torch.Tensor:
    """Map [T, 3, H, W] to [3, T * H, W]: all frames as one image, whose statistics are the clip's."""
    return clip.transpose(0, 1).flatten(1, 2)


def _frames(tall: torch.Tensor, count: int) -> torch.Tensor:
    """Undo :func:`_tall`."""
    return tall.unflatten(1, (count, -1)).transpose(0, 1)


def _moved(
    clip: torch.Tensor, *, angle: float = 0.0, translate: list[float] | None = None, shear: list[float] | None = None
) -> torch.Tensor:
    """Move pixels; a shear is about the top left corner, as in RandAugment's first implementation."""
    grey = torch.tensor(_GREY, device=clip.device)[:, None, None]
    # Around grey, so that what comes in is zero: torchvision's own fill leaves a dark seam.
    moved = tv.affine(
        clip - grey,
        angle=angle,
        translate=translate or [0.0, 0.0],
        scale=1.0,
        shear=shear or [0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        center=[0.0, 0.0] if shear else None,
    )
    return moved.add_(grey).round_().clamp_(0, 255).to(torch.uint8)
