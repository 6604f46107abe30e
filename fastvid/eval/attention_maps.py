"""Measures of where queries look: entropy against uniform attention, hits of a known target, diversity of queries.

A look is one query's attention on the N tokens of one frame, in each of h heads of each of L layers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

UNIFORM = 0.99  # share of ln N from which a head counts as uniform


@dataclass(frozen=True)
class AttentionEntropy:
    """The mean attention entropy of some looks.

    Attributes:
        values: float64 [L, T, h], nats, by layer, frame and head: mean over the looks; nan for a frame without one.
        looks: int64 [T], looks in each frame.
        tokens: N, of a frame. Uniform attention has the entropy ln N, the greatest there is.
    """

    values: np.ndarray
    looks: np.ndarray
    tokens: int

    @classmethod
    def from_looks(cls, entropy: ArrayLike, frames: ArrayLike, tokens: int) -> "AttentionEntropy":
        """Average the entropies of looks.

        Args:
            entropy: float [L, n, T, h], nats, of the looks of n questions in T frames.
            frames: bool [n, T], which frames a question has.
            tokens: N, of a frame.

        Raises:
            ValueError: shapes that do not fit, entropies outside [0, ln N], or no look.
        """
        entropy, frames = np.asarray(entropy, dtype=np.float64), np.asarray(frames, dtype=bool)
        if entropy.ndim != 4 or entropy.shape[1:3] != frames.shape:
            raise ValueError(f"entropies [L, n, T, h] need frames [n, T]; got {entropy.shape} and {frames.shape}")
        if not frames.any():
            raise ValueError("there is no look whose entropy could be measured")
        looked = entropy[:, frames]
        most = math.log(tokens)
        if not ((looked >= -1e-4) & (looked <= most + 1e-3)).all():  # float32, summed over N terms
            raise ValueError(
                f"entropies of {tokens} tokens lie in [0, {most:.4g}]; got {looked.min()} to {looked.max()}"
            )
        looks = frames.sum(0)
        with np.errstate(invalid="ignore"):
            values = np.where(frames[None, :, :, None], entropy, 0).sum(1) / np.where(looks, looks, np.nan)[:, None]
        return cls(values, looks, tokens)

    @property
    def most(self) -> float:
        """Return ln N, the entropy of uniform attention."""
        return math.log(self.tokens)

    @property
    def by_head(self) -> np.ndarray:
        """Return the mean over all looks, float64 [L, h]."""
        return np.asarray(np.nansum(self.values * self.looks[:, None], axis=1) / self.looks.sum())

    @property
    def mean(self) -> float:
        """Return the mean over layers, heads and looks."""
        return float(self.by_head.mean())

    @property
    def uniform_heads(self) -> list[tuple[int, int]]:
        """Return (layer, head), counted from 0, of the heads that look nowhere: at least 99 % of ln N."""
        if self.tokens == 1:  # the only attention there can be
            return []
        return [(int(layer), int(head)) for layer, head in np.argwhere(self.by_head >= UNIFORM * self.most)]

    @property
    def alarm(self) -> str | None:
        """Describe uniform attention that makes looking useless, or return None.

        One head may rest. A layer whose heads are all uniform hands every query the same mean of the values: what a
        bias in the query's projection or a small initial query did to published runs, whose loss did not tell.
        """
        layers, heads = self.by_head.shape
        dead = [layer for layer in range(layers) if sum(at == layer for at, _ in self.uniform_heads) == heads]
        if not dead:
            return None
        which = "every layer" if len(dead) == layers else f"layer {', '.join(str(layer + 1) for layer in dead)}"
        lowest = self.by_head[dead].min()
        return (
            f"all heads of {which} attend uniformly: entropy {lowest:.3f} of at most ln {self.tokens} = {self.most:.3f}"
        )

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON: means, by layer and head, by frame, and what is uniform."""
        by_frame = self.values.mean((0, 2))
        return {
            "mean": self.mean, "uniform": self.most, "tokens": self.tokens, "by_layer_and_head": self.by_head.tolist(),
            "by_frame": [None if math.isnan(value) else float(value) for value in by_frame],
            "by_layer_frame_and_head": [
                [[None if math.isnan(value) else float(value) for value in heads] for heads in frames]
                for frames in self.values
            ],
            "uniform_heads": [list(place) for place in self.uniform_heads], "alarm": self.alarm,
        }  # fmt: skip


