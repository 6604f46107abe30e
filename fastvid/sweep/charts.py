"""Charts of a comparison, as SVG text."""

import statistics

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fastvid.report.figures import COLOURS, GRID, INK, new_axes, svg
from fastvid.sweep.comparison import Comparison, Group
from fastvid.sweep.grid import PUBLISHED_NAMES

_COLOUR = dict(zip(PUBLISHED_NAMES, COLOURS, strict=True))
_MARKERS = "osD^vP*X"


def amount_name(videos: int | None) -> str:
    """Name the number of videos per class in words."""
    return "all" if videos is None else f"{videos:,}"


def data_size_chart(found: Comparison) -> str:
    """Draw test accuracy against training videos per class: every seed, their mean, and their range."""
    figure, (ax,) = new_axes(1, width=7.5, height=3.6)
    amounts = found.amounts
    for i, approach in enumerate(found.approaches):
        groups = found.of(approach)
        shift = 0.09 * (i - (len(found.approaches) - 1) / 2)  # side by side where they would lie on each other
        x = [amounts.index(group.videos) + shift for group in groups]
        colour = _COLOUR[approach]
        ax.plot(x, [100 * g.accuracy for g in groups], color=colour, marker="o", markersize=6, label=approach)
        for at, group in zip(x, groups, strict=True):
            values = [100 * value for value in group.accuracies]
            ax.plot([at, at], [min(values), max(values)], color=colour, linewidth=5, alpha=0.25, solid_capstyle="round")
            ax.plot([at] * len(values), values, color=colour, marker="_", linestyle="", markersize=7)
    _chance(ax, found)
    ax.set_xticks(range(len(amounts)), [amount_name(amount) for amount in amounts])
    ax.set(xlabel="training videos per class", ylabel="test accuracy, %", xlim=(-0.5, len(amounts) - 0.5))
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def parameters_chart(found: Comparison) -> str:
    """Draw test accuracy against trainable parameters."""
    figure, (ax,) = new_axes(1, width=7.5, height=3.6)
    for approach in found.approaches:
        for group in found.of(approach):
            marker = _MARKERS[found.amounts.index(group.videos) % len(_MARKERS)]
            x = group.mean("parameters", "trainable") or 1
            ax.plot(x, 100 * group.accuracy, color=_COLOUR[approach], marker=marker, linestyle="", alpha=0.85)
    for approach in found.approaches:
        ax.plot([], [], color=_COLOUR[approach], marker="o", linestyle="", label=approach)
    for amount, marker in zip(found.amounts, _MARKERS, strict=False):
        label = f"{amount_name(amount)} videos a class"
        ax.plot([], [], color=INK, marker=marker, fillstyle="none", linestyle="", label=label)
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low / 1.5, high * 1.5)
    _chance(ax, found)
    ax.set(xlabel="trainable parameters", ylabel="test accuracy, %")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def time_chart(found: Comparison) -> str:
    """Draw the minutes of training, as the mean over seeds."""
    figure, (ax,) = new_axes(1, width=7.5)
    amounts, approaches = found.amounts, found.approaches
    width = 0.8 / len(approaches)
    for i, approach in enumerate(approaches):
        groups = found.of(approach)
        x = [amounts.index(group.videos) - 0.4 + (i + 0.5) * width for group in groups]
        bars = ax.bar(x, [g.minutes for g in groups], 0.92 * width, color=_COLOUR[approach], label=approach)
        ax.bar_label(bars, [f"{g.minutes:.2g}" for g in groups], fontsize=7, color=INK, padding=1)
    ax.set_xticks(range(len(amounts)), [amount_name(amount) for amount in amounts])
    ax.set(xlabel="training videos per class", ylabel="minutes")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.grid(False, axis="x")
    return svg(figure)


