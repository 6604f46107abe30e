"""Everything that a sweep makes of its finished runs, made anew: files are the same however often that happens."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from fastvid.command import loading
from fastvid.files import write_whole
from fastvid.projects.sweep import FinishedRun
from fastvid.sweep.folder import SweepFolder


def publish(folder: SweepFolder) -> list[FinishedRun]:
    """Write all tables and the page, and return all results."""
    results = publish_tables(folder)
    publish_page(folder, results)
    return results


def publish_tables(folder: SweepFolder) -> list[FinishedRun]:
    """Write runs.csv and the project's own files, and return all results."""
    results = folder.finished()
    write_csv(folder.path / "runs.csv", results)
    folder.options.plan.files(folder.path, results)
    return results


def publish_page(folder: SweepFolder, results: Sequence[FinishedRun]) -> None:
    """Write compare.html, if the sweep is a grid."""
    if folder.manifest["search"] is None:
        with loading():
            from fastvid.sweep.page import write_comparison

        write_comparison(folder, results)


def write_csv(path: Path, results: Sequence[FinishedRun]) -> None:
    """Write a row for each run: the values of its axes, then each measure with its interval, shares as shares."""
    axes = dict.fromkeys(option for result in results for option in result.values)
    names = dict.fromkeys(name for result in results for name in result.result.measures)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["run", *(option.removeprefix("--") for option in axes), *(f"{n}{end}" for n in names for end in _ENDS)]
    )
    for result in results:
        row: list[object] = [result.name, *(result.values.get(option) for option in axes)]
        for name in names:
            measure = result.result.measures.get(name)
            row += [None] * 3 if measure is None else [measure.value, measure.low, measure.high]
        writer.writerow(row)
    write_whole(path, text.getvalue().encode(), sync=False)


_ENDS = ("", " low", " high")
