"""Film strips with words: clips as rows of frames, in groups that have a title."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

from fastvid.files import write_whole
from fastvid.report.figures import INK

_PALE = "#627282"
_DPI = 100
_TITLE, _GAP, _EDGE, _APART = 24, 2, 10, 8  # pixels: height of a title, between frames, around all, between groups
_LETTER = 6.2  # pixels, on the average
_SIZE = 8  # points, of labels
_LONGEST = 24  # letters beside a strip


@dataclass(frozen=True)
class Strips:
    """Clips that are shown together.

    Attributes:
        title: above them.
        clips: uint8 [T, H, W, 3] each.
        labels: short texts to the left of the clips.
        note: in paler ink behind the title.
    """

    title: str
    clips: Sequence[np.ndarray]
    labels: Sequence[str] = ()
    note: str = ""


def strips_png(path: Path, groups: Sequence[Strips], *, frames: int = 8, side: int = 96) -> None:
    """Draw groups of clips below each other. Frames are evenly spaced in time and keep their aspect ratio.

    Args:
        path: path of the PNG, which is complete or not there at all.
        groups: at least one, each with a clip.
        frames: number of frames of a clip; fewer where it has fewer.
        side: length of a frame's longer side in the picture, pixels.

    Raises:
        ValueError: nothing to draw.
    """
    if not groups or not all(group.clips for group in groups):
        raise ValueError("a picture of film strips needs at least one clip in each group")
    strips = [[_strip(clip, frames, side) for clip in group.clips] for group in groups]
    labels = [_cut(label, _LONGEST) for group in groups for label in group.labels]
    margin = round(_EDGE + max(map(_width, labels), default=0) + (8 if labels else 0))
    width = margin + max(strip.shape[1] for rows in strips for strip in rows) + _EDGE
    height = 2 * _EDGE - _APART + sum(_TITLE + _APART + sum(strip.shape[0] + _GAP for strip in rows) for rows in strips)
    page = np.full((height, width, 3), 255, dtype=np.uint8)
    words: list[tuple[float, float, str, dict]] = []
    fits = int((width - margin) / _LETTER)
    y = _EDGE
    for group, rows in zip(groups, strips, strict=True):
        title = _cut(group.title, fits)
        note = _cut(group.note, max(0, fits - len(title) - 3))
        words.append((margin, y + _TITLE / 2, title, {"color": INK, "size": 8.5, "weight": "bold"}))
        words.append((width - _EDGE, y + _TITLE / 2, note, {"color": _PALE, "size": 7, "ha": "right"}))
        y += _TITLE
        for row, strip in enumerate(rows):
            page[y : y + strip.shape[0], margin : margin + strip.shape[1]] = strip
            if row < len(group.labels):
                label, middle = _cut(group.labels[row], _LONGEST), y + strip.shape[0] / 2
                words.append((margin - 8, middle, label, {"color": _PALE, "size": _SIZE, "ha": "right"}))
            y += strip.shape[0] + _GAP
        y += _APART
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _png(page, words))


def _png(page: np.ndarray, words: Sequence[tuple[float, float, str, dict]]) -> bytes:
    """Encode the pixels unscaled as PNG, with words at (x, y) from the upper left."""
    height, width = page.shape[:2]
    figure = Figure(figsize=(width / _DPI, height / _DPI), dpi=_DPI)
    FigureCanvasAgg(figure)
    figure.figimage(page, origin="upper")
    for x, y, word, style in words:
        # A class may be named "$a$": no formula.
        figure.text(x / width, 1 - y / height, word, va="center", parse_math=False, **style)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    return out.getvalue()


def _strip(clip: np.ndarray, frames: int, side: int) -> np.ndarray:
    pick = np.linspace(0, len(clip) - 1, min(frames, len(clip))).round().astype(int)
    height, width = clip.shape[1:3]
    scale = side / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    framed = [
        np.pad(
            np.asarray(Image.fromarray(clip[i]).resize(size, Image.Resampling.BICUBIC)),
            ((0, 0), (0, _GAP), (0, 0)),
            constant_values=255,
        )
        for i in pick
    ]
    return np.concatenate(framed, axis=1)


def _width(label: str) -> float:
    """Return the width of a label in pixels."""
    renderer = FigureCanvasAgg(Figure(dpi=_DPI)).get_renderer()
    width, _, _ = renderer.get_text_width_height_descent(label, FontProperties(size=_SIZE), ismath=False)
    return float(width)


def _cut(words: str, most: int) -> str:
    return words if len(words) <= most else f"{words[: max(0, most - 1)]}…" if most > 1 else ""
