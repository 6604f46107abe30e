"""``compare.html``: one self-contained page about a sweep."""

from collections.abc import Sequence
from pathlib import Path

from fastvid.files import write_whole
from fastvid.projects.sweep import FinishedRun, Group, shown
from fastvid.report.markup import document, pre, section, table, text
from fastvid.sweep import charts
from fastvid.sweep.comparison import ALPHA, Comparison, Condition, Pair, compare, group_interval
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import SweepRun, run_words, value_words

_LAYOUT = """<style>
.verdicts p { margin: .3em 0; font-size: 1.05em; }
.row { display: flex; flex-wrap: wrap; gap: 1em; } .row svg { flex: 0 0 auto; }
table { font-size: 14px; } td { white-space: nowrap; padding: .25em .6em; } th { padding: .25em .6em; }
td.why { white-space: normal; }
</style>"""
_MOST_BARS, _MOST_CURVES = 20, 6  # groups in the chart of the ranking, and in that of the curves


def write_comparison(folder: SweepFolder, results: Sequence[FinishedRun]) -> Path:
    """Write ``compare.html`` into the sweep's folder and return its path.

    Args:
        folder: folder of the sweep.
        results: its finished runs.
    """
    found = compare(results, folder.options)
    done = {result.name for result in results}
    missing = [run for run in folder.runs if run.trial is None and run.name not in done]
    manifest = {name: folder.manifest[name] for name in ("project", "options", "cells", "starts")}
    plan = folder.options.plan
    by = f"<p class='sub'>By {text(plan.tested)}:</p>" if plan.tested != plan.ranks and results else ""
    sections = [
        _LAYOUT,
        _heading(folder, results),
        f"<div class='verdicts'>{by}{''.join(f'<p>{line}</p>' for line in headlines(found))}</div>",
        *(_results(found) if results else []),
        section("Runs without a result", _missing(folder, missing)),
        section("Sweep", pre(manifest)),
    ]
    path = folder.path / "compare.html"
    write_whole(path, document(f"{folder.path.name}: comparison", sections).encode(), sync=False)
    return path


def _results(found: Comparison) -> list[str]:
    plan = found.options.plan
    measures = list(dict.fromkeys((plan.ranks, plan.tested)))
    varied = [option for option in found.axes if len({group.values[option] for group in found.groups}) > 1]
    by_axis = [(option, [m for m in measures if any(g.measures(m) for g in found.groups)]) for option in varied]
    last = found.conditions[-1]
    best = found.at(last, plan.ranks)[:_MOST_CURVES] or [g for g in found.groups if found.condition(g) == last]
    where = _under(found, last)
    return [
        section(f"Ranking by {text(plan.ranks)}", _ranking(found)),
        *(
            section(f"Along {text(found.options.title(option))}", charts.axis_chart(found, option, known))
            for option, known in by_axis
            if known
        ),
        section("Which differences are significant", _pairs(found)),
        section(f"Curves{where}", _curves(found, best[:_MOST_CURVES])),
        *(section(text(title), html) for title, html in plan.sections(found.groups, found.name).items()),
    ]


def headlines(found: Comparison) -> list[str]:
    """Write an HTML sentence for each condition: which group leads, and over which others significantly."""
    if not found.groups:
        return ["No run has finished yet."]
    plan = found.options.plan
    lines = []
    for condition in found.conditions:
        groups = found.at(condition, plan.tested)
        if not groups:
            lines.append(
                f"{_with(found, condition)}nothing is ranked: no run has {text(plan.ranks)}, and what is left, such as "
                "a loss, does not tell which is better."
            )
        elif len(groups) == 1:
            lines.append(f"{_with(found, condition)}only {_leader(found, groups[0])} has a result.")
        elif any(found.pair(groups[0], other) for other in groups[1:]):
            lines.append(_paired_headline(found, condition, groups))
        else:
            lines.append(_unpaired_headline(found, condition, groups))
    return lines


def _paired_headline(found: Comparison, condition: Condition, groups: list[Group]) -> str:
    best, *others = groups
    pairs = [(group, pair) for group in others if (pair := found.pair(best, group)) is not None]
    beaten = [g for g, pair in pairs if pair.significant and pair.difference > 0]
    behind = [g for g, pair in pairs if pair.significant and pair.difference < 0]
    level = [g for g, pair in pairs if pair.obstacle is None and not pair.significant]
    apart = [g for g, pair in pairs if pair.obstacle is not None]
    parts = []
    if beaten:
        parts.append(f"<span class='good'>significantly better than {_names(found, beaten)}</span>")
    if level:
        parts.append(f"not distinguishable from {_names(found, level)}")
    if behind:
        parts.append(f"<span class='bad'>but behind {_names(found, behind)} on the seeds that both have</span>")
    if apart:
        parts.append(f"not comparable with {_names(found, apart)}")
    verb = "is best" if len(beaten) == len(others) else "leads"
    return f"{_with(found, condition)}{_leader(found, best)} {verb}: {'; '.join(parts)}."


