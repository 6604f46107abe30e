"""Sections of a SALT run's page: the probes of the student."""

from collections.abc import Iterable

from fastvid.projects.sweep import shown
from fastvid.report.figures import COLOURS, INK, new_axes, svg
from fastvid.report.markup import section, table, text
from fastvid.report.page import ProjectSections
from fastvid.report.records import Record, RunRecords

_LABELS = {
    "knn": "kNN",
    "linear": "linear",
    "attentive": "attentive",
    "attentive-grid": "attentive (V-JEPA 2)",
    "retrieval": "retrieval R@1",
}
_TIME = {
    "arrow": ("forwards or backwards?", "which of the two a clip is shown"),
    "order": ("order of 3 segments?", "in which of 6 orders a clip's segments are shown"),
    "static": ("class, standing still", "the linear probe's accuracy on the middle frame all through"),
    "reversed": ("class, backwards", "its accuracy on clips that run backwards"),
}


def sections(run: RunRecords) -> ProjectSections:
    """Return the sections of a run."""
    return ProjectSections([section("What was learnt", _table(run.probe) + _chart(run.probe) + _of_time(run.probe))])


def _table(probe: Record | None) -> str:
    if probe is None:
        return "<p>No probes: they need labelled videos of at least two classes.</p>"
    probes = _asked(probe, _LABELS)
    rows = [(text(row["encoder"]), *(_shown(row[name]) for name in probes)) for row in probe["rows"]]
    return (
        f"<p>{len(probe['classes'])} classes ({text(', '.join(probe['classes']))}); probes fitted on {probe['train']} "
        f"videos, tested on {probe['test']} others, linear on tokens averaged over space; chance is "
        f"{100 * probe['chance']:.0f} %. In brackets: 95 % Wilson interval.</p>"
        f"{table(('frozen encoder', *(_LABELS[name] for name in probes)), rows)}"
    )


def _of_time(probe: Record | None) -> str:
    """Return what the probes of time found, or "" where none was run."""
    probes = _asked(probe, _TIME)
    if probe is None or not probes:
        return ""
    chances = {name: f"{100 * probe['rows'][0][name].get('chance', probe['chance']):.0f} %" for name in probes}
    said = "; ".join(f"{_TIME[name][0]} {_TIME[name][1]}, chance {chances[name]}" for name in probes)
    rows = [(text(row["encoder"]), *(_shown(row[name]) for name in probes)) for row in probe["rows"]]
    header = ("frozen encoder", *(_TIME[name][0] for name in probes))
    return f"<p>What the encoders know of time: {said}.</p>{table(header, rows)}"


def _asked(probe: Record | None, of: Iterable[str]) -> list[str]:
    """Return those of some probes that were run."""
    return [name for name in of if probe is not None and name in probe["rows"][0]]


def _shown(result: Record) -> str:
    return shown(result["accuracy"], result["low"], result["high"], "%")


def _chart(probe: Record | None) -> str:
    """Draw the accuracies with their intervals. Return "" without probes."""
    probes = _asked(probe, _LABELS)
    if probe is None or not probes:
        return ""
    figure, (ax,) = new_axes(1, width=7.5)
    rows = probe["rows"]
    height = 0.8 / len(rows)
    for i, (colour, row) in enumerate(zip(COLOURS, rows, strict=False)):
        y = [p - 0.4 + (i + 0.5) * height for p in range(len(probes))]
        values = [100 * row[p]["accuracy"] for p in probes]
        errors = [
            [100 * (row[p]["accuracy"] - row[p]["low"]) for p in probes],
            [100 * (row[p]["high"] - row[p]["accuracy"]) for p in probes],
        ]
        ax.barh(y, values, height * 0.9, xerr=errors, color=colour, ecolor=INK, capsize=2, label=row["encoder"])
    ax.axvline(100 * probe["chance"], color=INK, linestyle="--", linewidth=0.8)
    ax.set_yticks(range(len(probes)), [_LABELS[p] for p in probes])
    ax.set(xlabel="accuracy on unseen videos, % (95 % Wilson interval; dashed: chance)", xlim=(0, 100))
    ax.invert_yaxis()  # the order of the table
    ax.legend(frameon=False, loc="lower right")
    ax.grid(False, axis="y")
    return svg(figure)
