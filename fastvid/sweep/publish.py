"""Everything that a sweep makes of its finished runs, made anew: files are the same however often that happens."""

from collections.abc import Sequence

from fastvid.command import loading
from fastvid.sweep.events import write_events
from fastvid.sweep.experiments import run_names, write_csv, write_run_json
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.results import CellResult, read_results


def publish(folder: SweepFolder) -> list[CellResult]:
    """Write all tables and the page, and return all results."""
    results = publish_tables(folder)
    publish_page(folder, results)
    return results


def publish_tables(folder: SweepFolder) -> list[CellResult]:
    """Write experiments.csv, json/ and tensorboard/, and return all results."""
    results = read_results(folder, folder.cells)
    write_csv(folder.path / "experiments.csv", results)
    (folder.path / "tensorboard").mkdir(exist_ok=True)
    names = _names(folder, results)
    for result in results:
        json_name, board_name = names[result.cell.name]
        write_run_json(folder.path / "json" / f"{json_name}.json", result)
        write_events(folder.path / "tensorboard" / board_name, result)
    return results


def publish_page(folder: SweepFolder, results: Sequence[CellResult]) -> None:
    """Write compare.html, if the sweep is a grid."""
    if folder.manifest["search"] is None:
        with loading():
            from fastvid.sweep.page import write_comparison

        write_comparison(folder, results)


def _names(folder: SweepFolder, results: Sequence[CellResult]) -> dict[str, list[str]]:
    """Return the file names by run. They are stored, because two seeds started in the same second would share one."""
    names: dict[str, list[str]] = folder.manifest["names"]
    before = {run: list(pair) for run, pair in names.items()}
    for result in results:
        plain, run = run_names(result), result.cell.name
        if run in names and all(name.startswith(start) for name, start in zip(names[run], plain, strict=True)):
            continue
        tail = "" if list(plain) not in names.values() else f"_{run.rpartition('videos-')[2]}"
        names[run] = [name + tail for name in plain]
    if names != before:
        folder.save()
    return names
