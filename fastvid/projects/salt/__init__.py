"""SALT: masked-latent pretraining of a video ViT against a frozen teacher."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names
from fastvid.projects.project import Project
from fastvid.report.records import RunRecords

if TYPE_CHECKING:
    from fastvid.projects.salt.config import SaltConfig as SaltConfig

PROJECT = Project(
    name="salt",
    summary="masked-latent pretraining of a video ViT against a frozen teacher",
    presets="fastvid.projects.salt.presets:PRESETS",
    run="fastvid.projects.salt.recipe:run",
    saved="student/encoder.json",
    load="fastvid.projects.salt.saved:load",
    encodes=True,
    export="fastvid.projects.salt.export:export",
    also_saved=("teacher",),
    surprise="fastvid.projects.salt.surprise:load",
    sweep="fastvid.projects.salt.sweep:SWEEP",
    report="fastvid.projects.salt.report:sections",
)

_HOMES = {"SaltConfig": "config"}

__all__ = ["PROJECT", "SaltConfig", "train"]


def train(config: "SaltConfig") -> RunRecords:
    """Train a new run in this process, from a notebook or a script; see :func:`fastvid.projects.train.train`."""
    from fastvid.projects.train import train as run

    return run("salt", config)


__getattr__ = lazy_names(__name__, _HOMES)
