"""A search for options with Optuna's TPE: every trial is a run of the sweep, judged by the measure that ranks alone.

What is drawn for a trial depends on its number and on the trials before it, so a search that was stopped, or killed,
goes on as if it had not been: a trial without an end is the next to run.

Source: Bergstra et al., "Algorithms for hyper-parameter optimization", NeurIPS 2011.
"""

import shlex
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fastvid.command import UserError, loading
from fastvid.projects.sweep import SEED, SearchOption, shown
from fastvid.random import SampleRandom
from fastvid.sweep.check import check_runs
from fastvid.sweep.folder import SweepFolder, joined, read_manifest
from fastvid.sweep.grid import SweepRun, command_line
from fastvid.sweep.grid_command import SweepStart
from fastvid.sweep.manifest import fixed_of
from fastvid.sweep.options import GivenOptions, SweepConfig, places
from fastvid.sweep.project_options import ProjectOptions
from fastvid.sweep.runner import stop_signals
from fastvid.train.rundir import write_json


def run_search(config: SweepConfig, options: ProjectOptions, given: GivenOptions, command: Sequence[str]) -> int:
    """Run trials until the requested number is reached, and return the exit code.

    Raises:
        UserError: Optuna is not installed, or the options do not fit a search.
        Stopped: by a signal.
    """
    space, base = _check(config, options, given)
    try:
        with loading():
            import optuna
    except ImportError:
        raise UserError("--search needs Optuna: pip install 'fastvid[optuna]', or pip install optuna") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    place = places(config.gpus)[:1]  # a trial is drawn from what those before it found
    out = config.out or Path("sweeps") / f"{options.name}-search"
    what = {"options": list(space), **shared_values(base, options)}
    manifest, _ = joined(out, read_manifest(out), options, given, what)
    if not (out / "runs").is_dir():  # its trials are those that are begun, one after the other
        check_runs([SweepRun("base", base)], fixed_of(manifest), options, command, place[0])
    folder = SweepFolder(out, options)
    try:
        folder.begin(given, what)
        storage = f"sqlite:///{folder.path / 'search.db'}"
        with stop_signals() as signals:
            start = SweepStart(folder, command, place, signals)
            while True:
                study = optuna.create_study(
                    storage=storage, study_name="search", direction="maximize", load_if_exists=True
                )
                trials = study.get_trials(deepcopy=False)
                drawn_before = [trial for trial in trials if all(name in trial.params for name in space)]
                under_way = [trial for trial in trials if trial.state == optuna.trial.TrialState.RUNNING]
                if under_way and under_way[0] in drawn_before:
                    number, drawn = under_way[0].number, dict(under_way[0].params)
                elif under_way:  # killed while its options were drawn: nothing has run yet
                    study.tell(under_way[0].number, state=optuna.trial.TrialState.FAIL)
                    continue
                elif len(drawn_before) >= config.trials:
                    break
                else:
                    seed = options.parse(SEED, base[SEED])
                    word = SampleRandom(f"trial {len(drawn_before)}", seed, 0).word()
                    study.sampler = optuna.samplers.TPESampler(seed=word)
                    trial = study.ask()
                    number, drawn = trial.number, {name: _draw(trial, name, space[name]) for name in space}
                run = folder.add_trial(base, _values(drawn, space), number)
                print(f"trial {number}: {_said(drawn, space)}", flush=True)
                start.run([run])
                found = {result.name: result.result for result in folder.finished()} if folder.is_finished(run) else {}
                if run.name in found and options.plan.ranks in found[run.name].measures:
                    study.tell(number, found[run.name].measures[options.plan.ranks].value)
                else:
                    study.tell(number, state=optuna.trial.TrialState.FAIL)
        return _summary(folder, study, space)
    finally:
        folder.close()


def shared_values(base: Mapping[str, str], options: ProjectOptions) -> dict[str, Any]:
    """Return the values that all trials share by the last word of the option, or by all where others end alike."""
    names = {option: option.removeprefix("--").replace("-", "_") for option in base}
    last = {option: name.split(".")[-1] for option, name in names.items()}
    times = Counter(last.values())
    return {
        last[option] if times[last[option]] == 1 else names[option]: options.parse(option, value)
        for option, value in base.items()
    }


def _check(
    config: SweepConfig, options: ProjectOptions, given: GivenOptions
) -> tuple[dict[str, SearchOption], dict[str, str]]:
    """Return what is searched, by name, and the values that all trials share."""
    known, names = options.plan.search, (config.search or "").split(",")
    several = [option for option, values in given.axes.items() if len(values) > 1]
    if several:
        raise UserError(f"--search needs a single {', '.join(options.axis(o).alias or o for o in several)}")
    base = {option: values[0] for option, values in given.axes.items()}
    trained = options.config({**given.fixed, **base})
    for name in names:
        if name not in known or names.count(name) > 1:
            raise UserError(f"--search {config.search}: give some of {','.join(known)}, each once")
        if known[name].option in given.given:
            raise UserError(f"{known[name].option} is what --search {config.search} looks for: leave one of them out")
        useless = known[name].useless(trained)
        if useless:
            raise UserError(f"--search {config.search}: {useless}")
    return {name: known[name] for name in known if name in names}, base


def _draw(trial: Any, name: str, option: SearchOption) -> float:
    if option.choices:
        return trial.suggest_categorical(name, option.choices)
    return trial.suggest_float(name, option.low, option.high, step=option.step, log=option.log)


def _values(drawn: Mapping[str, float], space: Mapping[str, SearchOption]) -> dict[str, str]:
    return {space[name].option: f"{drawn[name]:.6g}" for name in space}


def _said(drawn: Mapping[str, float], names: Mapping[str, SearchOption]) -> str:
    return ", ".join(f"{name} {drawn[name]:.4g}" for name in names)


def _summary(folder: SweepFolder, study: Any, space: Mapping[str, SearchOption]) -> int:
    """Write search.json and print the best trial."""
    ranks, options = folder.options.plan.ranks, folder.options
    rows = [
        {
            "trial": trial.number,
            "measure": ranks,
            "value": trial.value,
            "options": {name: trial.params[name] for name in space},
        }
        for trial in study.get_trials(deepcopy=False)
        if trial.value is not None
    ]
    rows.sort(key=lambda row: (-row["value"], row["trial"]))
    write_json(folder.path / "search.json", rows)
    if not rows:
        print("no trial has finished", file=sys.stderr)
        return 1
    unit = next(run.result.measures[ranks].unit for run in folder.finished() if ranks in run.result.measures)
    for row in rows[:5]:
        print(f"{ranks} {shown(row['value'], unit=unit)}  trial {row['trial']}: {_said(row['options'], space)}")
    best = command_line({**_values(rows[0]["options"], space), **folder.fixed}, options)
    print(f"compare with these options: python -m fastvid.sweep {options.name} --out DIR {shlex.join(best)}")
    return 1 if folder.failed else 0
