"""Detection: blobs of foreground pixels, for all frames of many videos at once."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import ndimage

Detector = Literal["threshold", "median"]

_BRIGHT = 64  # of 255: mean of the channels from which a pixel is foreground, for the detector threshold
_DIFFERENT = 40  # of 255: greatest difference of a channel from the background, for the detector median
_LEAST_PIXELS = 4  # smaller blobs are noise, or slivers beside something that covers the rest
_MEDIAN_OF = 9  # frames that the background is the median of
# Pixels that touch, also at a corner, are one blob; those of different frames never are: the outer planes are zero.
_IN_PLANE = np.zeros((3, 3, 3), bool)
_IN_PLANE[1] = True


@dataclass(frozen=True)
class Detections:
    """The blobs of some videos, N in all, ordered by video, then frame.

    Attributes:
        videos: V, number of videos.
        frames: T, frames of each.
        video: int64 [N].
        frame: int64 [N].
        boxes: float32 [N, 4], left, top, right and bottom as fractions of the frame.
        colour: float32 [N, 3], mean RGB in [0, 1].
    """

    videos: int
    frames: int
    video: np.ndarray
    frame: np.ndarray
    boxes: np.ndarray
    colour: np.ndarray


def find_blobs(frames: np.ndarray, detector: Detector) -> Detections:
    """Find connected foreground pixels in uint8 [V, T, H, W, 3].

    Args:
        frames: the videos.
        detector: ``"threshold"``: what is bright on black is foreground. ``"median"``: what differs from the pixel's
            median over the video's frames is, so that the background may be anything that stands still.
    """
    V, T, H, W, _ = frames.shape
    foreground = _bright(frames) if detector == "threshold" else _moving(frames)
    labels, count = ndimage.label(foreground.reshape(V * T, H, W), _IN_PLANE)
    flat = np.flatnonzero(labels)
    blob = labels.reshape(-1)[flat] - 1
    # Every blob's pixels together, to reduce them in one pass each.
    order = np.argsort(blob, kind="stable")
    flat, blob = flat[order], blob[order]
    starts = np.flatnonzero(np.diff(blob, prepend=-1))
    if not count:
        starts = np.zeros(0, np.int64)
    image, row, column = flat // (H * W), flat // W % H, flat % W
    pixels = np.diff(starts, append=len(flat))
    low, high = np.minimum.reduceat, np.maximum.reduceat
    edges = [low(column, starts), low(row, starts), high(column, starts) + 1, high(row, starts) + 1] if count else []
    boxes = np.array(edges, np.float32).reshape(4, -1).T / np.array([W, H, W, H], np.float32)
    colour = (
        np.add.reduceat(frames.reshape(-1, 3)[flat], starts, axis=0, dtype=np.float32) if count else np.zeros((0, 3))
    )
    colour = (colour / np.maximum(pixels, 1)[:, None] / 255).astype(np.float32)
    image = image[starts]
    large = pixels >= _LEAST_PIXELS
    return Detections(V, T, image[large] // T, image[large] % T, boxes[large], colour[large])


def median_background(frames: np.ndarray) -> np.ndarray:
    """Return uint8 [V, H, W, 3]: each pixel's median over nine of the frames, or over all where there are fewer."""
    T = frames.shape[1]
    some = np.unique(np.linspace(0, T - 1, min(T, _MEDIAN_OF)).round().astype(int))
    chosen = np.ascontiguousarray(frames[:, some])
    middle = len(some) // 2
    return np.partition(chosen, middle, axis=1)[:, middle]


def _bright(frames: np.ndarray) -> np.ndarray:
    out = np.empty(frames.shape[:-1], bool)
    for v, video in enumerate(frames):
        red, green, blue = np.moveaxis(video, -1, 0)
        out[v] = np.add(red, green, dtype=np.uint16) + blue > 3 * _BRIGHT
    return out


def _moving(frames: np.ndarray) -> np.ndarray:
    still = median_background(frames)[:, None]
    out = np.empty(frames.shape[:-1], bool)
    for v in range(len(frames)):  # one video's differences fit into the processor's cache
        differs = np.maximum(frames[v], still[v]) - np.minimum(frames[v], still[v]) > _DIFFERENT
        out[v] = differs[..., 0] | differs[..., 1] | differs[..., 2]
    return out
