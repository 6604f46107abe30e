"""Crop and antialiased resize of uint8 frames."""

import numpy as np
from PIL import Image


def crop_resize(frame: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """Cut a box out of a frame and resize it to a square.

    Pillow's bilinear filter, widened by the scale when shrinking so that nothing aliases; computed in fixed point on
    uint8. A box that already has the size is copied unchanged.

    Args:
        frame: uint8 [H, W, 3].
        box: (top, left, height, width) in pixels, inside the frame.
        size: side of the result in pixels.

    Returns:
        uint8 [size, size, 3].
    """
    top, left, height, width = box
    cut = frame[top : top + height, left : left + width]
    if cut.shape != (height, width, 3):
        raise ValueError(f"crop box {box} does not lie inside a frame of {frame.shape[0]} x {frame.shape[1]}")
    if (height, width) == (size, size):
        return cut
    return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((size, size), Image.Resampling.BILINEAR))
