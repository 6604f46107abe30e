"""fVLM: a foveated vision-language model, which reads each frame through one glance and says where it looked."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names
from fastvid.projects.project import Project
from fastvid.report.records import RunRecords

if TYPE_CHECKING:
    from fastvid.projects.fvlm.config import FvlmConfig as FvlmConfig

PROJECT = Project(
    name="fvlm",
    summary="a vision-language model that reads each frame through one glance, which its language model aims",
    presets="fastvid.projects.fvlm.presets:PRESETS",
    run="fastvid.projects.fvlm.recipe:run",
    saved="model/fvlm.json",
    load="fastvid.projects.fvlm.saved:load",
    caption="fastvid.projects.fvlm.caption:caption",
    modes=("coarse", "parallel", "stream"),
    evaluate="fastvid.projects.fvlm.answers:evaluate",
    evaluate_options="fastvid.projects.fvlm.answers_config:AnswersConfig",
    export="fastvid.projects.fvlm.export:export",
    sweep="fastvid.projects.fvlm.sweep:SWEEP",
    report="fastvid.projects.fvlm.report:sections",
)

_HOMES = {"FvlmConfig": "config"}

__all__ = ["PROJECT", "FvlmConfig", "train"]


def train(config: "FvlmConfig") -> RunRecords:
    """Train a new run in this process, from a notebook or a script; see :func:`fastvid.projects.train.train`."""
    from fastvid.projects.train import train as run

    return run("fvlm", config)


__getattr__ = lazy_names(__name__, _HOMES)
