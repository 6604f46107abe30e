"""Fine-tuning of V-JEPA 2 video classifiers: head, pooler, LoRA adapters or everything."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names
from fastvid.projects.project import Project
from fastvid.report.records import RunRecords

if TYPE_CHECKING:
    from fastvid.projects.vjepa2.config import VJepa2Config as VJepa2Config

PROJECT = Project(
    name="vjepa2",
    summary="fine-tuning of a V-JEPA 2 video classifier by head, pooler or LoRA",
    presets="fastvid.projects.vjepa2.presets:PRESETS",
    run="fastvid.projects.vjepa2.recipe:run",
    saved="classifier/classifier.json",
    load="fastvid.projects.vjepa2.checkpoint:load_classifier",
    classifies=True,
    export="fastvid.projects.vjepa2.export:export",
    sweep="fastvid.projects.vjepa2.sweep:SWEEP",
    report="fastvid.projects.vjepa2.report:sections",
)

_HOMES = {"VJepa2Config": "config"}

__all__ = ["PROJECT", "VJepa2Config", "train"]


def train(config: "VJepa2Config") -> RunRecords:
    """Train a new run in this process, from a notebook or a script; see :func:`fastvid.projects.train.train`."""
    from fastvid.projects.train import train as run

    return run("vjepa2", config)


__getattr__ = lazy_names(__name__, _HOMES)
