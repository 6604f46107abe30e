"""A confusion matrix as a table and as a picture."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import ArrayLike

from fastvid.files import write_whole
from fastvid.report.figures import GRID, INK

_NUMBERED = 15  # classes up to which cells show their counts
_LONGEST = 28  # letters of a class name
_MOST_NAMES = 120  # class names on an axis; of more classes every other, every third ... is named


def confusion_csv(path: Path, classes: Sequence[str], confusion: ArrayLike) -> None:
    """Write counts of videos: a row for each true class, a column for each predicted one, both with their names.

    Args:
        path: path of the file, which is complete or not there at all.
        classes: C names.
        confusion: integers [C, C], rows = truth.

    Raises:
        ValueError: the matrix does not fit the classes, or is not of counts.
    """
    counts = _counts(classes, confusion)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["truth \\ predicted", *classes])
    writer.writerows([name, *row] for name, row in zip(classes, counts.tolist(), strict=True))
    _write(path, text.getvalue().encode())


def confusion_png(path: Path, classes: Sequence[str], confusion: ArrayLike) -> None:
    """Draw the matrix: each cell's colour is its share of the true class's videos. Up to 15 classes, counts are shown
    too.

    Of more classes the colours follow the share's square root, so that rare confusions can be seen without their count.
    Rows of classes without videos are grey. Long names are shortened in their middle; of very many classes only some
    are named. It has at most 1600 pixels a side.

    Args:
        path: path of the PNG, which is complete or not there at all.
        classes: C names.
        confusion: integers [C, C], rows = truth.

    Raises:
        ValueError: the matrix does not fit the classes, or is not of counts.
    """
    counts = _counts(classes, confusion)
    n = len(classes)
    figure = Figure(layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1), dpi=110)
    FigureCanvasAgg(figure)
    names = [_short(name) for name in classes]
    longest = max(map(len, names))
    side = min(11.0, 0.55 * n if n <= _NUMBERED else 2.0 + 0.16 * n)
    side, margin = max(2.6, side, 0.085 * longest * n if _is_level(names) else 0.0), 0.075 * longest  # inches
    figure.set_size_inches(side + margin + 1.3, side + margin + 0.8)
    ax = figure.add_subplot()
    colours = draw_confusion(ax, classes, counts)
    bar = figure.colorbar(colours, ax=ax, shrink=0.8, pad=0.02, aspect=30)
    bar.set_label("share of the true class", color=INK, size=8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=INK, labelsize=7)
    right, videos = int(counts.trace()), int(counts.sum())
    ax.set_title(f"{right} of {videos} right", color=INK, size=10)
    out = io.BytesIO()
    figure.savefig(out, format="png", metadata={"Software": None})
    _write(path, out.getvalue())


def draw_confusion(ax: Axes, classes: Sequence[str], confusion: ArrayLike, *, percent: bool = False) -> AxesImage:
    """Draw a confusion matrix into a chart, and return its cells, for a bar of their colours.

    Args:
        ax: chart to draw into.
        classes: C names.
        confusion: integers [C, C], rows = truth.
        percent: write the percent of the true class into a cell instead of the count, where there are few classes.
    """
    counts = _counts(classes, confusion)
    total = counts.sum(1, keepdims=True)
    share = np.where(total > 0, counts / np.maximum(total, 1), np.nan)
    n = len(classes)
    names = [_short(name) for name in classes]
    scale = Normalize(0, 1) if n <= _NUMBERED else PowerNorm(0.5, 0, 1)
    colours = ax.imshow(share, norm=scale, cmap="Blues", interpolation="nearest")
    ax.set_facecolor(GRID)
    step = -(-n // _MOST_NAMES)
    named = range(0, n, step)
    size = 8 if n <= 40 else 6  # points
    rotation = 0 if _is_level(names) else 90
    ax.set_xticks(named, [names[i] for i in named], rotation=rotation, size=size, parse_math=False)
    ax.set_yticks(named, [names[i] for i in named], size=size, parse_math=False)
    ax.tick_params(colors=INK, length=0 if step == 1 else 2)
    ax.set_xlabel("predicted", color=INK, size=9)
    ax.set_ylabel("truth", color=INK, size=9)
    ax.grid(False)
    ax.spines[:].set_visible(False)
    if n <= _NUMBERED:
        ax.set_xticks(np.arange(n + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(n + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=1.5)
        ax.tick_params(which="minor", length=0)
        for row, column in np.ndindex(n, n):
            ink = "white" if share[row, column] > 0.55 else INK
            number = f"{100 * share[row, column]:.0f}" if percent and total[row, 0] else str(counts[row, column])
            ax.text(column, row, number, ha="center", va="center", color=ink, size=9)
    return colours


def _is_level(names: Sequence[str]) -> bool:
    """Return whether names fit side by side below their columns; else they stand upright."""
    return len(names) <= 4 and max(map(len, names)) <= 14


def _counts(classes: Sequence[str], confusion: ArrayLike) -> np.ndarray:
    counts = np.asarray(confusion)
    if not len(classes) or counts.shape != (len(classes), len(classes)):
        raise ValueError(f"a confusion matrix of {len(classes)} classes cannot have the shape {counts.shape}")
    if counts.dtype.kind not in "iu" or counts.min() < 0:
        raise ValueError(f"a confusion matrix holds counts of videos; got {counts.dtype} from {counts.min()}")
    return counts


def _short(name: str) -> str:
    if len(name) <= _LONGEST:
        return name
    half = (_LONGEST - 1) // 2
    return f"{name[: _LONGEST - 1 - half]}…{name[-half:]}"


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)
