"""Pictures of clips: what is hidden, what is painted, what an encoder tells apart."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image

_HIDDEN = np.array([38, 42, 54], dtype=np.float32)


def hide(clip: np.ndarray, shown: np.ndarray, grid: tuple[int, int, int], strength: float = 0.85) -> np.ndarray:
    """Darken the tokens of a clip that are hidden.

    Args:
        clip: uint8 [T, H, W, 3].
        shown: int64 [V], tokens that stay as they are.
        grid: (T', H', W') tokens.
        strength: 1 hides completely.

    Returns:
        uint8 [T, H, W, 3].
    """
    mask = np.zeros(grid, dtype=np.float32).reshape(-1)
    mask[shown] = 1
    full = _to_pixels(mask.reshape(grid), clip.shape)[..., None]
    dark = clip * (1 - strength) + _HIDDEN * strength
    return np.where(full > 0, clip, dark).astype(np.uint8)


def feature_colours(tokens: torch.Tensor, grid: tuple[int, int, int], shape: tuple[int, ...]) -> np.ndarray:
    """Return the three leading principal components of some clips' tokens as colours.

    Args:
        tokens: [B, N, D]; the components are those of all of them together.
        grid: (T', H', W').
        shape: shape of one clip, (T, H, W, 3).

    Returns:
        uint8 [B, T, H, W, 3].
    """
    flat = tokens.float().flatten(0, 1)
    flat = flat - flat.mean(0)
    _, _, basis = torch.pca_lowrank(flat, q=min(3, flat.shape[1]), center=False)
    scores = flat @ basis
    low, high = scores.quantile(0.02, dim=0), scores.quantile(0.98, dim=0)
    colours = ((scores - low) / (high - low).clamp(min=1e-6)).clamp(0, 1) * 255
    images = colours.unflatten(0, (len(tokens), *grid)).numpy()
    return np.stack([_to_pixels(image, shape) for image in images]).astype(np.uint8)


def film_strips(rows: list[np.ndarray], path: Path, *, frames: int = 8, side: int = 96) -> None:
    """Save clips as rows of frames, evenly spaced in time.

    Args:
        rows: uint8 [T, H, W, 3] each.
        path: path of the PNG.
        frames: per row.
        side: side of a frame in the picture, pixels.
    """
    strips = []
    for clip in rows:
        pick = np.linspace(0, len(clip) - 1, frames).round().astype(int)
        images = [Image.fromarray(clip[i]).resize((side, side), Image.Resampling.BICUBIC) for i in pick]
        framed = [np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)), constant_values=255) for image in images]
        strips.append(np.concatenate(framed, axis=1))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(strips, 0)).save(path)


def _to_pixels(values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Repeat one value per token, [T', H', W', ...], over the token's pixels."""
    for axis in range(3):
        values = values.repeat(shape[axis] // values.shape[axis], axis=axis)
    return values
