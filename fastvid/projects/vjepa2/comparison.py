"""Sections of a comparison of V-JEPA 2 runs, beside the common ones: parameters, time and confusion."""

import statistics
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from fastvid.projects.sweep import Group
from fastvid.projects.vjepa2.config import APPROACH, VIDEOS
from fastvid.report.confusion import draw_confusion
from fastvid.report.figures import COLOURS, INK, new_axes, svg

_MARKERS = "osD^vP*X"
_MOST_MATRICES = 8


def sections(groups: Sequence[Group], name: Callable[[Group], str]) -> dict[str, str]:
    """Return the sections of a sweep's page, HTML by title.

    Args:
        groups: of all approaches and amounts of data.
        name: what the page calls a group.
    """
    most = groups[-1].values[VIDEOS]  # groups are in the order of their amounts
    last = [group for group in groups if group.values[VIDEOS] == most]
    whose = "all videos" if most == "all" else f"{most} videos a class"
    return {
        "Accuracy against trainable parameters": parameters_chart(groups),
        "Training time": _time(groups),
        f"Confusion, {whose}": _confusion(last, name),
    }


def _by(groups: Sequence[Group], option: str) -> dict[str, list[Group]]:
    found: dict[str, list[Group]] = {}
    for group in groups:
        found.setdefault(group.values[option], []).append(group)
    return found


def _colours(groups: Sequence[Group]) -> Mapping[str, str]:
    return dict(zip(_by(groups, APPROACH), COLOURS, strict=False))


def parameters_chart(groups: Sequence[Group]) -> str:
    """Draw test accuracy against trainable parameters."""
    figure, (ax,) = new_axes(1, width=7.5, height=3.6)
    colours = _colours(groups)
    markers = dict(zip(_by(groups, VIDEOS), _MARKERS * len(groups), strict=False))
    for group in groups:
        ax.plot(
            group.mean("trainable parameters") or 1, 100 * (group.mean("test accuracy") or 0),
            color=colours[group.values[APPROACH]], marker=markers[group.values[VIDEOS]], linestyle="", alpha=0.85,
        )  # fmt: skip
    for approach, colour in colours.items():
        ax.plot([], [], color=colour, marker="o", linestyle="", label=approach)
    for amount, marker in markers.items():
        ax.plot([], [], color=INK, marker=marker, fillstyle="none", linestyle="", label=f"{amount} videos a class")
    ax.set_xscale("log")
    low, high = ax.get_xlim()
    ax.set_xlim(low / 1.5, high * 1.5)
    ax.set(xlabel="trainable parameters", ylabel="test accuracy, %")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def _time(groups: Sequence[Group]) -> str:
    features = sum((run.records.result or {})["time"]["features_s"] / 60 for group in groups for run in group.runs)
    return (
        "<p>Minutes of training of one run, mean over seeds. Features of the frozen parts are made by whichever run "
        f"comes first, and shared: they took {features:.1f} minutes over all runs, which are not in the bars.</p>"
        f"{_time_chart(groups)}"
    )


def _time_chart(groups: Sequence[Group]) -> str:
    figure, (ax,) = new_axes(1, width=7.5)
    amounts = list(_by(groups, VIDEOS))
    approaches = _by(groups, APPROACH)
    width = 0.8 / len(approaches)
    for i, (approach, colour) in enumerate(_colours(groups).items()):
        minutes = {
            amount: statistics.fmean(group.mean("training") or 0 for group in of)
            for amount, of in _by(approaches[approach], VIDEOS).items()
        }
        x = [amounts.index(amount) - 0.4 + (i + 0.5) * width for amount in minutes]
        bars = ax.bar(x, list(minutes.values()), 0.92 * width, color=colour, label=approach)
        ax.bar_label(bars, [f"{value:.2g}" for value in minutes.values()], fontsize=7, color=INK, padding=1)
    ax.set_xticks(range(len(amounts)), amounts)
    ax.set(xlabel="training videos per class", ylabel="minutes")
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    ax.grid(False, axis="x")
    return svg(figure)


def _confusion(groups: Sequence[Group], name: Callable[[Group], str]) -> str:
    shown = groups[:_MOST_MATRICES]
    only = f" The first {len(shown)} of {len(groups)} groups." if len(shown) < len(groups) else ""
    return (
        f"<p>Rows: the true class; numbers: percent of it, all seeds together.{only}</p>"
        f"<div class='row'>{''.join(_confusion_chart(group, name(group)) for group in shown)}</div>"
    )


def _confusion_chart(group: Group, title: str) -> str:
    results = [run.records.result or {} for run in group.runs]
    classes = results[0]["classes"]
    side = 1.6 + 0.55 * len(classes) if len(classes) <= 12 else 6.5
    figure, (ax,) = new_axes(1, width=side + 0.4, height=side)
    draw_confusion(ax, classes, np.sum([result["test"]["confusion"] for result in results], axis=0), percent=True)
    ax.set_title(title)
    return svg(figure)
