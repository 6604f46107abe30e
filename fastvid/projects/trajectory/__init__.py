"""Trajectory: telling which objects of a video persist, with attention that is supervised, measured and tested."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names
from fastvid.projects.project import Project
from fastvid.report.records import RunRecords

if TYPE_CHECKING:
    from fastvid.projects.trajectory.config import TrajectoryConfig as TrajectoryConfig

PROJECT = Project(
    name="trajectory",
    summary="which objects of a video persist, by a transformer whose attention is supervised and measured",
    presets="fastvid.projects.trajectory.presets:PRESETS",
    run="fastvid.projects.trajectory.recipe:run",
    saved="model/model.json",
    load="fastvid.projects.trajectory.saved:load",
    predict="fastvid.projects.trajectory.predict:predict",
    sweep="fastvid.projects.trajectory.sweep:SWEEP",
    report="fastvid.projects.trajectory.report:sections",
)

_HOMES = {"TrajectoryConfig": "config"}

__all__ = ["PROJECT", "TrajectoryConfig", "train"]


def train(config: "TrajectoryConfig") -> RunRecords:
    """Train a new run in this process, from a notebook or a script; see :func:`fastvid.projects.train.train`."""
    from fastvid.projects.train import train as run

    return run("trajectory", config)


__getattr__ = lazy_names(__name__, _HOMES)
