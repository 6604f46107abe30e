"""Pictures of a trajectory run: where attention goes in single videos, and how its ratio came about."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from fastvid.files import write_whole
from fastvid.projects.trajectory.tokens import TokenSet
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.report.figures import COLOURS, GRID, INK, new_axes, png, scale_logarithmically
from fastvid.report.records import RunRecords

_CROP, _FRAME, _EDGE = 44, 132, 5  # pixels: side of a crop, of a frame, width of the frame around a crop
_COLOURS = matplotlib.colormaps["viridis"]
_MOST = 10.0  # attention, times what it would be if it were uniform, that has the last colour; 1 / this has the first


def write_pictures(
    folder: Path, run: RunRecords, found: Mapping[str, Any], tokens: TokenSet, frames: np.ndarray,
    arrays: Mapping[str, np.ndarray],
) -> None:  # fmt: skip
    """Write the pictures of a run.

    Args:
        folder: of the PNG files.
        run: its records.
        found: content of its ``trajectory.json``.
        tokens: of the first test videos, as many as there are frames of.
        frames: uint8 [V, T, H, W, 3], of these videos.
        arrays: of all test videos, of the first worker and untrained: ``attention``, ``untrained`` [N], and by model's
            name log ratios.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = int(tokens.offsets[-1])
    weights = arrays["attention"][:count]
    ratios = {name: arrays[f"log_ratios {name}"] for name in found["models"] if f"log_ratios {name}" in arrays}
    for name, content in {
        "ratio-progression": _progression(run, found),
        "attention-before-and-after": _before_after(found, arrays),
        "distributions-of-the-ratio": _distributions(ratios),
        "sample-grid": _grid(tokens, frames, weights),
        "crops-over-time-framed-by-attention": _crops(tokens, frames, weights),
        "attention-of-tracks-and-frames": _heat(tokens, weights),
    }.items():
        write_whole(folder / f"{name}.png", png(content), sync=False)


def _progression(run: RunRecords, found: Mapping[str, Any]) -> Figure:
    figure, (ax,) = new_axes(1, width=7.5, height=3.2)
    for colour, name in zip(COLOURS * 3, found["models"], strict=False):
        steps, values = run.series(name, "attention_ratio")
        epochs = [step / found["epoch_steps"] for step in steps]
        ax.plot(epochs, values, color=colour, marker=".", label=name)
    ax.axhline(1, color=INK, linewidth=0.8)
    ax.axhline(found["stop"]["ratio"], color=INK, linewidth=0.8, linestyle="--")
    ax.set(title="attention ratio on validation videos (dashed: goal; line: uniform)", xlabel="epoch")
    scale_logarithmically(ax)
    ax.legend(frameon=False, fontsize=8)
    return figure


