"""Savings by early decisions: tokens, arithmetic and time, beside the most that these videos allow."""

import time
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from fastvid.projects.trajectory.config import ModelConfig, TokenConfig
from fastvid.projects.trajectory.features import Extractor
from fastvid.projects.trajectory.predictions import Predictor
from fastvid.projects.trajectory.tokens import TokenSet, find_tracks, object_crops
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.videos import Videos


def transformer_flops(config: ModelConfig, features: int, tokens: np.ndarray) -> np.ndarray:
    """Return the floating-point operations of a forward pass over L tokens, a multiply and an add as two.

    Per token and layer: 8 width^2 for the four projections of attention, 8 width^2 for the hidden layer; 4 L width for
    the attention itself. Before that the features' and the geometry's projections, after it keys and values of the
    read-out. Heads, norms and the read-out query itself are left out.

    Args:
        config: sizes.
        features: width of a token's features.
        tokens: int [...], L.
    """
    L, width = np.asarray(tokens, dtype=np.float64), config.width
    per_layer = 16 * L * width**2 + 4 * L**2 * width
    return config.layers * per_layer + L * (2 * features * width + 2 * width**2 + 4 * width**2)


def savings(tokens: TokenSet, left: np.ndarray, config: ModelConfig, crop_flops: float) -> dict[str, float]:
    """Return the shares of tokens and of arithmetic that decisions save while the videos run.

    After each frame the transformer reads all tokens so far. A track that was decided to be transient is neither
    cropped nor read from then on.

    Args:
        tokens: of the videos.
        left: bool [N], tokens that are still needed (:func:`fastvid.eval.early.tokens_left`).
        config: sizes of the transformer.
        crop_flops: operations for the features of one crop.
    """
    keeps = {"": np.ones(len(tokens.frame), dtype=bool), "_saved": left, "_ceiling": tokens.persistent}
    flops = {}
    for name, keep in keeps.items():
        lengths = _lengths(tokens, keep)
        flops[name] = float(transformer_flops(config, tokens.dim, lengths).sum() + crop_flops * keep.sum())
    return {
        "tokens": len(tokens.frame), "tokens_saved": float(1 - left.mean()),
        "tokens_ceiling": float(1 - tokens.persistent.mean()), "flops": flops[""],
        "flops_saved": 1 - flops["_saved"] / flops[""], "flops_ceiling": 1 - flops["_ceiling"] / flops[""],
    }  # fmt: skip


def _lengths(tokens: TokenSet, keep: np.ndarray) -> np.ndarray:
    """Return how many of the kept tokens there are up to each frame, int64 [V, T]."""
    video = np.repeat(np.arange(len(tokens)), tokens.counts)
    counts = np.zeros((len(tokens), tokens.frames), dtype=np.int64)
    np.add.at(counts, (video[keep], tokens.frame[keep]), 1)
    return counts.cumsum(1)


def crop_flops(extractor: Extractor, device: torch.device | str = "cpu") -> float:
    """Return the floating-point operations for the features of one crop, as PyTorch counts them."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        extractor(torch.zeros(1, 3, extractor.size, extractor.size, device=device))
    return float(counter.get_total_flops())


def rows_of(videos: Videos, tokens: TokenSet) -> np.ndarray:
    """Return the rows of the videos that tokens are of, int64 [V]."""
    place = {key: row for row, key in enumerate(videos.keys)}
    return np.array([place[key] for key in tokens.keys])


def time_preparation(
    videos: Videos, rows: np.ndarray, config: TokenConfig, extractor: Extractor, device: torch.device | str
) -> tuple[float, float]:
    """Return the seconds that detection and tracking of some videos take, and those of their crops and features."""
    footage = videos.read(rows)
    began = time.perf_counter()
    tracks = find_tracks(footage, config)
    found = time.perf_counter()
    extractor(object_crops(footage.frames, tracks.seen, extractor.size, extractor.normalisation, device))
    return found - began, time.perf_counter() - found


def wall_clock(
    predict: Predictor, tokens: TokenSet, left: np.ndarray, finding: float, features: float
) -> dict[str, Any]:
    """Measure how long the videos take from pixels to verdicts, one at a time and frame by frame, with and without
    early decisions.

    Args:
        predict: the model.
        tokens: of few videos.
        left: bool [N], tokens that are still needed.
        finding: seconds that detection and tracking of these videos take, which decisions do not change.
        features: seconds of their crops and features; cut by the share of tokens that are dropped.
    """

    def run(keep: np.ndarray) -> float:
        began = time.perf_counter()
        for v in range(len(tokens)):
            one = tokens.video(v)
            table, mine = TrackTable.from_tokens(one), keep[tokens.offsets[v] : tokens.offsets[v + 1]]
            for t in range(tokens.frames):
                predict(one, table, mine & (one.frame <= t))
        return time.perf_counter() - began

    everything = np.ones(len(tokens.frame), dtype=bool)
    run(everything)  # once to warm up
    whole, dropped = run(everything), run(left)
    before, after = finding + features + whole, finding + features * float(left.mean()) + dropped
    return {
        "videos": len(tokens), "seconds_per_video": before / len(tokens), "detection_and_tracking_s": finding,
        "crops_and_features_s": features, "transformer_s": whole, "wall_clock_saved": 1 - after / before,
    }  # fmt: skip
