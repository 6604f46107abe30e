"""``python -m fastvid.sweep``: runs of a project for every combination of some options' values, ranked and compared.

python -m fastvid.sweep PROJECT [--out DIR] [options]              makes the runs, or goes on with them
python -m fastvid.sweep PROJECT [--out DIR] --search rank,lr       searches options with Optuna
python -m fastvid.sweep report DIR                                 writes the tables and compare.html anew

Every option of `python -m fastvid.train PROJECT` can be given several values by comma:
python -m fastvid.sweep salt --optim.lr 1.5e-4,3e-4 --mask.ratio 0.75,0.9 --run.seed 0,1

python -m fastvid.sweep PROJECT --help says more.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from fastvid.command import UserError, loading
from fastvid.command import command as as_command
from fastvid.train.signals import Stopped


@as_command
def main(arguments: Sequence[str], command: Sequence[str] | None = None) -> int:
    """Run a command.

    Args:
        arguments: of the command line.
        command: what runs the recipe, in place of ``python -m fastvid.train PROJECT``.

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
        return _sweep(first, rest, command or [sys.executable, "-m", "fastvid.train", first])
    except Stopped as stop:
        print(f"{stop}; the same command goes on", file=sys.stderr)
        return 128 + stop.signum


def _sweep(project: str, arguments: Sequence[str], command: Sequence[str]) -> int:
    with loading():
        from fastvid.sweep.options import parse

    config, options, given = parse(project, arguments)
    if config.search is not None:
        from fastvid.sweep.search import run_search

        return run_search(config, options, given, command)

    with loading():
        from fastvid.sweep import options as sweep_options
        from fastvid.sweep.check import check_runs
        from fastvid.sweep.folder import SweepFolder, joined, read_manifest
        from fastvid.sweep.grid_command import SweepStart
        from fastvid.sweep.manifest import fixed_of
        from fastvid.sweep.runner import stop_signals

    where = sweep_options.places(config.gpus)
    out = config.out or Path("sweeps") / project
    # All that can be wrong is found before the folder is made, or changed.
    manifest, runs = joined(out, read_manifest(out), options, given)
    new = [run for run in runs if not (out / "runs" / run.name / "config.json").exists()]
    check_runs(new, fixed_of(manifest), options, command, where[0])
    folder = SweepFolder(out, options)
    try:
        runs = folder.begin(given)
        with stop_signals() as signals:
            code = SweepStart(folder, command, where, signals).run(runs)
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
        print(folder.path / ("compare.html" if folder.manifest["search"] is None else "runs.csv"))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
