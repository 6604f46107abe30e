"""SALT: masked-latent pretraining of a video ViT against a frozen teacher."""

import importlib
from typing import TYPE_CHECKING

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
    sweep="fastvid.projects.salt.sweep:SWEEP",
    report="fastvid.projects.salt.report:sections",
)

_HOMES = {"SaltConfig": "config"}

__all__ = ["PROJECT", "SaltConfig", "train"]


def train(config: "SaltConfig") -> RunRecords:
    """Train a new run in this process, from a notebook or a script; see :func:`fastvid.projects.train.train`."""
    from fastvid.projects.train import train as run

    return run("salt", config)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.projects.salt.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.projects.salt' has no attribute {name!r}")
