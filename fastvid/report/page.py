"""``report.html``: one self-contained page about a run."""

import base64
import html
import json
from pathlib import Path

from fastvid.files import write_whole
from fastvid.report import charts
from fastvid.report.records import RunRecords

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2933; max-width: 1080px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: 0; } h2 { font-size: 1.15em; margin: 2em 0 .5em; }
.sub { color: #627282; margin-top: .2em; } .good { color: #1d7a5f; } .bad { color: #b3323f; }
table { border-collapse: collapse; margin: .5em 0; } td, th { padding: .25em .8em; text-align: left; }
th { border-bottom: 1px solid #9aa5b1; font-weight: 600; } tr:nth-child(even) td { background: #f4f6f8; }
img, svg { max-width: 100%; height: auto; }
pre { background: #f4f6f8; padding: 1em; overflow-x: auto; font-size: 12px; }
figure { margin: 1em 0; } figcaption { color: #627282; }
"""


def write_report(run_dir: str | Path) -> Path:
    """Writes ``report.html`` into a run directory and returns its path.

    Raises:
        FileNotFoundError: it is no run directory.
    """
    run = RunRecords.read(run_dir)
    sections = [
        _heading(run),
        _section("What was learnt", _probe_table(run) + charts.probe_chart(run)),
        _section("Training", charts.loss_chart(run) + charts.schedule_chart(run) if run.stages else ""),
        _section("Health", _health(run) + charts.health_chart(run)),
        _section("Speed", _speed_table(run) + charts.speed_chart(run) if run.stages else ""),
        _section("Pictures", "".join(_picture(title, path) for title, path in run.pictures.items())),
        _section("Videos that could not be used", _bad_samples(run)),
        _section("Configuration", _pre(run.config)),
        _section("Environment", _pre(run.facts)),
    ]
    page = (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{_text(run.path.name)}</title>"
        f"<style>{_STYLE}</style></head><body>{''.join(sections)}</body></html>\n"
    )
    path = run.path / "report.html"
    write_whole(path, page.encode(), sync=False)
    return path


def _heading(run: RunRecords) -> str:
    problems = _problems(run)
    verdict = (
        f"<span class='bad'>{len(problems)} health warnings</span>"
        if problems
        else "<span class='good'>healthy</span>"
        if _checks(run)
        else "health was not checked"
    )
    clips = sum(int(run.last(stage, "clips") or 0) for stage in run.stages)
    starts = len(run.facts.get("starts", []))
    resumed = f", resumed {starts - 1} times" if starts > 1 else ""
    return (
        f"<h1>{_text(run.path.name)}</h1><p class='sub'>{_text(run.config['data']['path'])} &middot; {clips:,} clips "
        f"seen &middot; {len(run.bad_samples)} bad videos &middot; {verdict}{resumed}</p>"
    )


def _probe_table(run: RunRecords) -> str:
    if run.probe is None:
        return "<p>No probes: they need labelled videos of at least two classes.</p>"
    p = run.probe
    rows = "".join(
        f"<tr><td>{_text(row['encoder'])}</td>{_cell(row['knn'])}{_cell(row['linear'])}{_cell(row['attentive'])}</tr>"
        for row in p["rows"]
    )
    return (
        f"<p>{len(p['classes'])} classes ({_text(', '.join(p['classes']))}); probes fitted on {p['train']} videos, "
        f"tested on {p['test']} others; chance is {100 * p['chance']:.0f} %. In brackets: 95 % Wilson interval.</p>"
        f"<table><tr><th>frozen encoder</th><th>kNN</th><th>linear, mean over space</th><th>attentive</th></tr>{rows}"
        "</table>"
    )


def _cell(result: dict) -> str:
    return (
        f"<td>{100 * result['accuracy']:.1f} % <span class='sub'>[{100 * result['low']:.1f}, "
        f"{100 * result['high']:.1f}]</span></td>"
    )


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
            f"<tr><td>{_text(stage)}</td><td>{run.last(stage, 'step') or run.series(stage, 'loss')[0][-1]:,}</td>"
            f"<td>{int(run.last(stage, 'clips') or 0):,}</td><td>{middle:,.1f}</td>"
            f"<td>{100 * sum(waits) / len(waits):.1f} %</td></tr>"
        )
    return (
        "<table><tr><th>stage</th><th>optimizer steps</th><th>clips</th><th>clips/s, median, end to end</th>"
        f"<th>waiting for data</th></tr>{''.join(rows)}</table>"
    )


def _bad_samples(run: RunRecords) -> str:
    counts = [
        f"<p>Stage {_text(stage)}: {int(run.last(stage, 'substituted_clips') or 0):,} clips stood in for bad videos, "
        f"{int(run.last(stage, 'short_clips') or 0):,} repeat frames of videos shorter than a clip.</p>"
        for stage in run.stages
    ]
    if not run.bad_samples:
        return "<p>None.</p>" + "".join(counts)
    rows = "".join(
        f"<tr><td>{_text(r['key'])}</td><td>{_text(r['reason'])}</td><td>{_text(r['detail'])}</td></tr>"
        for r in run.bad_samples
    )
    return f"<table><tr><th>video</th><th>reason</th><th>what was found</th></tr>{rows}</table>{''.join(counts)}"


def _picture(title: str, path: Path) -> str:
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f"<figure><img alt='{_text(title)}' src='data:image/png;base64,{data}'><figcaption>{_text(title)}</figcaption>"
        "</figure>"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}" if content else ""


def _pre(value: dict) -> str:
    return f"<details><summary>show</summary><pre>{_text(json.dumps(value, indent=1))}</pre></details>"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