def curves_chart(found: Comparison, videos: int | None) -> str:
    """Draw training loss and validation accuracy by epoch, a thin line for each seed and a thick one for their mean."""
    figure, axes = new_axes(2, width=9.5, height=3.4)
    for ax, name, scale in zip(axes, ("train_loss", "val_accuracy"), (1, 100), strict=True):
        for group in [g for a in found.approaches for g in found.of(a) if g.videos == videos]:
            by_epoch: dict[float, list[float]] = {}
            for result in group.results:
                curves = result.found["curves"]
                # Between two validations there may have been no record of the loss.
                known = [(x, scale * y) for x, y in zip(curves["epoch"], curves[name], strict=True) if y is not None]
                ax.plot(
                    [x for x, _ in known],
                    [y for _, y in known],
                    color=_COLOUR[group.approach],
                    linewidth=0.6,
                    alpha=0.5,
                )
                for epoch, value in known:
                    by_epoch.setdefault(epoch, []).append(value)
            x = sorted(by_epoch)
            means = [statistics.fmean(by_epoch[epoch]) for epoch in x]
            marker = "." if len(x) == 1 else None
            ax.plot(x, means, color=_COLOUR[group.approach], linewidth=1.8, marker=marker, label=group.approach)
        ax.set_xlabel("epoch")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes[0].set_title("training loss")
    axes[0].set_ylim(bottom=0)
    axes[1].set_title("validation accuracy, %")
    axes[1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def confusion_chart(group: Group) -> str:
    """Draw the share of each true class that was predicted as each class, over all seeds, in percent."""
    classes = group.results[0].found["classes"]
    counts = np.sum([result.found["test"]["confusion"] for result in group.results], axis=0)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 1.6 + 0.55 * len(classes) if len(classes) <= 12 else 6.5
    figure, (ax,) = new_axes(1, width=side + 0.4, height=side)
    ax.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=0.5)
    if len(classes) <= 12:
        for row, column in np.ndindex(*shares.shape):
            ink = "white" if shares[row, column] > 0.55 else INK
            number = f"{100 * shares[row, column]:.0f}"
            ax.text(column + 0.5, row + 0.5, number, ha="center", va="center", fontsize=8, color=ink)
    ticks = [i + 0.5 for i in range(len(classes))]
    size = 8 if len(classes) <= 25 else 5
    ax.set_xticks(ticks, classes, rotation=90 if len(classes) > 6 else 40, ha="center" if len(classes) > 6 else "right")
    ax.set_yticks(ticks, classes)
    ax.tick_params(labelsize=size, length=0)
    ax.set(xlabel="answered", ylabel="true", title=group.approach, aspect="equal")
    ax.invert_yaxis()
    ax.grid(False)
    ax.spines[:].set_visible(False)
    return svg(figure)


def differences_chart(found: Comparison) -> str:
    """Draw the differences with their intervals, filled where they are real. Return "" where nothing was compared."""
    pairs = [pair for pair in found.pairs if pair.refusal is None]
    if not pairs:
        return ""
    figure, (ax,) = new_axes(1, width=7.5, height=0.9 + 0.24 * len(pairs))
    ax.axvline(0, color=INK, linewidth=0.8)
    for row, pair in enumerate(pairs):
        colour = COLOURS[0] if pair.real else "#9aa5b1"
        ax.plot([100 * pair.low, 100 * pair.high], [row, row], color=colour, linewidth=1.5)
        fill = colour if pair.real else "white"
        ax.plot(100 * pair.difference, row, color=colour, marker="o", markersize=5, markerfacecolor=fill)
        if row and pairs[row - 1].a.videos != pair.a.videos:
            ax.axhline(row - 0.5, color=GRID, linewidth=1)
    names = [f"{pair.a.approach} vs {pair.b.approach}, {amount_name(pair.a.videos)}" for pair in pairs]
    ax.set_yticks(range(len(pairs)), names)
    ax.set(xlabel="difference of test accuracy, percentage points", ylim=(len(pairs) - 0.5, -0.5))
    ax.grid(False, axis="y")
    return svg(figure)


def _chance(ax: Axes, found: Comparison) -> None:
    classes = {len(result.found["classes"]) for group in found.groups for result in group.results}
    low = min(min(group.accuracies) for group in found.groups)
    if len(classes) == 1 and low < 1.5 / min(classes):  # elsewhere it would only squeeze what is to be seen
        ax.axhline(100 / classes.pop(), color=INK, linestyle="--", linewidth=0.8, label="chance")
