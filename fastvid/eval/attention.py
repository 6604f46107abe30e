"""Measures of attention: its ratio between objects that persist and that pass by, and whether answers depend on it.

All functions take the tokens of V videos one after the other: video v has the tokens ``offsets[v]`` to
``offsets[v + 1]``.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike

from fastvid.eval.accuracy import Accuracy
from fastvid.eval.hierarchical import bootstrap_interval

THRESHOLD = 1.3  # ratio above which a video counts as consistent
_LEAST = 1e-12  # share of attention that counts as none, so that a ratio is finite


def log_ratios(weights: ArrayLike, persistent: ArrayLike, offsets: ArrayLike) -> np.ndarray:
    """Compute the log of each video's attention ratio.

    For video i with n_P persistent and n_T transient tokens

        r_i = (attention on persistent tokens / n_P) / (attention on transient tokens / n_T).

    Uniform attention has r_i = 1, whatever the numbers of tokens are.

    Args:
        weights: float [N], attention of the read-out query on each token, its mean over heads; at least 0.
        persistent: bool [N], whether the token's object is persistent.
        offsets: int [V + 1].

    Returns:
        float64 [V], nan where a video has no persistent or no transient token.

    Raises:
        ValueError: shapes that do not fit, or weights that are negative or not finite.
    """
    weights, persistent, offsets = _tokens(weights, persistent, offsets)
    video = _video_of(offsets)
    means = []
    for kind in (persistent, ~persistent):
        count = np.bincount(video, kind, minlength=len(offsets) - 1)
        mass = np.bincount(video, weights * kind, minlength=len(offsets) - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(np.where(count > 0, np.maximum(mass, _LEAST) / count, np.nan))
    return np.log(means[0]) - np.log(means[1])


@dataclass(frozen=True)
class AttentionRatio:
    """The attention ratios of a set of videos.

    Attributes:
        log_ratios: float64 [V], of :func:`log_ratios`; nan for videos with one kind of object, which are left out.
        threshold: ratio above which a video counts as consistent.
    """

    log_ratios: np.ndarray
    threshold: float = THRESHOLD

    @classmethod
    def from_weights(cls, weights: ArrayLike, persistent: ArrayLike, offsets: ArrayLike) -> "AttentionRatio":
        """Measure the ratios of attention weights; see :func:`log_ratios`."""
        return cls(log_ratios(weights, persistent, offsets))

    @cached_property
    def used(self) -> np.ndarray:
        """Return the log ratios of the videos that have both kinds, float64 [n]."""
        return self.log_ratios[~np.isnan(self.log_ratios)]

    @property
    def excluded(self) -> int:
        """Return the number of videos with one kind of object."""
        return len(self.log_ratios) - len(self.used)

    @property
    def value(self) -> float:
        """Return the geometric mean of the ratios; nan without a video."""
        return math.exp(self.used.mean()) if len(self.used) else math.nan

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % interval of the geometric mean, over resampled videos; (0, infinity) without a video."""
        if not len(self.used):
            return 0.0, math.inf
        rows = np.stack([self.used, np.ones(len(self.used))], 1)
        low, high = bootstrap_interval([rows], mean_of_sums)
        return math.exp(low), math.exp(high)

    @property
    def consistency(self) -> Accuracy:
        """Return the share of videos whose ratio is above the threshold, of those with both kinds."""
        return Accuracy(int((self.used > math.log(self.threshold)).sum()), len(self.used))

    def as_dict(self) -> dict[str, float | int | None]:
        """Return plain numbers for JSON; null where there is no video with both kinds."""
        consistent = self.consistency.as_dict()
        low, high = self.interval
        empty = not len(self.used)
        return {
            "ratio": None if empty else self.value,
            "ratio_low": None if empty else low,
            "ratio_high": None if empty else high,
            "consistency": None if empty else consistent["accuracy"],
            "consistency_low": consistent["low"],
            "consistency_high": consistent["high"],
            "videos": len(self.used),
            "excluded": self.excluded,
        }


def mean_of_sums(sums: np.ndarray) -> np.ndarray:
    """Return [..., 0] / [..., 1]: the mean of values from their sum and their number."""
    return sums[..., 0] / sums[..., 1]


@dataclass(frozen=True)
class PermutationNull:
    """The attention ratios that the same weights have where the kinds are dealt out to the tracks at random.

    Attributes:
        ratios: float64 [draws], geometric means.
        consistencies: float64 [draws].
        p: share of the draws, with what was seen as one of them, whose ratio is at least the one seen.
    """

    ratios: np.ndarray
    consistencies: np.ndarray
    p: float

    def as_dict(self) -> dict[str, float | int]:
        """Return mean, 2.5 % and 97.5 % quantile of the ratio, the mean consistency, and p."""
        low, high = np.quantile(self.ratios, (0.025, 0.975))
        return {
            "ratio": float(np.exp(np.log(self.ratios).mean())), "low": float(low), "high": float(high),
            "consistency": float(self.consistencies.mean()), "p": self.p, "draws": len(self.ratios),
        }  # fmt: skip


