"""Random numbers of many generated videos at once, in NumPy: each a pure function of (seed, index, stream)."""

import numpy as np

from fastvid.random import philox4x32, split64


def uniforms(seed: int, indices: np.ndarray, shape: tuple[int, ...], stream: int) -> np.ndarray:
    """Draw uniform numbers for each of many videos.

    A video's numbers depend on ``seed``, its index and ``stream`` alone, not on the other videos drawn with it.

    Args:
        seed: of the data set, in [0, 2**63).
        indices: int64 [V], which videos.
        shape: numbers of each video.
        stream: keeps independent uses apart, in [0, 16).

    Returns:
        float64 [V, *shape] in [0, 1), of 32 random bits each.
    """
    count = int(np.prod(shape))
    blocks = np.arange(-(-count // 4), dtype=np.int64)[None, :] + (stream << 28)
    low, high = split64(np.asarray(indices, np.int64)[:, None])
    words = philox4x32((blocks, 0, low, high), split64(seed))
    flat = np.stack(words, axis=-1).reshape(len(indices), -1)[:, :count]
    return (flat / 2.0**32).reshape(len(indices), *shape)


def whole(uniform: np.ndarray, low: int, high: int) -> np.ndarray:
    """Map uniform numbers in [0, 1) to int64 in [low, high], both included."""
    return low + (uniform * (high - low + 1)).astype(np.int64)


def between(uniform: np.ndarray, low: float, high: float) -> np.ndarray:
    """Map uniform numbers in [0, 1) to [low, high)."""
    return low + uniform * (high - low)
