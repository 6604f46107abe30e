"""The model that a run saves, with all that is needed to build it again."""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.files import naming, write_whole
from fastvid.projects.trajectory.batches import TokenBatch
from fastvid.projects.trajectory.config import ModelConfig
from fastvid.projects.trajectory.model import Output, TrajectoryModel
from fastvid.report.records import read_json

FILE, WEIGHTS = "model.json", "model.safetensors"


@dataclass(frozen=True)
class Metadata:
    """All that a saved model needs beside its weights.

    Attributes:
        worker: name of the worker that trained it.
        task: ``motion`` or ``noise``.
        classes: names of the task's classes.
        features: kind of the tokens' features.
        features_dim: their width.
        tracker: that made the tokens it was trained on.
        frames: of a training video.
        temperatures: by which verdicts are divided at each age of a track, fitted on validation videos.
        confidence: least probability of a decision.
        model: sizes.
        data: options of the training videos.
        tokens: options of the tokens.
    """

    worker: str
    task: str
    classes: list[str]
    features: str
    features_dim: int
    tracker: str
    frames: int
    temperatures: list[float]
    confidence: float
    model: dict[str, Any]
    data: dict[str, Any]
    tokens: dict[str, Any]


class TrainedTrajectory(nn.Module):
    """A trained model with its metadata, in eval mode.

    Attributes:
        model: the transformer.
        about: its metadata.
    """

    def __init__(self, model: TrajectoryModel, about: Metadata):
        super().__init__()
        self.model, self.about = model, about

    def forward(self, batch: TokenBatch) -> Output:
        """Classify a batch; see :class:`fastvid.projects.trajectory.model.TrajectoryModel`."""
        said: Output = self.model(batch)
        return said


def save(folder: Path, model: TrajectoryModel, about: Metadata) -> None:
    """Write a model into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with naming(folder / WEIGHTS):
        save_file(weights, folder / WEIGHTS)
    write_whole(folder / FILE, (json.dumps(dataclasses.asdict(about), indent=1) + "\n").encode())


def load(folder: Path, *, source: str | None = None) -> TrainedTrajectory:
    """Load a model that :func:`save` wrote, on the CPU.

    Args:
        folder: of the two files.
        source: unused; other projects' models are made from one that may have moved.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the files are damaged, or of another version.
    """
    values = read_json(Path(folder) / FILE)
    if values is None:
        raise FileNotFoundError(f"no trained model in {folder}: it has no {FILE}")
    try:
        about = Metadata(**values)
        model = TrajectoryModel(ModelConfig(**about.model), about.features_dim, len(about.classes))
        model.load_state_dict(load_file(Path(folder) / WEIGHTS))
    except (TypeError, RuntimeError) as error:
        raise ValueError(f"the model in {folder} is damaged, or of another version of fastvid: {error}") from error
    return TrainedTrajectory(model, about).eval()