def permutation_null(
    weights: ArrayLike,
    persistent: ArrayLike,
    tracks: ArrayLike,
    offsets: ArrayLike,
    *,
    draws: int = 200,
    seed: int = 0,
    threshold: float = THRESHOLD,
) -> PermutationNull:
    """Compute the null distribution of the attention ratio: kinds permuted among the whole tracks of each video.

    Tokens of one track stay of one kind, because attention treats them alike: permuting single tokens would make the
    null too narrow.

    Args:
        weights: float [N], as in :func:`log_ratios`.
        persistent: bool [N], the same for all tokens of a track.
        tracks: int [N], track within its video.
        offsets: int [V + 1].
        draws: permutations of all videos, at least 1.
        seed: seed of the permutations.
        threshold: ratio above which a video counts as consistent.

    Raises:
        ValueError: as :func:`log_ratios`, a track of both kinds, or no video with both kinds.
    """
    weights, persistent, offsets = _tokens(weights, persistent, offsets)
    seen = AttentionRatio(log_ratios(weights, persistent, offsets), threshold)
    if not len(seen.used):
        raise ValueError("a permutation null needs a video with persistent and transient objects; there is none")
    pairs = np.stack([_video_of(offsets), np.asarray(tracks, dtype=np.int64)], 1)
    (names, first, track_of), count = np.unique(pairs, axis=0, return_index=True, return_inverse=True), len(pairs)
    track_of = track_of.reshape(count)
    kinds = persistent[first]
    if (kinds[track_of] != persistent).any():
        raise ValueError("all tokens of a track must be of one kind")
    random = np.random.Generator(np.random.Philox(seed))
    ratios, consistencies = np.empty(draws), np.empty(draws)
    for draw in range(draws):
        dealt = kinds[np.lexsort((random.random(len(names)), names[:, 0]))]  # within each video
        null = AttentionRatio(log_ratios(weights, dealt[track_of], offsets), threshold)
        ratios[draw], consistencies[draw] = null.value, null.consistency.value
    reached = int((ratios >= seen.value * (1 - 1e-12)).sum())
    return PermutationNull(ratios, consistencies, (1 + reached) / (1 + draws))


def rollout(layers: Sequence[np.ndarray], readout: np.ndarray) -> np.ndarray:
    """Compute the attention of the read-out query on the inputs, through all layers.

    Each layer passes on half of what a token is and half of what it attends to: A = (attention + I) / 2.

    Args:
        layers: float [B, L, L] each, from the first layer to the last: attention, mean over heads; rows sum to 1.
        readout: float [B, L], attention of the read-out query on the last layer's tokens.

    Returns:
        float [B, L].

    Source: Abnar and Zuidema, "Quantifying attention flow in transformers", ACL 2020.
    """
    flow = np.asarray(readout, dtype=np.float64)
    for attention in reversed(layers):
        flow = 0.5 * (flow + np.einsum("bi,bij->bj", flow, attention))
    return flow


def keep_persistent(persistent: ArrayLike) -> np.ndarray:
    """Return which tokens are left where all transient ones are deleted, bool [N]."""
    return np.asarray(persistent, dtype=bool).copy()


def delete_as_many_persistent(persistent: ArrayLike, offsets: ArrayLike, *, seed: int = 0) -> np.ndarray:
    """Return which tokens are left where in each video as many persistent tokens as it has transient ones are deleted,
    chosen at random; all but one where there are fewer.

    Returns:
        bool [N].
    """
    persistent, offsets = np.asarray(persistent, dtype=bool), np.asarray(offsets)
    keys = np.random.Generator(np.random.Philox(seed)).random(len(persistent))
    left = np.ones(len(persistent), dtype=bool)
    for first, end in itertools.pairwise(offsets.tolist()):
        mine = first + np.flatnonzero(persistent[first:end])
        count = min(end - first - len(mine), max(0, len(mine) - 1))
        left[mine[np.argsort(keys[mine])[:count]]] = False
    return left


def delete_share(order: ArrayLike, offsets: ArrayLike, share: float) -> np.ndarray:
    """Return which tokens are left where a share of each video's tokens is deleted, those of greatest ``order`` first.

    Give attention weights as the order to delete what is attended to most, their negative for the least, and random
    numbers for a deletion to compare both with. At least one token of each video is left.

    Args:
        order: float [N].
        offsets: int [V + 1].
        share: in [0, 1]; the number of tokens is rounded to the nearest, halves to the even one.

    Returns:
        bool [N].
    """
    order, offsets = np.asarray(order, dtype=np.float64), np.asarray(offsets)
    left = np.ones(len(order), dtype=bool)
    for first, end in itertools.pairwise(offsets.tolist()):
        count = min(round(share * (end - first)), max(0, end - first - 1))
        left[first + np.argsort(-order[first:end], kind="stable")[:count]] = False
    return left


def _video_of(offsets: np.ndarray) -> np.ndarray:
    return np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))


def _tokens(weights: ArrayLike, persistent: ArrayLike, offsets: ArrayLike) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    weights, persistent = np.asarray(weights, dtype=np.float64), np.asarray(persistent, dtype=bool)
    offsets = np.asarray(offsets, dtype=np.int64)
    count = int(offsets[-1]) if offsets.ndim == 1 and len(offsets) else -1
    if weights.shape != (count,) or persistent.shape != (count,) or offsets[0] != 0 or (np.diff(offsets) < 0).any():
        raise ValueError(
            "attention is measured with weights [N] and kinds [N] of the N tokens that the offsets end with; got "
            f"{list(weights.shape)}, {list(persistent.shape)} and offsets to {count}"
        )
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("attention weights must be finite and at least 0")
    return weights, persistent, offsets
