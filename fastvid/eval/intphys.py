"""Intuitive physics by surprise: is an impossible video harder to predict than its possible twin?

A window of a video is cut in two in time. The encoder sees the first part, the predictor says the latents of the second
part, and the surprise is their distance to the teacher's latents of the whole window. A pair counts as right where the
impossible video surprises more, a tie as half.

Source: Garrido et al., "Intuitive physics understanding emerges from self-supervised pretraining on natural videos",
arXiv 2502.11831; Bordes et al., "IntPhys 2", arXiv 2506.09849.
"""

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fastvid.command import UserError, user_errors
from fastvid.data import EvaluationDraws, Quarantine, eval_batches, open_source
from fastvid.data.labels.intphys import PhysicsPair, read_intphys
from fastvid.eval.accuracy import Accuracy
from fastvid.eval.config import EvalConfig
from fastvid.eval.suite import shown
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Predicting:
    """A model whose surprise is measured.

    Attributes:
        name: in tables.
        slots: time slots of a clip.
        surprise: ``surprise(seen, clips, slots)``: the distance, float [B], between the true latents of clips uint8
            [B, T, H, W, 3] and those predicted for all tokens after the first ``slots`` time slots of ``seen``.
        still: what is seen is the last frame of the seen part, all through: what a single frame tells.
    """

    name: str
    slots: int
    surprise: Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
    still: bool = False


@dataclass(frozen=True)
class SavedPredictor:
    """The models of a run, and the clips that they take.

    Attributes:
        models: the run's own, one with random weights, and the run's with a single frame.
        views: what a clip is.
        device: where they are.
    """

    models: list[Predicting]
    views: ViewSpec
    device: torch.device


def measure_surprise(config: EvalConfig, load: Callable[[Path], SavedPredictor]) -> dict[str, Any]:
    """Measure the relative accuracy on IntPhys 2.

    Args:
        config: options.
        load: opens the predictor of a run.

    Returns:
        ``{"pairs", "scenes", "chance", "rows": [{"encoder", "intphys": {...}}]}``, JSON-ready, with the accuracies
        ``by`` seen share of the clip and by condition, difficulty and camera.

    Raises:
        UserError: the run or the videos cannot be used.
    """
    folder = Path(config.data.path).expanduser()
    with user_errors(ValueError, OSError):
        saved = load(config.run)
        pairs = read_intphys(folder)
        source = open_source(folder)
    rows = {sample.key: row for row, sample in enumerate(source.samples)}
    there = [pair for pair in pairs if pair.possible in rows and pair.impossible in rows]
    if not there:
        raise UserError(f"none of the videos that the list names, such as {pairs[0].possible}, is in {folder}")
    if len(there) < len(pairs):
        log.warning(
            "%d of %d pairs are left out, since a video of theirs is not there", len(pairs) - len(there), len(pairs)
        )
    wanted = [rows[key] for pair in there for key in (pair.possible, pair.impossible)]
    draws = EvaluationDraws(saved.views, clips=config.intphys.windows)
    quarantine = Quarantine(log=logging.warning)
    batches = eval_batches(
        source, wanted, draws, batch=max(1, config.batch // draws.count), quarantine=quarantine, device=saved.device
    )
    surprises: list[dict[str, torch.Tensor]] = [{} for _ in saved.models]
    for batch in batches:
        assert batch.clips is not None
        clips, keys = batch.clips.to(saved.device), batch.keys[:: draws.count]
        for found, model in zip(surprises, saved.models, strict=True):
            values = surprise_by_context(model, clips).unflatten(0, (-1, draws.count)).mean(1)
            found |= dict(zip(keys, values, strict=True))
    there = [pair for pair in there if pair.possible in surprises[0] and pair.impossible in surprises[0]]
    if not there:
        raise UserError("no pair could be decoded; each bad video was named above")
    table = []
    for model, found in zip(saved.models, surprises, strict=True):
        result = relative_accuracy(there, found, context_sizes(model.slots), model.slots)
        log.info("intphys %-22s %s", model.name, shown(result))
        table.append({"encoder": model.name, "intphys": result})
    scenes = len({pair.scene for pair in there})
    return {"pairs": len(there), "scenes": scenes, "chance": 0.5, "rows": table}


def context_sizes(slots: int) -> list[int]:
    """Return the numbers of time slots that are seen: a quarter, a half and three quarters of a clip.

    Raises:
        UserError: a clip of one time slot.
    """
    if slots < 2:
        raise UserError("surprise needs clips of at least two time slots: one is seen, the next one predicted")
    return sorted({min(slots - 1, max(1, round(slots * share))) for share in (0.25, 0.5, 0.75)})


@torch.no_grad()
def surprise_by_context(model: Predicting, clips: torch.Tensor) -> torch.Tensor:
    """Return the surprise at clips uint8 [B, T, H, W, 3] for each of :func:`context_sizes`, float64 [B, sizes]."""
    per_slot = clips.shape[1] // model.slots
    found = []
    for size in context_sizes(model.slots):
        seen = clips
        if model.still:
            seen = clips.clone()
            seen[:, : size * per_slot] = clips[:, size * per_slot - 1, None]
        found.append(model.surprise(seen, clips, size).double().cpu())
    return torch.stack(found, 1)


def relative_accuracy(
    pairs: Sequence[PhysicsPair], surprises: dict[str, torch.Tensor], sizes: Sequence[int], slots: int
) -> dict[str, Any]:
    """Compute how often the impossible video of a pair surprises more, by the mean over the seen shares.

    Args:
        pairs: the pairs.
        surprises: float [sizes] of each video.
        sizes: numbers of time slots that were seen.
        slots: time slots of a clip.
    """
    possible = torch.stack([surprises[pair.possible] for pair in pairs])
    impossible = torch.stack([surprises[pair.impossible] for pair in pairs])
    mean = _right(possible.mean(1), impossible.mean(1))
    by: dict[str, dict[str, Any]] = {
        "seen": {
            f"{size / slots:.2f}": _accuracy(pairs, _right(possible[:, i], impossible[:, i]))
            for i, size in enumerate(sizes)
        }
    }
    members: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, pair in enumerate(pairs):
        for kind, value in pair.groups.items():
            members[kind][value].append(number)
    for kind, values in members.items():
        by[kind] = {
            value: _accuracy([pairs[number] for number in numbers], mean[numbers])
            for value, numbers in sorted(values.items())
        }
    return {**_accuracy(pairs, mean), "by": by}


def _right(possible: torch.Tensor, impossible: torch.Tensor) -> torch.Tensor:
    """Return 1 where the impossible video surprises more, 1/2 for a tie, else 0."""
    return ((impossible - possible).sign() + 1) / 2


def _accuracy(pairs: Sequence[PhysicsPair], right: torch.Tensor) -> dict[str, Any]:
    """Return an accuracy whose interval counts scenes: the pairs of a scene show the same place and objects."""
    scenes = len({pair.scene for pair in pairs})
    return Accuracy(float(right.sum()), len(pairs), independent=scenes).as_dict()
