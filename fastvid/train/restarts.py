"""Runs that torchrun starts again after a process died (``--max-restarts``)."""

import dataclasses
from pathlib import Path

from fastvid.command import UserError
from fastvid.train.config import Launch, RunConfig
from fastvid.train.distributed import environment_number


def after_restart(options: RunConfig, launch: Launch) -> Launch:
    """Return how to launch a run that torchrun may start again: after a restart it resumes what was begun before.

    torchrun tells its processes how often it has restarted them, and how often it may.

    Raises:
        UserError: it may restart, and would not find the run again.
    """
    if launch.resume is not None:
        return launch
    if options.dir is None:
        if environment_number("TORCHELASTIC_MAX_RESTARTS", 0):
            raise UserError(
                "torchrun --max-restarts starts the same command again, which has to find the run: name its directory "
                "with --run.dir, or with --resume"
            )
        return launch
    run = Path(options.dir)
    restarts = environment_number("TORCHELASTIC_RESTART_COUNT", 0)
    if not restarts or not (run / "config.json").exists():  # it is new, or was not begun when a process died
        return launch
    return dataclasses.replace(launch, resume=run)