@dataclass(frozen=True)
class Hits:
    """Looks whose target is known, and whether they find it.

    Attributes:
        hit: bool [k], of the k looks with a known target: whether the token with most attention is the target.
        mass: float64 [k], attention on the target.
        frame: int64 [k], frame of the look.
        question: int64 [k], question of the look.
        tokens: N; a look that knows nothing hits with probability 1 / N.
        questions: n, whether or not a target of theirs is known.
    """

    hit: np.ndarray
    mass: np.ndarray
    frame: np.ndarray
    question: np.ndarray
    tokens: int
    questions: int

    @classmethod
    def from_weights(cls, weights: ArrayLike, target: ArrayLike) -> "Hits":
        """Compare attention with the tokens that were to be looked at.

        Args:
            weights: float [n, T, h, N], attention of n questions in T frames; its mean over heads counts.
            target: int [n, T], token to look at; -1 where that is not known, or there is no frame.

        Raises:
            ValueError: shapes that do not fit, or a target that is no token.
        """
        weights, target = np.asarray(weights, dtype=np.float64), np.asarray(target, dtype=np.int64)
        if weights.ndim != 4 or weights.shape[:2] != target.shape:
            raise ValueError(f"attention [n, T, h, N] needs targets [n, T]; got {weights.shape} and {target.shape}")
        tokens = weights.shape[3]
        if target.size and not (target.min() >= -1 and target.max() < tokens):
            raise ValueError(f"a target is one of {tokens} tokens, or -1; got {target.min()} to {target.max()}")
        question, frame = np.nonzero(target >= 0)
        seen, wanted = weights.mean(2)[question, frame], target[question, frame]
        return cls(seen.argmax(1) == wanted, seen[np.arange(len(seen)), wanted], frame, question, tokens, len(target))

    @classmethod
    def joined(cls, parts: Sequence["Hits"]) -> "Hits":
        """Return the hits of several sets of questions as one; each set is a whole number of rows [T] of targets."""
        if len({part.tokens for part in parts}) != 1:
            raise ValueError("hits can be joined where there are some, and all are among as many tokens")
        offsets = np.cumsum([0, *(part.questions for part in parts)])
        question = [part.question + offset for part, offset in zip(parts, offsets[:-1], strict=True)]
        names = ("hit", "mass", "frame")
        hit, mass, frame = (np.concatenate([getattr(part, name) for part in parts]) for name in names)
        return cls(hit, mass, frame, np.concatenate(question), parts[0].tokens, int(offsets[-1]))

    def of(self, questions: ArrayLike) -> "Hits":
        """Return the hits of some questions, given as bool [n]."""
        kept = np.asarray(questions, dtype=bool)[self.question]
        return Hits(self.hit[kept], self.mass[kept], self.frame[kept], self.question[kept], self.tokens, self.questions)

    def as_dict(self) -> dict[str, object]:
        """Return plain values for JSON; null without a known target."""
        count = len(self.hit)
        frames = range(int(self.frame.max()) + 1) if count else range(0)
        by_frame = [self.hit[self.frame == t] for t in frames]
        return {
            "hit_rate": float(self.hit.mean()) if count else None, "mass": float(self.mass.mean()) if count else None,
            "by_frame": [float(hit.mean()) if len(hit) else None for hit in by_frame],
            "looks": count, "chance": 1 / self.tokens,
        }  # fmt: skip


def diversity(queries: ArrayLike, groups: Sequence[ArrayLike]) -> float | None:
    """Compute how much the queries of a group differ: the mean of 1 - cosine over pairs, then over groups.

    0: all are parallel, so every look is the same. About 1: unrelated directions.

    Args:
        queries: float [n, D].
        groups: indices into n, such as the frames of one question; groups of fewer than two are left out.

    Returns:
        None where no group has two.
    """
    queries = np.asarray(queries, dtype=np.float64)
    unit = queries / np.maximum(np.linalg.norm(queries, axis=1, keepdims=True), 1e-12)
    found = []
    for group in groups:
        which = np.asarray(group, dtype=np.int64)
        k = len(which)
        if k > 1:
            together = float(np.square(unit[which].sum(0)).sum())  # k + the sum of cosines over ordered pairs
            found.append(1 - (together - k) / (k * (k - 1)))
    return float(np.mean(found)) if found else None
