"""Runs that are cut off in the middle, with nothing saved but what the disk has."""

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from fastvid.projects import registry
from fastvid.projects.train import restored
from fastvid.train.config import Launch, with_absolute_paths
from fastvid.train.session import start


class Killed(BaseException):
    """What ends a process at once."""


def go(project: str, config: Any, launch: Launch) -> int:
    """Start a run of a project, or resume it, in this process."""
    config = with_absolute_paths(config, Path.cwd())
    recipe = resolve_name(registry.find(project).run)
    with restored():
        return start(project, config, config.run, launch, lambda session: recipe(session, config))


def cut_off_and_resume(project: str, config: Any, loader: type, batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Start a run, end it when its loaders, of this type, are asked for their ``batch``-th batch, and resume it."""
    taken, next_batch = 0, loader.__next__

    def cut(self):
        nonlocal taken
        taken += 1
        if taken == batch:
            raise Killed
        return next_batch(self)

    with monkeypatch.context() as patch:
        patch.setattr(loader, "__next__", cut)
        with pytest.raises(Killed):
            go(project, config, Launch())
    assert go(project, config, Launch(resume=Path(config.run.dir))) == 0
