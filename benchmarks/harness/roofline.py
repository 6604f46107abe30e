"""The roofline plot: GB/s that each op achieves, against what the device's memory gives."""

from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.devices import PREDICTED
from benchmarks.harness.thresholds import Threshold, lookup
from benchmarks.harness.timing import BACKWARD

_SHARE = "share of copy"
_WHITE = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}


@dataclass(frozen=True)
class Point:
    """GB/s of one op; ``share`` of the panel's limit; measured, or what its threshold demands."""

    op: str
    gb_per_s: float
    share: float
    measured: bool


@dataclass(frozen=True)
class Panel:
    """One device: its limit in GB/s, what that is, the datasheet's number if it is known, and the ops."""

    title: str
    limit: float
    limit_is: str
    datasheet: float | None
    points: list[Point]


def panels(results: list[dict], thresholds: dict[str, dict[str, list[Threshold]]]) -> list[Panel]:
    """Return one panel for each measured device, and one for each card that is predicted and was not measured."""
    found = [_measured(result) for result in results]
    there = {result["device"]["cls"] for result in results}
    for cls, (name, bandwidth) in PREDICTED.items():
        if cls not in there:
            points = _demanded(thresholds, cls, bandwidth)
            found.append(Panel(f"{name} (not measured)", bandwidth, "datasheet", bandwidth, points))
    return [panel for panel in found if panel.points]


def _measured(result: dict) -> Panel:
    """Return every row with least bytes, except passes that another row holds; on a GPU only those larger than the
    cache."""
    device = result["device"]
    enough = 8 * device["l2_bytes"]
    points = [
        Point(_label(row["benchmark"], row["part"]), row["metrics"]["GB/s"], row["metrics"][_SHARE], True)
        for row in result["rows"]
        if "GB/s" in row["metrics"] and row["part"] != BACKWARD and row["least_bytes"] >= enough
    ]
    return Panel(device["name"], device["copy_gb_per_s"], "copy, measured", device["datasheet_gb_per_s"], points)


def _demanded(thresholds: dict[str, dict[str, list[Threshold]]], cls: str, bandwidth: float) -> list[Point]:
    """Return what the thresholds of a class ask of memory that is as fast as its datasheet says."""
    points = []
    for name, classes in thresholds.items():
        if "gpu" not in classes and cls not in classes:
            continue
        for threshold in lookup(thresholds, name, cls):
            if threshold.metric == _SHARE and threshold.part != BACKWARD:
                points.append(Point(_label(name, threshold.part), threshold.value * bandwidth, threshold.value, False))
    return points


def _label(benchmark: str, part: str) -> str:
    """Return ``gather_tokens, ViT-B B16`` and a part, shortened."""
    short = {"forward": " fwd", "forward + backward": " fwd + bwd", "call": ""}[part]
    return f"{benchmark}{short}"


def draw(shown: list[Panel], path: Path) -> None:
    """Write a PNG: filled markers are measured, hollow ones are what the thresholds demand of a card that was not.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    lines = [len(panel.points) for panel in shown]
    figure, grid = plt.subplots(
        len(shown), 1, figsize=(9, 0.32 * sum(lines) + 1.15 * len(shown)), squeeze=False, layout="constrained",
        gridspec_kw={"height_ratios": [line + 1.5 for line in lines]},
    )  # fmt: skip
    for axes, panel in zip(grid.flat, shown, strict=True):
        _draw_panel(axes, panel)
    figure.suptitle(
        "Bytes an op must move over its time. Filled: measured. Hollow: not measured, what the threshold demands.",
        fontsize=10,
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _draw_panel(axes, panel: Panel) -> None:
    count = len(panel.points)
    datasheet = panel.datasheet if panel.datasheet != panel.limit else None
    right = 1.25 * max(panel.limit, datasheet or 0, *(point.gb_per_s for point in panel.points))
    for limit, what, colour, row in ((panel.limit, panel.limit_is, "black", 0), (datasheet, "datasheet", "grey", 1)):
        if limit:
            axes.axvline(limit, color=colour, linewidth=1.2, linestyle="-" if row == 0 else "--")
            axes.text(
                limit + 0.01 * right,
                row,
                f"{_digits(limit)} GB/s,\n{what}",
                color=colour,
                fontsize=8,
                va="center",
                bbox=_WHITE,
                zorder=3,
            )
    for y, point in enumerate(panel.points):
        axes.hlines(y, 0, point.gb_per_s, color="tab:blue", linewidth=1, alpha=0.4)
        axes.plot(
            point.gb_per_s, y, "o", markersize=8, color="tab:blue", markeredgewidth=1.6,
            markerfacecolor="tab:blue" if point.measured else "white",
        )  # fmt: skip
        note = f"{_digits(point.gb_per_s)} GB/s, {100 * point.share:.0f} %"
        beside = (9, "left") if point.gb_per_s < 0.3 * right else (-9, "right")
        axes.annotate(
            note, (point.gb_per_s, y), (beside[0], 0), textcoords="offset points", ha=beside[1], va="center",
            fontsize=8, bbox=_WHITE,
        )  # fmt: skip
    axes.set_yticks(range(count), [point.op for point in panel.points], fontsize=8)
    axes.set_ylim(count - 0.4, -0.6)
    axes.set_xlim(0, right)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(f"{panel.title}: GB/s, and share of the limit", fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _digits(gb_per_s: float) -> str:
    return f"{gb_per_s:.0f}" if gb_per_s >= 100 else f"{gb_per_s:.3g}"
