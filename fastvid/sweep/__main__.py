"""``python -m fastvid.sweep``: runs of one recipe for every combination of approach, data size and seed, compared.

python -m fastvid.sweep PROJECT [--out DIR] [options]              runs the grid, or goes on with it
python -m fastvid.sweep PROJECT [--out DIR] --search rank,lr       searches options with Optuna
python -m fastvid.sweep report DIR                                 writes the tables and compare.html anew

python -m fastvid.sweep PROJECT --help lists the options; those it does not know go to every run.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fastvid.command import UserError, loading
from fastvid.command import command as as_command
from fastvid.train.signals import Stopped

PROJECTS = ("vjepa2",)


@as_command
def main(arguments: Sequence[str], command: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line.
        command: what runs the recipe; default: ``python -m fastvid.train PROJECT``.

    Returns:
        The exit code: 0; 1 where runs failed; 2 on a mistake in the options; 128 + signal when stopped.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0 if arguments else 2
    first, *rest = arguments
    try:
        if first == "report":
            return _report(rest)
        if first not in PROJECTS:
            raise UserError(f"no project {first!r}: choose one of {', '.join(PROJECTS)}, or report")
        return _sweep(first, rest, command or [sys.executable, "-m", "fastvid.train", first])
    except Stopped as stop:
        print(f"{stop}; the same command goes on", file=sys.stderr)
        return 128 + stop.signum


def _sweep(project: str, arguments: Sequence[str], command: Sequence[str]) -> int:
    from fastvid.sweep.options import parse

    config, options = parse(project, arguments)
    if config.search is not None:
        from fastvid.sweep.search import run_search

        return run_search(project, config, options, command)

    with loading():
        from fastvid.sweep import options as sweep_options
        from fastvid.sweep.check import check_cells
        from fastvid.sweep.folder import SweepFolder
        from fastvid.sweep.grid import make_grid, parse_approaches, parse_seeds, parse_videos
        from fastvid.sweep.grid_command import GridRun
        from fastvid.sweep.runner import stop_signals

    cells = make_grid(
        parse_approaches(config.approach or "head,pooler,lora,pooler+lora"),
        parse_videos(config.videos_per_class or "50,100,200"),
        parse_seeds(config.seed or "0,1,2"),
    )
    where = sweep_options.places(config.gpus)
    out = config.out or Path("sweeps") / project
    check_cells(cells, out, command, sweep_options.command_line(options), where[0])
    folder = SweepFolder(out)
    try:
        folder.begin(project, options, cells)
        with stop_signals() as signals:
            code = GridRun(folder, command, where, signals).run(cells)
    finally:
        folder.close()
    print(f"comparison: {folder.path / 'compare.html'}")
    return code


def _report(arguments: Sequence[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help"):
        print("usage: python -m fastvid.sweep report DIR...")
        return 0 if arguments else 2
    with loading():
        from fastvid.sweep.folder import SweepFolder
        from fastvid.sweep.publish import publish

    for argument in arguments:
        if not (Path(argument) / "sweep.json").is_file():
            raise UserError(f"{argument} is not a sweep's folder: it has no sweep.json")
        folder = SweepFolder(Path(argument))
        try:
            publish(folder)
        finally:
            folder.close()
        print(folder.path / ("compare.html" if folder.manifest["search"] is None else "experiments.csv"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
