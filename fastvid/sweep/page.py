"""``compare.html``: one self-contained page about a sweep."""

from collections.abc import Sequence
from pathlib import Path

from fastvid.files import write_whole
from fastvid.report.markup import document, pre, section, text
from fastvid.sweep import charts
from fastvid.sweep.charts import amount_name
from fastvid.sweep.comparison import ALPHA, Comparison, Group, Pair, compare
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import Cell
from fastvid.sweep.results import CellResult

_LAYOUT = """<style>
.verdicts p { margin: .3em 0; font-size: 1.05em; } td.n, th.n { text-align: right; }
.row { display: flex; flex-wrap: wrap; gap: 1em; } .row svg { flex: 0 0 auto; }
table { font-size: 14px; } td { white-space: nowrap; padding: .25em .6em; } th { padding: .25em .6em; }
td.why { white-space: normal; }
</style>"""


def write_comparison(folder: SweepFolder, results: Sequence[CellResult]) -> Path:
    """Write ``compare.html`` into the sweep's folder and return its path.

    Args:
        folder: folder of the sweep.
        results: of the grid's finished runs.
    """
    found = compare(results)
    done = {result.cell for result in results}
    missing = [cell for cell in folder.cells if cell.trial is None and cell not in done]
    most = found.amounts[-1] if found.groups else None
    last = [group for a in found.approaches for group in found.of(a) if group.videos == most]
    whose = f"{amount_name(most)} videos a class"
    sections = [
        _LAYOUT,
        _heading(folder, results),
        f"<div class='verdicts'>{''.join(f'<p>{line}</p>' for line in headlines(found))}</div>",
        section("Accuracy", _table(found) + _data_size(found) if results else ""),
        section("Which differences are real", _pairs(found)),
        section("Accuracy against trainable parameters", charts.parameters_chart(found) if results else ""),
        section("Training time", _time(found) if results else ""),
        section(f"Curves, {whose}", charts.curves_chart(found, most) if results else ""),
        section(f"Confusion, {whose}", _confusion(last) if results else ""),
        section("Runs without a result", _missing(folder, missing)),
        section("Sweep", pre({name: folder.manifest[name] for name in ("project", "options", "cells", "starts")})),
    ]
    path = folder.path / "compare.html"
    write_whole(path, document(f"{folder.path.name}: comparison", sections).encode(), sync=False)
    return path


def headlines(found: Comparison) -> list[str]:
    """Write, for each amount of data, one HTML sentence: which approach leads, and over which others significantly."""
    return [_headline(found, found.at(videos)) for videos in found.amounts] or ["No run has finished yet."]


def _headline(found: Comparison, groups: list[Group]) -> str:
    best, *others = groups
    amount = "With all videos" if best.videos is None else f"With {best.videos:,} videos a class"
    accuracy = f"<b>{text(best.approach)}</b> ({100 * best.accuracy:.1f} %)"
    if not others:
        return f"{amount} only {accuracy} has a result."
    pairs = [(group, found.pair(best, group)) for group in others]
    beaten = [g for g, pair in pairs if pair.real and pair.difference > 0]
    behind = [g for g, pair in pairs if pair.real and pair.difference < 0]
    level = [g for g, pair in pairs if pair.refusal is None and not pair.real]
    refused = [g for g, pair in pairs if pair.refusal is not None]
    parts = []
    if beaten:
        parts.append(f"<span class='good'>really better than {_names(beaten)}</span>")
    if level:
        parts.append(f"not distinguishable from {_names(level)}")
    if behind:
        parts.append(f"<span class='bad'>but behind {_names(behind)} on the seeds that both have</span>")
    if refused:
        parts.append(f"not comparable with {_names(refused)}")
    verb = "is best" if len(beaten) == len(others) else "leads"
    return f"{amount} {accuracy} {verb}: {'; '.join(parts)}."


def _names(groups: Sequence[Group]) -> str:
    names = [text(group.approach) for group in groups]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _heading(folder: SweepFolder, results: Sequence[CellResult]) -> str:
    cells = [cell for cell in folder.cells if cell.trial is None]
    failed = sum(cell.name in folder.failed for cell in cells)
    data = ", ".join(sorted({result.data for result in results}))
    models = ", ".join(sorted({result.found["model"] for result in results}))
    counts = f"{len(results)} of {len(cells)} runs have finished"
    wrong = f" &middot; <span class='bad'>{failed} failed</span>" if failed else ""
    where = f"{text(models)} on {text(data)} &middot; " if results else ""
    return f"<h1>{text(folder.path.name)}</h1><p class='sub'>{where}{counts}{wrong}</p>"


def _table(found: Comparison) -> str:
    rows = "".join(_row(group) for group in found.groups)
    one = found.groups[0].results[0].found
    tests = sorted({result.found["test"]["total"] for group in found.groups for result in group.results})
    chance = (
        f"{len(one['classes'])} classes ({text(', '.join(one['classes']))}), chance {100 / len(one['classes']):.0f} %"
    )
    return (
        f"<p>{chance}; tested on {' or '.join(str(total) for total in tests)} videos that no run was trained or chosen "
        "on. Accuracy: mean over seeds, with the 95 % Wilson interval of that many videos; videos that several seeds "
        "were tested on count once.</p><table><tr><th>approach</th><th class='n'>videos a class</th>"
        "<th class='n'>seeds</th><th>test accuracy, %</th><th>over seeds: deviation, range</th><th class='n'>best "
        "validation, %</th><th class='n'>trainable parameters</th><th class='n'>minutes</th><th class='n'>s/clip</th>"
        f"<th class='n'>peak memory, GB</th></tr>{rows}</table>"
    )