def _unpaired_headline(found: Comparison, condition: Condition, groups: list[Group]) -> str:
    best, *others = groups
    measure = found.options.plan.tested
    of_best = group_interval(best, measure)
    intervals = [(group, group_interval(group, measure)) for group in others]
    if of_best is None or any(interval is None for _, interval in intervals):
        return f"{_with(found, condition)}{_leader(found, best)} leads; without intervals nothing says how surely."
    apart = [group for group, interval in intervals if interval is not None and interval[1] < of_best[0]]
    verb = "is best" if len(apart) == len(others) else "leads"
    parts = [f"its interval lies above {len(apart)} of the {len(others)} others"] if apart else []
    if len(apart) < len(others):
        parts.append(
            "where intervals overlap, a difference may be chance"
            if apart
            else "all intervals overlap with its own, so its lead may be chance"
        )
    return f"{_with(found, condition)}{_leader(found, best)} {verb}: {'; '.join(parts)}."


def _leader(found: Comparison, group: Group) -> str:
    measure = found.options.plan.tested
    return f"<b>{text(found.name(group))}</b> ({shown(group.mean(measure) or 0, unit=found.unit(measure))})"


def _under(found: Comparison, condition: Condition) -> str:
    words = [value_words(option, value, found.options) for option, value in zip(found.within, condition, strict=True)]
    return f", {text(', '.join(words))}" if words else ""


def _with(found: Comparison, condition: Condition) -> str:
    words = _under(found, condition).removeprefix(", ")
    return f"With {words} " if words else ""


def _names(found: Comparison, groups: Sequence[Group]) -> str:
    names = [text(found.name(group)) for group in groups]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _heading(folder: SweepFolder, results: Sequence[FinishedRun]) -> str:
    runs = [run for run in folder.runs if run.trial is None]
    failed = sum(run.name in folder.failed for run in runs)
    paths = {str(result.records.config.get("data", {}).get("path", "")).rstrip("/") for result in results}
    data = ", ".join(sorted(Path(path).name for path in paths - {""}))
    parts = [
        text(f"{folder.options.name} on {data}" if data else folder.options.name),
        f"{len(results)} of {len(runs)} runs have finished",
        *([f"<span class='bad'>{failed} failed</span>"] if failed else []),
    ]
    return f"<h1>{text(folder.path.name)}</h1><p class='sub'>{' &middot; '.join(parts)}</p>"


def _ranking(found: Comparison) -> str:
    options, plan = found.options, found.options.plan
    measures = list(dict.fromkeys(name for g in found.groups for run in g.runs for name in run.result.measures))
    ranked = {condition: found.at(condition, plan.ranks) for condition in found.conditions}
    rows = []
    for condition in found.conditions:
        places = {id(group): place for place, group in enumerate(ranked[condition], start=1)}
        unranked = [g for g in found.groups if found.condition(g) == condition and id(g) not in places]
        for group in (*ranked[condition], *unranked):
            cells = [_cell(found, group, name) for name in measures]
            axes = [text(group.values[option]) for option in (*found.across, *found.within)]
            rows.append([str(places.get(id(group), "&ndash;")), *axes, str(len(group.runs)), *cells])
    axes = [text(options.title(option)) for option in (*found.across, *found.within)]
    head = ["rank", *axes, "seeds", *(text(_titled(found, name)) for name in measures)]
    chosen = plan.ranks if plan.tested == plan.ranks else f"{plan.ranks}; {plan.tested} chooses nothing"
    chart = ranked[found.conditions[-1]][:_MOST_BARS]
    drawn = charts.ranking_chart(found, chart) if len(chart) > 1 else ""
    caption = (
        f"<figcaption>{text(plan.ranks)}{_under(found, found.conditions[-1])}: mean over seeds, its 95 % interval, and "
        "each seed as a dash.</figcaption>"
    )
    return (
        f"<p>Ranked by the mean over seeds of {text(chosen)}. In brackets: 95 % interval of the mean for as many test "
        "items as there are; items that several seeds were tested on count once. Behind &plusmn;: deviation over "
        f"seeds, and their range.</p>{table(head, rows, numbers=[0, len(axes) + 1])}"
        + (f"<figure>{drawn}{caption}</figure>" if drawn else "")
    )


def _titled(found: Comparison, measure: str) -> str:
    return ", ".join(filter(None, (measure, found.unit(measure))))


