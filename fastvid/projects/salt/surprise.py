"""The surprise of a run's predictor: how far its predictions are from what the teacher sees."""

from dataclasses import dataclass
from pathlib import Path

import torch

from fastvid.data import Latents
from fastvid.eval.intphys import Predicting, SavedPredictor
from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.teachers import EncoderTeacher, Teacher, with_layers
from fastvid.models.vit import VideoViT
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.projects.salt.recipe import given_teacher, untrained_student, with_predictor
from fastvid.projects.salt.saved import load_predictor
from fastvid.projects.salt.targets import TeacherTargets
from fastvid.report.records import read_json
from fastvid.train.config import from_dict
from fastvid.train.data import view_spec
from fastvid.train.distributed import World


@dataclass(frozen=True)
class Surprise:
    """Distance between predicted and true latents, as the loss of training measures it, for each clip.

    Attributes:
        module: encoder and predictor.
        teacher: of the run.
        loss: of the run.
    """

    module: MaskedPrediction
    teacher: Teacher
    loss: StageLoss

    @torch.no_grad()
    def __call__(self, seen: torch.Tensor, clips: torch.Tensor, slots: int) -> torch.Tensor:
        """Return float [B]: the surprise at clips uint8 [B, T, H, W, 3] whose later tokens are predicted from the first
        time slots of ``seen``, which is shaped like ``clips``."""
        time, height, width = self.module.encoder.grid
        tokens = torch.arange(time * height * width, device=clips.device).expand(len(clips), -1)
        visible, masked = tokens.split([slots * height * width, (time - slots) * height * width], dim=1)
        (predictions,) = self.module(seen, [(visible, masked)])
        latents = Latents(self.teacher(clips))
        each = [slice(i, i + 1) for i in range(len(clips))]
        return torch.stack([self.loss.masked_distance(predictions[i], masked[i], latents.rows(i)) for i in each])


def load(run: Path) -> SavedPredictor:
    """Open the predictor of a finished run, and the same with random weights and with a single frame.

    Args:
        run: the run's directory.

    Raises:
        ValueError: the run has no teacher, or its files are damaged.
        FileNotFoundError: it has no configuration or no predictor.
    """
    values = read_json(run / "config.json")
    if values is None:
        raise FileNotFoundError(f"{run} has no config.json: surprise is measured of a whole run, give its directory")
    config = from_dict(SaltConfig, values)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    student = load_encoder(run / "student")
    teacher = _teacher(config, run, student).to(device)
    targets = TeacherTargets(teacher, device)

    def predicting(encoder: VideoViT, *, trained: bool) -> tuple[int, Surprise]:
        masks = MaskSampler(config.mask, encoder.grid, config.predictor.tokens, config.run.seed, "salt")
        module = with_predictor(encoder, targets, masks, config.predictor, config.loss, config.model)
        if trained:
            load_predictor(module, run / "student")
        loss = StageLoss(config.loss, masks, targets, World(0, 1, device))
        return encoder.grid[0], Surprise(module.to(device).eval(), teacher, loss)

    trained = predicting(student, trained=True)
    models = [
        Predicting("student", *trained),
        Predicting("random initialisation", *predicting(untrained_student(config), trained=False)),
        Predicting("student, single frame", *trained, still=True),
    ]
    return SavedPredictor(models, view_spec(config.data), device)


def _teacher(config: SaltConfig, run: Path, student: VideoViT) -> Teacher:
    if (teacher := given_teacher(config, student)) is not None:
        return teacher
    if (run / "teacher").is_dir():
        return with_layers(EncoderTeacher(load_encoder(run / "teacher")), config.teacher.layers)
    raise ValueError(
        f"{run} was taught by cached latents and names no teacher: train with --teacher.source beside --latents, so "
        "that the teacher of other videos is known"
    )
