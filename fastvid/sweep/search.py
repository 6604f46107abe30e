"""A search for options with Optuna's TPE: every trial is a run of the sweep, judged by its validation accuracy alone.

What is drawn for a trial depends on its number and on the trials before it, so a search that was stopped, or killed,
goes on as if it had not been: a trial without an end is the next to run.

Source: Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011.
"""

import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastvid.command import UserError, loading
from fastvid.random import SampleRandom
from fastvid.sweep.check import check_cells
from fastvid.sweep.folder import SweepFolder
from fastvid.sweep.grid import Cell, parse_approaches, parse_seeds, parse_videos
from fastvid.sweep.grid_command import GridRun
from fastvid.sweep.options import SweepConfig, command_line, places
from fastvid.sweep.results import is_finished, read_results
from fastvid.sweep.runner import stop_signals
from fastvid.train.rundir import write_json

_OPTIONS = {"rank": "--lora.rank", "alpha": "--lora.alpha", "dropout": "--lora.dropout", "lr": "--optim.lr"}


def run_search(project: str, config: SweepConfig, options: dict[str, list[str]], command: Sequence[str]) -> int:
    """Run trials until the requested number is reached, and return the exit code.

    Raises:
        UserError: Optuna is not installed, or the options do not fit a search.
        Stopped: by a signal.
    """
    names, base = _check(config, options)
    try:
        with loading():
            import optuna
    except ImportError:
        raise UserError("--search needs Optuna: pip install 'fastvid[optuna]', or pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = places(config.gpus)[:1]  # a trial is drawn from what those before it found
    out = config.out or Path("sweeps") / f"{project}-search"
    if not (out / "runs").is_dir():  # its trials are those that are begun, one after the other
        check_cells([base], out, command, command_line(options), place[0])
    folder = SweepFolder(out)
    try:
        what = {"options": names, "approach": base.approach, "videos_per_class": base.videos, "seed": base.seed}
        folder.begin(project, options, [], what)
        storage = f"sqlite:///{folder.path / 'search.db'}"
        with stop_signals() as signals:
            run = GridRun(folder, command, place, signals)
            while True:
                study = optuna.create_study(
                    storage=storage, study_name="search", direction="maximize", load_if_exists=True
                )
                trials = study.get_trials(deepcopy=False)
                drawn_before = [trial for trial in trials if all(name in trial.params for name in names)]
                under_way = [trial for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
                if under_way and under_way[0] in drawn_before:
                    number, drawn = under_way[0].number, dict(under_way[0].params)
                elif under_way:  # killed while its options were drawn: nothing has run yet
                    study.tell(under_way[0].number, state=optuna.trial.TrialState.FAIL)
                    continue
                elif len(drawn_before) >= config.trials:
                    break
                else:
                    word = SampleRandom(f"trial {len(drawn_before)}", base.seed, 0).word()
                    study.sampler = optuna.samplers.TPESampler(seed=word)
                    trial = study.ask()
                    number, drawn = trial.number, {name: _draw(trial, name) for name in names}
                cell = Cell(base.approach, base.videos, base.seed, number, _arguments(drawn, names))
                folder.add([cell])
                print(f"trial {number}: {_said(drawn, names)}", flush=True)
                run.run([cell])
                if is_finished(folder.run_path(cell)):
                    study.tell(number, read_results(folder, [cell])[0].found["best"]["val_accuracy"])
                else:
                    study.tell(number, state=optuna.trial.TrialState.FAIL)
        return _summary(folder, study, names, project)
    finally:
        folder.close()


def _check(config: SweepConfig, options: Mapping[str, Sequence[str]]) -> tuple[list[str], Cell]:
    """Return the names to search and the cell that all trials share."""
    names = (config.search or "").split(",")
    for name in names:
        if name not in _OPTIONS or names.count(name) > 1:
            raise UserError(f"--search {config.search}: give some of {','.join(_OPTIONS)}, each once")
        if _OPTIONS[name] in options:
            raise UserError(f"{_OPTIONS[name]} is what --search {config.search} looks for: leave one of them out")
    approaches = parse_approaches(config.approach or "lora")
    videos, seeds = parse_videos(config.videos_per_class or "100"), parse_seeds(config.seed or "0")
    if max(len(approaches), len(videos), len(seeds)) > 1:
        raise UserError("--search needs a single --approach, --videos-per-class and --seed")
    if "lora" not in approaches[0] and set(names) - {"lr"}:
        raise UserError(f"--search {config.search}: {approaches[0]} has no adapters, only lr can be searched")
    return [name for name in _OPTIONS if name in names], Cell(approaches[0], videos[0], seeds[0])


def _draw(trial: Any, name: str) -> float:
    if name == "rank":
        return trial.suggest_categorical(name, (4, 8, 16, 32, 64))
    if name == "alpha":
        return trial.suggest_categorical(name, (8, 16, 32, 64, 128))
    if name == "dropout":
        return trial.suggest_float(name, 0.0, 0.3, step=0.05)
    return trial.suggest_float(name, 2e-5, 2e-3, log=True)


def _arguments(drawn: Mapping[str, float], names: Sequence[str]) -> tuple[str, ...]:
    return tuple(part for name in names for part in (_OPTIONS[name], f"{drawn[name]:.6g}"))


def _said(drawn: Mapping[str, float], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {drawn[name]:.4g}" for name in names)


def _summary(folder: SweepFolder, study: Any, names: Sequence[str], project: str) -> int:
    """Write search.json and print the best trial."""
    rows = [
        {
            "trial": trial.number,
            "val_accuracy": trial.value,
            "options": {name: trial.params[name] for name in names},
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.value is not None
    ]
    rows.sort(key=lambda row: (-row["val_accuracy"], row["trial"]))
    write_json(folder.path / "search.json", rows)
    if not rows:
        print("no trial has finished", file=sys.stderr)
        return 1
    for row in rows[:5]:
        print(f"{100 * row['val_accuracy']:6.1f} % validation  trial {row['trial']}: {_said(row['options'], names)}")
    best = [*_arguments(rows[0]["options"], names), *command_line(folder.manifest["options"])]
    print(f"compare with these options: python -m fastvid.sweep {project} --out DIR {shlex.join(best)}")
    return 1 if folder.failed else 0
