"""Charts of a comparison, as SVG text."""

import statistics
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from fastvid.projects.sweep import Group
from fastvid.report.figures import COLOURS, GRID, INK, new_axes, svg
from fastvid.sweep.comparison import Comparison, group_interval
from fastvid.sweep.grid import value_words

_PALE = "#9aa5b1"
_MOST_LINES = 6  # lines with colours and names of their own


def axis_chart(found: Comparison, option: str, measures: Sequence[str]) -> str:
    """Draw measures against the values of one axis.

    A line joins the means of groups that differ in this axis alone; small dashes are single seeds, and a bar reaches
    from the least to the greatest. Of many lines, all are pale and their mean is thick.
    """
    figure, axes = new_axes(len(measures), width=7.5 if len(measures) == 1 else 10.5, height=3.4)
    for ax, measure in zip(axes, measures, strict=True):
        _draw_axis(ax, found, option, measure)
    if axes[-1].get_legend_handles_labels()[0]:
        axes[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def _draw_axis(ax: Axes, found: Comparison, option: str, measure: str) -> None:
    groups = [group for group in found.groups if group.measures(measure)]
    values = sorted({group.values[option] for group in groups}, key=lambda value: found.options.order(option, value))
    others = [other for other in found.axes if other != option]
    lines: dict[tuple[str, ...], list[Group]] = {}
    for group in groups:
        lines.setdefault(tuple(group.values[other] for other in others), []).append(group)
    few = len(lines) <= _MOST_LINES
    of_value: dict[str, list[float]] = {}
    for i, (key, line) in enumerate(lines.items()):
        shift = 0.06 * (i - (len(lines) - 1) / 2) if few else 0.0  # side by side where they would lie on each other
        colour = COLOURS[i] if few else _PALE
        words = [value_words(other, value, found.options) for other, value in zip(others, key, strict=True)]
        x = [values.index(group.values[option]) + shift for group in line]
        means = [_scaled(group, measure, group.mean(measure)) for group in line]
        ax.plot(
            x, means, color=colour, marker="o", markersize=5 if few else 3, linewidth=1.5 if few else 0.6,
            label=", ".join(words) if few and words else None,
        )  # fmt: skip
        for at, group, mean in zip(x, line, means, strict=True):
            seeds = [_scaled(group, measure, value) for value in group.numbers(measure)]
            ax.plot([at, at], [min(seeds), max(seeds)], color=colour, linewidth=5, alpha=0.25, solid_capstyle="round")
            ax.plot([at] * len(seeds), seeds, color=colour, marker="_", linestyle="", markersize=7)
            of_value.setdefault(group.values[option], []).append(mean)
    if not few:
        means = [statistics.fmean(of_value[value]) for value in values]
        ax.plot(range(len(values)), means, color=COLOURS[0], marker="o", linewidth=2, label="mean of all")
    _chance(ax, found, measure)
    ax.set_xticks(range(len(values)), values)
    ax.set(xlabel=found.options.title(option), ylabel=_label(found, measure), xlim=(-0.5, len(values) - 0.5))


def curves_chart(found: Comparison, groups: Sequence[Group]) -> str:
    """Draw the curves that runs recorded: a thin line for each seed, a thick one for their mean."""
    titles = list(dict.fromkeys(title for group in groups for run in group.runs for title in run.result.curves))
    if not titles:
        return ""
    figure, axes = new_axes(len(titles), width=2.4 + 3.8 * len(titles), height=3.4)
    for ax, title in zip(axes, titles, strict=True):
        for colour, group in zip(COLOURS, groups, strict=False):
            at: dict[float, list[float]] = {}
            for run in group.runs:
                x, y = run.result.curves.get(title, ((), ()))
                ax.plot(x, y, color=colour, linewidth=0.6, alpha=0.5)
                for step, value in zip(x, y, strict=True):
                    at.setdefault(step, []).append(value)
            steps = sorted(at)
            marker = "." if len(steps) == 1 else None
            means = [statistics.fmean(at[step]) for step in steps]
            ax.plot(steps, means, color=colour, linewidth=1.8, marker=marker, label=found.name(group))
        ax.set_title(title)
        ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        if "loss" in title:
            ax.set_ylim(bottom=0)
    axes[-1].legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return svg(figure)


def ranking_chart(found: Comparison, groups: Sequence[Group]) -> str:
    """Draw the measure that ranks, best first, with its intervals; dashes are single seeds."""
    measure = found.options.plan.ranks
    figure, (ax,) = new_axes(1, width=7.5, height=1.0 + 0.26 * len(groups))
    for row, group in enumerate(groups):
        interval = group_interval(group, measure)
        if interval is not None:
            ends = [_scaled(group, measure, end) for end in interval]
            ax.plot(ends, [row, row], color=COLOURS[0], linewidth=1.5)
        seeds = [_scaled(group, measure, value) for value in group.numbers(measure)]
        ax.plot(seeds, [row] * len(seeds), color=COLOURS[0], marker="|", linestyle="", markersize=9)
        ax.plot(_scaled(group, measure, group.mean(measure)), row, color=COLOURS[0], marker="o", markersize=6)
    ax.set_yticks(range(len(groups)), [found.name(group) for group in groups])
    ax.set(xlabel=_label(found, measure), ylim=(len(groups) - 0.5, -0.5))
    ax.grid(False, axis="y")
    return svg(figure)


def differences_chart(found: Comparison) -> str:
    """Draw differences with their intervals, filled where they are significant. Return "" where none was compared."""
    pairs = [pair for pair in found.pairs if pair.obstacle is None]
    if not pairs:
        return ""
    unit = found.unit(found.options.plan.tested)
    scale = 100 if unit == "%" else 1
    figure, (ax,) = new_axes(1, width=7.5, height=0.9 + 0.24 * len(pairs))
    ax.axvline(0, color=INK, linewidth=0.8)
    for row, pair in enumerate(pairs):
        colour = COLOURS[0] if pair.significant else _PALE
        ax.plot([scale * pair.low, scale * pair.high], [row, row], color=colour, linewidth=1.5)
        fill = colour if pair.significant else "white"
        ax.plot(scale * pair.difference, row, color=colour, marker="o", markersize=5, markerfacecolor=fill)
        if row and found.condition(pairs[row - 1].a) != found.condition(pair.a):
            ax.axhline(row - 0.5, color=GRID, linewidth=1)
    names = [", ".join([f"{found.name(p.a)} vs {found.name(p.b)}", *found.condition(p.a)]) for p in pairs]
    ax.set_yticks(range(len(pairs)), names)
    points = "percentage points" if unit == "%" else unit
    ax.set(xlabel=", ".join(filter(None, (f"difference of {found.options.plan.tested}", points))))
    ax.set_ylim(len(pairs) - 0.5, -0.5)
    ax.grid(False, axis="y")
    return svg(figure)


def _scaled(group: Group, measure: str, value: float | None) -> float:
    assert value is not None
    return 100 * value if group.measures(measure)[0].unit == "%" else value


def _label(found: Comparison, measure: str) -> str:
    return ", ".join(filter(None, (measure, found.unit(measure))))


def _chance(ax: Axes, found: Comparison, measure: str) -> None:
    measured = [one for group in found.groups for one in group.measures(measure)]
    levels = {one.chance for one in measured}
    level = levels.pop() if len(levels) == 1 else None
    # Elsewhere the line would only squeeze what is to be seen.
    if level is not None and min(one.value for one in measured) < 1.5 * level:
        ax.axhline((100 if measured[0].unit == "%" else 1) * level, color=INK, linestyle="--", linewidth=0.8)