def _before_after(found: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Figure:
    figure, (ax,) = new_axes(1, width=5.5)
    for i, (colour, kind) in enumerate(zip(COLOURS, ("persistent", "transient"), strict=False)):
        shares = [float(arrays[f"{when} {kind}"]) for when in ("untrained", "trained")]
        ax.bar([x + 0.36 * i - 0.18 for x in (0, 1)], shares, 0.34, color=colour, label=f"{kind} objects")
    ax.axhline(1, color=INK, linewidth=0.8, linestyle="--")
    ax.set_xticks([0, 1], ["untrained", f"trained ({next(iter(found['models']))})"])
    ax.set(title="attention per token, uniform = 1 (mean over test videos)")
    ax.legend(frameon=False, fontsize=8)
    return figure


def _distributions(ratios: Mapping[str, np.ndarray]) -> Figure:
    figure, (ax,) = new_axes(1, width=7.5, height=3.2)
    values = {name: logs[~np.isnan(logs)] / math.log(10) for name, logs in ratios.items()}
    values = {name: logs for name, logs in values.items() if len(logs)}
    if values:
        low, high = min(v.min() for v in values.values()), max(v.max() for v in values.values())
        bins = np.linspace(low - 0.05, high + 0.05, 60)
        for colour, (name, logs) in zip(COLOURS * 3, values.items(), strict=False):
            ax.hist(logs, bins.tolist(), histtype="step", color=colour, linewidth=1.4, label=name)
    ax.axvline(0, color=INK, linewidth=0.8)
    ax.axvline(math.log10(1.3), color=INK, linewidth=0.8, linestyle="--")
    ax.set(title="ratios of the test videos (dashed: 1.3, what counts as consistent)", ylabel="videos")
    ax.set_xlabel("log10 of the attention ratio")
    ax.legend(frameon=False, fontsize=8)
    return figure


def _grid(tokens: TokenSet, frames: np.ndarray, weights: np.ndarray) -> Figure:
    """Draw frames of some videos with their objects' boxes, in the colour of their attention."""
    shown = min(4, len(tokens))
    picks = np.linspace(0, tokens.frames - 1, 6).round().astype(int)
    figure, axes = _panels(shown, len(picks), _FRAME)
    for v in range(shown):
        span = slice(int(tokens.offsets[v]), int(tokens.offsets[v + 1]))
        relative = weights[span] * (span.stop - span.start)
        for column, t in enumerate(picks):
            ax = axes[v][column]
            ax.imshow(frames[v, t])
            side = frames.shape[2:4][::-1]
            for i in np.flatnonzero(tokens.frame[span] == t):
                box = tokens.boxes[span][i] * np.tile(side, 2) - 0.5
                ax.add_patch(
                    Rectangle(
                        (box[0] - 1, box[1] - 1), box[2] - box[0] + 2, box[3] - box[1] + 2, fill=False, linewidth=1.6,
                        edgecolor=_colour(relative[i]), linestyle="-" if tokens.persistent[span][i] else ":",
                    )
                )  # fmt: skip
            if v == 0:
                ax.set_title(f"frame {t}", fontsize=8)
    _scale(figure, "attention, uniform = 1; solid: persistent, dotted: transient")
    return figure


def _crops(tokens: TokenSet, frames: np.ndarray, weights: np.ndarray) -> Figure:
    """Draw the crops of one video's tracks over time, each in a frame of the colour of its attention."""
    v = _telling(tokens)
    span = slice(int(tokens.offsets[v]), int(tokens.offsets[v + 1]))
    one, table = tokens.video(v), TrackTable.from_tokens(tokens.video(v))
    relative = weights[span] * len(one.frame)
    cell = _CROP + 2 * _EDGE
    page = np.full((len(table) * cell, one.frames * cell, 3), 255, np.uint8)
    for i, (t, row) in enumerate(zip(one.frame, table.row, strict=True)):
        corner = slice(row * cell, (row + 1) * cell), slice(t * cell, (t + 1) * cell)
        page[corner] = (255 * np.array(_colour(relative[i])[:3])).astype(np.uint8)
        inner = slice(row * cell + _EDGE, (row + 1) * cell - _EDGE), slice(t * cell + _EDGE, (t + 1) * cell - _EDGE)
        page[inner] = _cut(frames[v, t], one.boxes[i])
    figure, axes = _panels(1, 1, page.shape[1] // 2, page.shape[0] // 2)
    axes[0][0].imshow(page)
    axes[0][0].set_yticks(
        [(m + 0.5) * cell for m in range(len(table))],
        [
            f"track {t}, {'persistent' if p else 'transient'}"
            for t, p in zip(table.track, table.persistent, strict=True)
        ],
        fontsize=7,
    )
    axes[0][0].set_xticks([(t + 0.5) * cell for t in range(one.frames)], range(one.frames), fontsize=7)
    axes[0][0].tick_params(length=0)
    axes[0][0].set_xlabel(f"frame of {one.keys[0]}", fontsize=8)
    _scale(figure, "attention, uniform = 1")
    return figure


def _heat(tokens: TokenSet, weights: np.ndarray) -> Figure:
    """Draw the attention of tracks (rows) and frames (columns) of some videos."""
    shown = min(3, len(tokens))
    figure, axes = new_axes(shown, width=4.2 * shown, height=2.8)
    for v, ax in enumerate(axes):
        span = slice(int(tokens.offsets[v]), int(tokens.offsets[v + 1]))
        one, table = tokens.video(v), TrackTable.from_tokens(tokens.video(v))
        page = np.full((len(table), one.frames), np.nan)
        page[table.row, one.frame] = weights[span] * len(one.frame)
        norm = LogNorm(1 / _MOST, _MOST, clip=True)
        ax.imshow(np.ma.masked_invalid(np.maximum(page, 1e-9)), cmap=_COLOURS, norm=norm, aspect="auto")
        ax.set_facecolor(GRID)
        ax.set_yticks(
            range(len(table)), [f"{t} {'P' if p else 't'}" for t, p in zip(table.track, table.persistent, strict=True)]
        )
        ax.set(title=one.keys[0], xlabel="frame", ylabel="track (p: persistent, t: transient)" if v == 0 else "")
        ax.grid(False)
    _scale(figure, "attention, uniform = 1")
    return figure


def _telling(tokens: TokenSet) -> int:
    """Return the first video with objects of both kinds, or 0."""
    for v in range(len(tokens)):
        kinds = tokens.persistent[tokens.offsets[v] : tokens.offsets[v + 1]]
        if kinds.any() and not kinds.all():
            return v
    return 0


def _cut(frame: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Cut a square of twice the box's size around it, uint8 [_CROP, _CROP, 3]; black beyond the frame."""
    height, width = frame.shape[:2]
    x, y = (box[0] + box[2]) / 2 * width, (box[1] + box[3]) / 2 * height
    half = max((box[2] - box[0]) * width, (box[3] - box[1]) * height, 2.0)
    area = (x - half, y - half, x + half, y + half)
    return np.asarray(Image.fromarray(frame).transform((_CROP, _CROP), Image.Transform.EXTENT, area))


def _colour(relative: float) -> tuple[float, ...]:
    colour: tuple[float, ...] = _COLOURS(0.5 + 0.5 * np.clip(math.log(max(relative, 1e-9)) / math.log(_MOST), -1, 1))
    return colour


def _scale(figure: Figure, label: str) -> None:
    norm = LogNorm(1 / _MOST, _MOST)
    bar = figure.colorbar(ScalarMappable(norm, _COLOURS), ax=figure.axes, fraction=0.03, pad=0.02)
    bar.set_label(label, fontsize=7)
    bar.ax.tick_params(labelsize=7)


def _panels(rows: int, columns: int, side: int, height: int | None = None) -> tuple[Figure, np.ndarray]:
    size = (columns * side / 100 + 1.6, rows * (height or side) / 100 + 0.7)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(False)
    return figure, axes