def _data_size(found: Comparison) -> str:
    caption = "Dots: mean over seeds; dashes: single seeds; shaded: from the least to the greatest."
    return f"<figure>{charts.data_size_chart(found)}<figcaption>{caption}</figcaption></figure>"


def _row(group: Group) -> str:
    low, high = (100 * edge for edge in group.interval)
    values = [100 * value for value in group.accuracies]
    spread = "&ndash;"
    if group.deviation is not None:
        spread = f"&plusmn; {100 * group.deviation:.1f} <span class='sub'>{min(values):.1f} to {max(values):.1f}</span>"
    on_gpu = group.mean("memory", "gpu_peak_gb")
    memory = f"{group.mean('memory', 'peak_rss_gb') or 0:.1f}" if on_gpu is None else f"{on_gpu:.1f} (GPU)"
    numbers = (
        f"{100 * (group.mean('best', 'val_accuracy') or 0):.1f}",
        f"{group.mean('parameters', 'trainable') or 0:,.0f}",
        f"{group.minutes:.1f}",
        f"{group.mean('time', 'seconds_per_clip') or 0:.3g}",
        memory,
    )
    return (
        f"<tr><td>{text(group.approach)}</td><td class='n'>{amount_name(group.videos)}</td>"
        f"<td class='n'>{len(group.results)}</td><td><b>{100 * group.accuracy:.1f}</b> <span class='sub'>"
        f"[{low:.1f}, {high:.1f}]</span></td><td>{spread}</td>"
        f"{''.join(f'<td class=n>{number}</td>' for number in numbers)}</tr>"
    )


def _pairs(found: Comparison) -> str:
    if not found.pairs:
        return ""
    tested = sum(pair.refusal is None for pair in found.pairs)
    rows = "".join(_pair(pair) for pair in found.pairs)
    return (
        "<p>Each pair at equal amounts of data, on the same test videos. A video's correctness is averaged over the "
        "seeds that both approaches have; p is of a sign-flip permutation test over videos, two-sided, and adjusted "
        f"(Holm) for the {tested} pair{'s' * (tested != 1)} of this page. A difference is called real where the "
        f"adjusted p is below {ALPHA}. In brackets: 95 % interval of the paired bootstrap over videos. Training again "
        "with other seeds is another source of chance, which only their spread above shows.</p>"
        f"{charts.differences_chart(found)}<table><tr><th class='n'>videos a class</th><th>approaches</th><th>"
        "difference, points</th><th class='n'>seeds</th><th class='n'>p</th><th class='n'>adjusted p</th><th>verdict"
        f"</th></tr>{rows}</table>"
    )


def _pair(pair: Pair) -> str:
    head = (
        f"<tr><td class='n'>{amount_name(pair.a.videos)}</td>"
        f"<td>{text(pair.a.approach)} vs {text(pair.b.approach)}</td>"
    )
    if pair.refusal is not None:
        return f"{head}<td colspan='5' class='bad'>not compared: {text(pair.refusal)}</td></tr>"
    better = pair.a if pair.difference > 0 else pair.b
    verdict = f"<span class='good'>{text(better.approach)} is better</span>" if pair.real else "not distinguishable"
    return (
        f"{head}<td>{100 * pair.difference:+.1f} <span class='sub'>[{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"
        f"</span></td><td class='n'>{', '.join(map(str, pair.seeds))}</td><td class='n'>{_p(pair.p)}</td>"
        f"<td class='n'>{_p(pair.adjusted)}</td><td>{verdict}</td></tr>"
    )


def _p(value: float) -> str:
    return f"{value:.4f}" if value < 0.01 else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def _time(found: Comparison) -> str:
    shares = [result.found["time"]["features_s"] / 60 for group in found.groups for result in group.results]
    return (
        "<p>Minutes of training of one run, mean over seeds. Features of the frozen parts are made by whichever run "
        f"comes first, and shared: they took {sum(shares):.1f} minutes over all runs, which are not in the bars.</p>"
        f"{charts.time_chart(found)}"
    )


def _confusion(groups: Sequence[Group]) -> str:
    return (
        "<p>Rows: the true class; numbers: percent of it, all seeds together.</p>"
        f"<div class='row'>{''.join(charts.confusion_chart(group) for group in groups)}</div>"
    )


def _missing(folder: SweepFolder, cells: Sequence[Cell]) -> str:
    if not cells:
        return ""
    rows = "".join(f"<tr><td>{text(cell)}</td><td class='why'>{text(_why(folder, cell))}</td></tr>" for cell in cells)
    return f"<table><tr><th>run</th><th>why</th></tr>{rows}</table>"


def _why(folder: SweepFolder, cell: Cell) -> str:
    if cell.name in folder.failed:
        entry = folder.failed[cell.name]
        return f"failed with exit code {entry['code']}: {entry['error']}"
    return "begun" if (folder.run_path(cell) / "config.json").exists() else "not begun"
