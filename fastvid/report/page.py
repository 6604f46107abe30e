"""``report.html``: one self-contained page about a run."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastvid.data.storage.remote import without_secrets
from fastvid.files import write_whole
from fastvid.report import charts
from fastvid.report.markup import document, picture, pre, section, text
from fastvid.report.records import RunRecords


@dataclass(frozen=True)
class ProjectSections:
    """A project's own part of a run's page; it comes first.

    Attributes:
        sections: HTML, in order; see :mod:`fastvid.report.markup`.
        shows_loss: whether they show the loss, which is then not drawn again.
        shown: titles of the run's pictures that they show already.
        captions: captions of other pictures, by title.
    """

    sections: list[str]
    shows_loss: bool = False
    shown: frozenset[str] = frozenset()
    captions: Mapping[str, str] = field(default_factory=dict)


Report = Callable[[RunRecords], ProjectSections]


def write_report(run_dir: str | Path, project: Report | None = None) -> Path:
    """Write ``report.html`` into a run directory and return its path.

    Args:
        run_dir: the run directory.
        project: returns the project's own sections; None for a page without.

    Raises:
        FileNotFoundError: it is not a run directory.
    """
    run = RunRecords.read(run_dir)
    own = project(run) if project is not None else ProjectSections([])
    loss = "" if own.shows_loss else charts.loss_chart(run)
    pictures = {own.captions.get(title, title): path for title, path in run.pictures.items() if title not in own.shown}
    sections = [
        _heading(run),
        *own.sections,
        section("Training", loss + charts.schedule_chart(run) if run.stages else ""),
        section("Health", _health(run) + charts.health_chart(run) if _has_health(run) else ""),
        section("Speed", _speed_table(run) + charts.speed_chart(run) if run.stages else ""),
        section("Pictures", "".join(picture(title, path) for title, path in pictures.items())),
        section("Videos that could not be used", _bad_samples(run)),
        section("Configuration", pre(run.config)),
        section("Environment", pre(run.metadata)),
    ]
    path = run.path / "report.html"
    write_whole(path, document(run.path.name, sections).encode(), sync=False)
    return path


def _has_health(run: RunRecords) -> bool:
    """Return whether this kind of run has health checks."""
    return "health" in run.config


def _heading(run: RunRecords) -> str:
    clips = sum(int(run.last(stage, "clips") or 0) for stage in run.stages)
    starts = len(run.metadata.get("starts", []))
    facts = [
        *([text(without_secrets(path))] if (path := run.config["data"].get("path")) else []),
        f"{clips:,} clips seen",
        f"{len(run.bad_samples)} bad videos",
        *([_verdict(run)] if _has_health(run) else []),
        *([f"resumed {starts - 1} times"] if starts > 1 else []),
    ]
    return f"<h1>{text(run.path.name)}</h1><p class='sub'>{' &middot; '.join(facts)}</p>"


def _verdict(run: RunRecords) -> str:
    problems = _problems(run)
    if problems:
        return f"<span class='bad'>{len(problems)} health warnings</span>"
    return "<span class='good'>healthy</span>" if _checks(run) else "health was not checked"


def _checks(run: RunRecords) -> list[dict]:
    return [record for record in run.metrics if "health_problems" in record]


def _problems(run: RunRecords) -> list[dict]:
    return [record for record in _checks(run) if record["health_problems"]]


def _health(run: RunRecords) -> str:
    checks, problems = _checks(run), _problems(run)
    if not checks:
        return "<p>No checks were made: health.every is 0, or no stage has come to one yet.</p>"
    if not problems:
        return f"<p class='good'>{len(checks)} checks, none found anything wrong.</p>"
    where = ", ".join(f"{r['stage']} {r['step']}" for r in problems[:10])
    return f"<p class='bad'>{len(problems)} of {len(checks)} checks found something wrong (see log.txt): {where}</p>"


def _speed_table(run: RunRecords) -> str:
    rows = []
    for stage in run.stages:
        rates = run.series(stage, "clips_per_s")[1]
        middle = sorted(rates)[len(rates) // 2]
        waits = run.series(stage, "share_data")[1]
        rows.append(
            f"<tr><td>{text(stage)}</td><td>{run.last(stage, 'step') or run.series(stage, 'loss')[0][-1]:,}</td>"
            f"<td>{int(run.last(stage, 'clips') or 0):,}</td><td>{middle:,.1f}</td>"
            f"<td>{100 * sum(waits) / len(waits):.1f} %</td></tr>"
        )
    return (
        "<table><tr><th>stage</th><th>optimizer steps</th><th>clips</th><th>clips/s, median, end to end</th>"
        f"<th>waiting for data</th></tr>{''.join(rows)}</table>"
    )


def _bad_samples(run: RunRecords) -> str:
    counts = [
        f"<p>Stage {text(stage)}: {int(run.last(stage, 'substituted_clips') or 0):,} clips stood in for bad videos, "
        f"{int(run.last(stage, 'short_clips') or 0):,} repeat frames of videos shorter than a clip.</p>"
        for stage in run.stages
    ]
    if not run.bad_samples:
        return "<p>None.</p>" + "".join(counts)
    rows = "".join(
        f"<tr><td>{text(r['key'])}</td><td>{text(r['reason'])}</td><td>{text(r['detail'])}</td></tr>"
        for r in run.bad_samples
    )
    return f"<table><tr><th>video</th><th>reason</th><th>what was found</th></tr>{rows}</table>{''.join(counts)}"
