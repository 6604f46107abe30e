"""Pictures of a gaze: frames that are bright where attention is, and a video of them with words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_DARK = 0.3  # brightness where there is no attention
_PEAK, _TRUTH = (255, 214, 10), (255, 255, 255)
_INK, _PALE, _PAPER = (244, 246, 248), (150, 163, 175), (24, 28, 34)
_LINE = 24  # pixels


@dataclass(frozen=True)
class Gaze:
    """The looks of one pass in each frame.

    Attributes:
        title: what the pass is.
        attention: float [T, rows, columns], attention on the patches of each frame; at least 0.
        words: what the pass said, word by word.
        truth: int [T], patch to look at, -1 where that is not known; empty where it never is.
    """

    title: str
    attention: np.ndarray
    words: Sequence[str] = ()
    truth: Sequence[int] = ()


def spotlight(frames: np.ndarray, attention: np.ndarray, truth: Sequence[int] = (), *, side: int = 384) -> np.ndarray:
    """Darken frames where there is no attention, and outline the patch that has most.

    A patch's brightness grows with the square root of its attention relative to the frame's greatest, so that uniform
    attention leaves a frame as it is, and a sharp one leaves one bright patch.

    Args:
        frames: uint8 [T, H, W, 3].
        attention: float [T, rows, columns] on the frame's patches.
        truth: int [T], patch to look at, outlined in dashes; -1 for none.
        side: least length of the longer side, pixels; frames are enlarged by a whole number.

    Returns:
        uint8 [T, H', W', 3], both sides even.

    Raises:
        ValueError: frames and attention do not fit.
    """
    attention = np.asarray(attention, dtype=np.float64)
    if frames.ndim != 4 or attention.ndim != 3 or len(frames) != len(attention):
        raise ValueError(
            f"frames [T, H, W, 3] need attention [T, rows, columns]; got {frames.shape}, {attention.shape}"
        )
    scale = max(1, -(-side // max(frames.shape[1:3])))
    height, width = (n * scale // 2 * 2 for n in frames.shape[1:3])
    drawn = []
    for t, frame in enumerate(frames):
        image = Image.fromarray(frame).resize((width, height), Image.Resampling.BICUBIC)
        share = np.sqrt(attention[t] / max(attention[t].max(), 1e-12))
        light = Image.fromarray((255 * (_DARK + (1 - _DARK) * share)).astype(np.uint8)).resize(
            (width, height), Image.Resampling.NEAREST
        )
        lit = (np.asarray(image) * (np.asarray(light)[..., None] / 255.0)).astype(np.uint8)
        image = Image.fromarray(lit)
        pen = ImageDraw.Draw(image)
        grid = (attention.shape[1], attention.shape[2])
        _outline(pen, int(attention[t].argmax()), grid, (height, width), _PEAK)
        if len(truth) and truth[t] >= 0:
            _corners(pen, int(truth[t]), grid, (height, width))
        drawn.append(np.asarray(image))
    return np.stack(drawn)


def gaze_video(frames: np.ndarray, gazes: Sequence[Gaze], question: str, *, side: int = 384) -> np.ndarray:
    """Draw the frames of a gaze video: the gazes side by side, the question above, the answers below.

    A word appears with the frame that it comes with, where there are as many words as frames, and spread evenly over
    the frames otherwise.

    Args:
        frames: uint8 [T, H, W, 3].
        gazes: at least one.
        question: asked of all of them.
        side: of a frame in the picture; see :func:`spotlight`.

    Returns:
        uint8 [T, H', W', 3], both sides even.
    """
    columns = [spotlight(frames, gaze.attention, gaze.truth, side=side) for gaze in gazes]
    width, gap = columns[0].shape[2], 8
    whole = len(gazes) * width + (len(gazes) - 1) * gap
    font = ImageFont.load_default(16)
    asked = _wrapped(question, font, whole - 16) if question else []
    said = [[_wrapped(" ".join(_spoken(gaze.words, t, len(frames))), font, width - 16) for gaze in gazes]
            for t in range(len(frames))]  # fmt: skip
    below = 1 + max(len(lines) for row in said for lines in row)
    top = _LINE * len(asked) + 8
    height = (top + columns[0].shape[1] + _LINE * below + 15) // 2 * 2
    pages = []
    for t in range(len(frames)):
        page = Image.new("RGB", ((whole + 1) // 2 * 2, height), _PAPER)
        pen = ImageDraw.Draw(page)
        for i, line in enumerate(asked):
            pen.text((8, 6 + _LINE * i), line, fill=_INK, font=font)
        for i, gaze in enumerate(gazes):
            left, y = i * (width + gap), top + columns[i].shape[1] + 6
            page.paste(Image.fromarray(columns[i][t]), (left, top))
            pen.text((left + 8, y), f"{gaze.title}, frame {t + 1} of {len(frames)}", fill=_PALE, font=font)
            for k, line in enumerate(said[t][i]):
                pen.text((left + 8, y + _LINE * (k + 1)), line, fill=_INK, font=font)
        pages.append(np.asarray(page))
    return np.stack(pages)


def _spoken(words: Sequence[str], frame: int, frames: int) -> Sequence[str]:
    return words[: -(-len(words) * (frame + 1) // frames)]


def _wrapped(line: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines: list[str] = []
    for word in line.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _box(patch: int, grid: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    row, column = divmod(patch, grid[1])
    (height, width), (rows, columns) = size, grid
    return (
        column * width // columns, row * height // rows, (column + 1) * width // columns - 1,
        (row + 1) * height // rows - 1,
    )  # fmt: skip


def _outline(
    pen: ImageDraw.ImageDraw, patch: int, grid: tuple[int, int], size: tuple[int, int], colour: tuple[int, int, int]
) -> None:
    pen.rectangle(_box(patch, grid, size), outline=colour, width=3)


def _corners(pen: ImageDraw.ImageDraw, patch: int, grid: tuple[int, int], size: tuple[int, int]) -> None:
    """Mark a patch by its four corners, just outside of it."""
    left, top, right, bottom = _box(patch, grid, size)
    left, top, right, bottom = left - 4, top - 4, right + 4, bottom + 4
    length = max(4, (right - left) // 4)
    for x, dx in ((left, length), (right, -length)):
        for y, dy in ((top, length), (bottom, -length)):
            pen.line((x, y, x + dx, y), fill=_TRUTH, width=2)
            pen.line((x, y, x, y + dy), fill=_TRUTH, width=2)
