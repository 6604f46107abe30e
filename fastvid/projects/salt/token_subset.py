"""The tokens to predict where only some tokens' latents are cached: those that are masked and cached."""

import math

import torch

from fastvid.projects.salt.model import Mask
from fastvid.random import philox4x32, sample_id, split64

_MOST_EMPTY = 1e-4  # share of clips that may have no masked token among the cached ones


class TokenSubset:
    """Picks the same number P of predicted tokens for every clip, so that no shape depends on chance.

    Masks are drawn as they always are, on the full grid. K of a clip's N tokens are cached, chosen independently of any
    mask, so of M masked tokens a hypergeometric number is cached: K M / N on average. P is that mean less one standard
    deviation, rounded down, at least 1 and at most ``most``. A clip with more masked and cached tokens has P of them
    drawn at random, others at each step; a clip with fewer has some of its own twice. A clip with none, of which there
    may be one in ten thousand, has one of its cached visible tokens P times.

    Args:
        counts: (masked, visible) tokens of each mask of a step.
        tokens: N, of the grid.
        cached: K, of each clip.
        most: greatest P, or None.
        seed: seed of the run.

    Attributes:
        predicted: P for each mask.

    Raises:
        ValueError: so few tokens are cached that more clips than that would have none.
    """

    def __init__(self, counts: list[tuple[int, int]], tokens: int, cached: int, most: int | None, seed: int):
        self.seed = sample_id(f"predicted tokens, seed {seed}")
        self.predicted = []
        for masked, _ in counts:
            empty = math.exp(_log_choose(tokens - masked, cached) - _log_choose(tokens, cached))
            if empty > _MOST_EMPTY:
                raise ValueError(
                    f"{cached} of {tokens} tokens are cached, and of the {masked} masked ones {empty:.2%} of the clips "
                    "would have none cached: make the cache with more --tokens, or mask more"
                )
            share = masked / tokens
            mean = cached * share
            deviation = math.sqrt(mean * (1 - share) * (tokens - cached) / max(1, tokens - 1))
            self.predicted.append(min(max(1, math.floor(mean - deviation)), most or tokens))

    def __call__(
        self, masks: list[Mask], cached: torch.Tensor, ids: torch.Tensor, draw: int
    ) -> tuple[list[Mask], torch.Tensor]:
        """Return the masks with only the tokens that are predicted.

        Args:
            masks: visible int64 [B, V] and masked int64 [B, M].
            cached: int64 [B, K], ascending.
            ids: int64 [B], of the samples.
            draw: of the masks.

        Returns:
            The masks with ``masked`` int64 [B, P], ascending; and the share of these that are there to fill a row up.
        """
        out, repeats, total = [], torch.zeros((), device=cached.device), 0
        for which, ((visible, masked), count) in enumerate(zip(masks, self.predicted, strict=True)):
            eligible = is_among(cached, masked)
            order = self._order(cached, eligible, ids, draw * len(masks) + which)
            there = eligible.sum(1, keepdim=True)
            slot = torch.arange(count, device=cached.device).expand(len(cached), -1)
            picked = order.gather(1, slot % there.clamp(min=1))
            out.append((visible, cached.gather(1, picked).sort(1).values))
            repeats = repeats + (count - there).clamp(min=0).sum()
            total += slot.numel()
        return out, repeats / total

    def _order(self, cached: torch.Tensor, eligible: torch.Tensor, ids: torch.Tensor, draw: int) -> torch.Tensor:
        """Return int64 [B, K]: positions in a clip's cached tokens, the eligible ones first, in random order."""
        place = torch.arange(cached.shape[1], device=cached.device)
        low, high = split64(ids.unsqueeze(1))
        word, *_ = philox4x32((place, torch.full_like(place, draw), low, high), split64(self.seed))
        return torch.where(eligible, word, word + 2**32).argsort(stable=True, dim=1)


def is_among(tokens: torch.Tensor, some: torch.Tensor) -> torch.Tensor:
    """Return bool [B, K]: whether each of ``tokens`` [B, K] is among ``some`` [B, M] of its row."""
    some = some.sort(1).values
    at = torch.searchsorted(some, tokens.contiguous()).clamp(max=some.shape[1] - 1)
    return some.gather(1, at) == tokens


def _log_choose(n: int, k: int) -> float:
    """Return the logarithm of the binomial coefficient, minus infinity for an impossible choice."""
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) if 0 <= k <= n else -math.inf
