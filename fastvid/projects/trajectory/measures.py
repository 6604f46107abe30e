"""Measures of one model on test videos: answers, attention, early decisions, and whether attention matters."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.special import expit

from fastvid.eval import early
from fastvid.eval.attention import (
    AttentionRatio,
    delete_as_many_persistent,
    delete_share,
    keep_persistent,
    log_ratios,
    mean_of_sums,
    permutation_null,
)
from fastvid.eval.classification import Classification
from fastvid.eval.hierarchical import balanced_of_sums, bootstrap_interval
from fastvid.projects.trajectory.batches import targets_of
from fastvid.projects.trajectory.config import MeasureConfig
from fastvid.projects.trajectory.predictions import Predictions, Predictor
from fastvid.projects.trajectory.tokens import TokenSet
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.videos import class_names

KINDS = ("transient", "persistent")


def target_rows(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return one row for each video, float64 [V, 2 C]: right answers and answers of each class, as
    :func:`fastvid.eval.hierarchical.balanced_of_sums` takes their sums."""
    classes = logits.shape[1]
    right = np.eye(classes)[labels] * (logits.argmax(1) == labels)[:, None]
    return np.concatenate([right, np.eye(classes)[labels]], 1)


def verdict_rows(logits: np.ndarray, table: TrackTable, videos: int) -> np.ndarray:
    """Return one row for each video, float64 [V, 4]: right verdicts on transient and on persistent tracks, and how many
    of each there are."""
    columns = []
    known = ~np.isnan(logits)
    for kind in (False, True):
        columns.append(known & (table.persistent == kind) & ((logits > 0) == kind))
    for kind in (False, True):
        columns.append(known & (table.persistent == kind))
    return np.stack([np.bincount(table.video, column, minlength=videos) for column in columns], 1)


def balanced(rows: np.ndarray) -> dict[str, float]:
    """Return the balanced accuracy that rows of right answers and answers sum up to, with its interval."""
    low, high = bootstrap_interval([rows], balanced_of_sums)
    return {"balanced_accuracy": float(balanced_of_sums(rows.sum(0))), "low": low, "high": high}


def scores(tokens: TokenSet, table: TrackTable, said: Predictions, task: str) -> dict[str, Any]:
    """Return how right the answers are and where attention goes: what every row of the page has.

    Args:
        tokens: of the videos.
        table: their tracks.
        said: what the model says of all tokens.
        task: ``motion`` or ``noise``.
    """
    return {
        "target": balanced(target_rows(said.target, targets_of(tokens, task))),
        "verdict": balanced(verdict_rows(said.verdicts, table, len(tokens.keys))),
        "attention": AttentionRatio.from_weights(said.attention, tokens.persistent, tokens.offsets).as_dict(),
    }


