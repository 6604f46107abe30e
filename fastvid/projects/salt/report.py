"""Sections of a SALT run's page: the probes of the student."""

from fastvid.projects.sweep import shown
from fastvid.report.figures import COLOURS, INK, new_axes, svg
from fastvid.report.markup import section, table, text
from fastvid.report.page import ProjectSections
from fastvid.report.records import Record, RunRecords

_PROBES = {"knn": "kNN", "linear": "linear", "attentive": "attentive"}


def sections(run: RunRecords) -> ProjectSections:
    """Return the sections of a run."""
    return ProjectSections([section("What was learnt", _table(run.probe) + _chart(run.probe))])


def _table(probe: Record | None) -> str:
    if probe is None:
        return "<p>No probes: they need labelled videos of at least two classes.</p>"
    rows = [
        (text(row["encoder"]), *(shown(row[p]["accuracy"], row[p]["low"], row[p]["high"], "%") for p in _PROBES))
        for row in probe["rows"]
    ]
    return (
        f"<p>{len(probe['classes'])} classes ({text(', '.join(probe['classes']))}); probes fitted on {probe['train']} "
        f"videos, tested on {probe['test']} others; chance is {100 * probe['chance']:.0f} %. In brackets: 95 % Wilson "
        f"interval.</p>{table(('frozen encoder', 'kNN', 'linear, mean over space', 'attentive'), rows)}"
    )


def _chart(probe: Record | None) -> str:
    """Draw the accuracies with their intervals. Return "" without probes."""
    if probe is None:
        return ""
    figure, (ax,) = new_axes(1, width=7.5)
    probes = list(_PROBES)
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
    ax.set_yticks(range(len(probes)), [_PROBES[p] for p in probes])
    ax.set(xlabel="accuracy on unseen videos, % (95 % Wilson interval; dashed: chance)", xlim=(0, 100))
    ax.invert_yaxis()  # the order of the table
    ax.legend(frameon=False, loc="lower right")
    ax.grid(False, axis="y")
    return svg(figure)