def _cell(found: Comparison, group: Group, name: str) -> str:
    mean, deviation, plan = group.mean(name), group.deviation(name), found.options.plan
    if mean is None:
        return "&ndash;"
    unit = found.unit(name)
    scale, form = (100, ".1f") if unit == "%" else (1, ".4g" if mean < 1e4 else ",.0f")
    parts = [f"{scale * mean:{form}}"]
    interval = group_interval(group, name)
    if interval is not None:
        parts.append(f"<span class='sub'>[{scale * interval[0]:{form}}, {scale * interval[1]:{form}}]</span>")
    if deviation is not None and name in (plan.ranks, plan.tested):
        values = [scale * value for value in group.numbers(name)]
        spread = f"{min(values):{form}} to {max(values):{form}}"
        parts.append(f"&plusmn; {scale * deviation:{form}} <span class='sub'>{spread}</span>")
    if name in (plan.ranks, plan.tested):
        parts[0] = f"<b>{parts[0]}</b>"
    return " ".join(parts)


def _curves(found: Comparison, groups: Sequence[Group]) -> str:
    drawn = charts.curves_chart(found, groups)
    return f"<p>The {len(groups)} best; thin lines are single seeds.</p>{drawn}" if drawn and len(groups) > 1 else drawn


def _pairs(found: Comparison) -> str:
    if len(found.groups) < 2:
        return ""
    if not found.pairs:
        return (
            "<p>Runs keep no score of each test item, or are not under the same conditions, so groups are not compared "
            "item by item: see which intervals overlap.</p>"
        )
    tested = sum(pair.obstacle is None for pair in found.pairs)
    rows = "".join(_pair(found, pair) for pair in found.pairs)
    conditions = "".join(f"<th class='n'>{text(found.options.title(option))}</th>" for option in found.within)
    measure = text(found.options.plan.tested)
    return (
        f"<p>Each pair of groups under equal conditions, by {measure} on the same test items. An item's score is "
        "averaged over the seeds that both groups have; p is of a sign-flip permutation test over items, two-sided, "
        f"and adjusted for the {tested} pair{'s' * (tested != 1)} of this page (Holm; where only the leaders' pairs "
        f"are shown, Bonferroni for all). A difference is significant where the adjusted p is below {ALPHA}. In "
        "brackets: 95 % interval of the paired bootstrap over items. Training again with other seeds is another "
        "source of chance, which only their spread above shows.</p>"
        f"{charts.differences_chart(found)}<table><tr>{conditions}"
        "<th>groups</th><th>difference</th><th class='n'>seeds</th><th class='n'>p</th><th class='n'>adjusted p</th>"
        f"<th>verdict</th></tr>{rows}</table>"
    )


def _pair(found: Comparison, pair: Pair) -> str:
    scale, form = (100, "+.1f") if found.unit(found.options.plan.tested) == "%" else (1, "+.4g")
    conditions = "".join(f"<td class='n'>{text(value)}</td>" for value in found.condition(pair.a))
    head = f"<tr>{conditions}<td>{text(found.name(pair.a))} vs {text(found.name(pair.b))}</td>"
    if pair.obstacle is not None:
        return f"{head}<td colspan='5' class='bad'>not compared: {text(pair.obstacle)}</td></tr>"
    better = pair.a if pair.difference > 0 else pair.b
    verdict = "not distinguishable"
    if pair.significant:
        verdict = f"<span class='good'>{text(found.name(better))} is better</span>"
    low, high = (f"{scale * end:{form}}" for end in (pair.low, pair.high))
    numbers = (", ".join(pair.seeds), _p(pair.p), _p(pair.adjusted))
    return (
        f"{head}<td>{scale * pair.difference:{form}} <span class='sub'>[{low}, {high}]</span></td>"
        f"{''.join(f'<td class=n>{number}</td>' for number in numbers)}<td>{verdict}</td></tr>"
    )


def _p(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _missing(folder: SweepFolder, runs: Sequence[SweepRun]) -> str:
    if not runs:
        return ""
    rows = [(text(run_words(run, folder.options)), text(_why(folder, run))) for run in runs]
    cells = "".join(f"<tr><td>{run}</td><td class='why'>{why}</td></tr>" for run, why in rows)
    return f"<table><tr><th>run</th><th>why</th></tr>{cells}</table>"


def _why(folder: SweepFolder, run: SweepRun) -> str:
    if run.name in folder.failed:
        entry = folder.failed[run.name]
        return f"failed with exit code {entry['code']}: {entry['error']}"
    return "begun" if (folder.run_path(run) / "config.json").exists() else "not begun"