def flat_scores(found: dict[str, Any]) -> dict[str, float]:
    """Return the values that a validation records, from :func:`scores`; ratios that are not defined are left out."""
    target, verdict, attention = found["target"], found["verdict"], found["attention"]
    values = {
        "target_accuracy": target["balanced_accuracy"], "verdict_accuracy": verdict["balanced_accuracy"],
        "accuracy_low": min(target["low"], verdict["low"]), "attention_ratio": attention["ratio"],
        "attention_ratio_low": attention["ratio_low"], "consistency": attention["consistency"],
        "consistency_low": attention["consistency_low"],
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def mean_loss(said: Predictions, table: TrackTable, labels: np.ndarray) -> float:
    """Return the two cross-entropies that every worker minimises, summed, in nats."""
    target = said.target - said.target.max(1, keepdims=True)
    log_p = target - np.log(np.exp(target).sum(1, keepdims=True))
    known = ~np.isnan(said.verdicts)
    signed = np.where(table.persistent, 1.0, -1.0)[known] * said.verdicts[known]
    return float(-log_p[np.arange(len(labels)), labels].mean() + np.logaddexp(0, -signed).mean())


@dataclass(frozen=True)
class Measured:
    """The measures of one model.

    Attributes:
        values: as JSON.
        arrays: of single videos, tracks and tokens, for pictures and for intervals over runs.
    """

    values: dict[str, Any]
    arrays: dict[str, np.ndarray]


def measure(
    predict: Predictor,
    val: TokenSet,
    test: TokenSet,
    config: MeasureConfig,
    *,
    ceiling: np.ndarray,
    whole: bool,
) -> Measured:
    """Measure a trained model.

    Args:
        predict: the model.
        val: validation videos, for the temperatures.
        test: test videos.
        config: how.
        ceiling: float [T], of early decisions (:func:`fastvid.eval.early.early_ceiling`).
        whole: with early decisions, deletions and rollout as well.
    """
    table = TrackTable.from_tokens(test)
    said = predict(test, table)
    found = scores(test, table, said, predict.task)
    labels = targets_of(test, predict.task)
    ratios = log_ratios(said.attention, test.persistent, test.offsets)
    arrays = {
        "target_rows": target_rows(said.target, labels), "log_ratios": ratios, "attention": said.attention,
        "verdict_rows": verdict_rows(said.verdicts, table, len(test.keys)), "verdicts": said.verdicts,
    }  # fmt: skip
    if np.isnan(ratios).all():
        found["null"] = None
    else:
        found["null"] = permutation_null(
            said.attention, test.persistent, test.track, test.offsets, draws=config.draws
        ).as_dict()
    if whole:
        val_table = TrackTable.from_tokens(val)
        _, by_frame = predict.by_frame(val, val_table)
        temperature = early.fit_temperature(by_frame[:, -1], val_table.persistent)
        found["calibration"] = _calibration(predict.task, temperature, said, test, table)
        temperatures = early.fit_temperatures(early.since_birth(by_frame, val_table.birth), val_table.persistent)
        found["early"], more = _early(predict, test, table, said, temperatures, config, ceiling)
        found["deletion"] = _deletion(predict, test, table, said, config)
        flow = predict.rollout(test)
        found["rollout"] = AttentionRatio.from_weights(flow, test.persistent, test.offsets).as_dict()
        arrays |= {"rollout": flow, **more}
    return Measured(found, arrays)


def _calibration(task: str, temperature: float, said: Predictions, test: TokenSet, table: TrackTable) -> dict[str, Any]:
    """Return NLL and ECE of the verdicts and of the videos' classes, before and after the temperature."""
    keys = [f"{test.keys[v]}/{t}" for v, t in zip(table.video, table.track, strict=True)]
    labels = torch.from_numpy(table.persistent.astype(np.int64))

    def verdicts(divisor: float) -> dict[str, float]:
        p = torch.from_numpy(said.verdicts / divisor).sigmoid().float()
        found = Classification(KINDS, keys, labels, torch.stack([1 - p, p], 1))
        return {"nll": found.nll, "ece": found.ece}

    names = class_names(task)  # type: ignore[arg-type]
    p = torch.from_numpy(said.target).softmax(1).float()
    target = Classification(names, test.keys, torch.from_numpy(targets_of(test, task)), p)
    return {
        "temperature": temperature, "verdict": verdicts(1.0), "verdict_calibrated": verdicts(temperature),
        "target": {"nll": target.nll, "ece": target.ece}, "classes": names, "confusion": target.confusion.tolist(),
    }  # fmt: skip


def _early(
    predict: Predictor,
    test: TokenSet,
    table: TrackTable,
    said: Predictions,
    temperatures: np.ndarray,
    config: MeasureConfig,
    ceiling: np.ndarray,
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    targets, verdicts = predict.by_frame(test, table)
    p = expit(early.since_birth(verdicts, table.birth) / temperatures)
    curve = early.early_accuracy(p, table.persistent)
    intervals = [_early_interval(p[:, k], table, len(test.keys)) for k in range(test.frames)]
    decisions = early.decide(p, table.persistent, config.confidence)
    left = early.tokens_left(test.frame, table.row, table.birth, decisions)
    after = predict(test, table, left)
    labels = targets_of(test, predict.task)
    difference = (after.target.argmax(1) == labels) * 1.0 - (said.target.argmax(1) == labels)
    low, high = bootstrap_interval([np.stack([difference, np.ones(len(labels))], 1)], mean_of_sums)
    found = {
        "accuracy": _numbers(curve), "low": _numbers([low for low, _ in intervals]),
        "high": _numbers([high for _, high in intervals]), "ceiling": _numbers(ceiling),
        "above_ceiling": early.above_ceiling([low for low, _ in intervals], ceiling),
        "target_by_frame": [
            float(balanced_of_sums(target_rows(one, labels).sum(0))) for one in targets
        ],
        "confidence": config.confidence, "temperatures": temperatures.tolist(), "decisions": decisions.as_dict(),
        "tokens_saved": float(1 - left.mean()), "tokens_ceiling": float(1 - test.persistent.mean()),
        "target_change": {"mean": float(difference.mean()), "low": low, "high": high, "not_worse": low >= -0.01},
    }  # fmt: skip
    return found, {"verdict_by_frame": verdicts, "decided_age": decisions.age, "left": left}


def _early_interval(p: np.ndarray, table: TrackTable, videos: int) -> tuple[float, float]:
    logits = np.where(np.isnan(p), np.nan, p - 0.5)
    rows = verdict_rows(logits, table, videos)
    if not (rows[:, 2:].sum(0) > 0).all():
        return math.nan, math.nan
    return bootstrap_interval([rows], balanced_of_sums, draws=500)


def _deletion(
    predict: Predictor, test: TokenSet, table: TrackTable, said: Predictions, config: MeasureConfig
) -> dict[str, Any]:
    """Return the accuracy of the videos' classes where tokens are deleted before the first layer."""
    labels = targets_of(test, predict.task)

    def after(keep: np.ndarray) -> dict[str, float]:
        return balanced(target_rows(predict(test, table, keep).target, labels))

    random = np.random.Generator(np.random.Philox(0)).random(len(test.frame))
    orders = {"most attended": said.attention, "least attended": -said.attention, "random": random}
    return {
        "nothing": balanced(target_rows(said.target, labels)),
        "transient": after(keep_persistent(test.persistent)),
        "as many persistent": after(delete_as_many_persistent(test.persistent, test.offsets)),
        "shares": list(config.shares),
        "curves": {
            name: [after(delete_share(order, test.offsets, share))["balanced_accuracy"] for share in config.shares]
            for name, order in orders.items()
        },
    }


def _numbers(values: Iterable[float]) -> list[float | None]:
    return [None if math.isnan(value) else float(value) for value in values]
