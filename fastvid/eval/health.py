"""Signs that a self-supervised encoder collapses, computed on a fixed batch of clips."""

from dataclasses import dataclass

import torch


def rank_me(features: torch.Tensor, eps: float = 1e-7) -> float:
    """Compute RankMe: the exponential of the entropy of the normalised singular values, between 1 and the width.

    Args:
        features: [n, D], best with n several times D.
        eps: added to each normalised singular value.

    Source: Garrido et al., "RankMe: assessing the downstream performance of pretrained self-supervised representations
    by their rank", ICML 2023.
    """
    values = torch.linalg.svdvals(features.double())
    share = values / values.sum().clamp(min=1e-30) + eps
    return float(torch.exp(-(share * share.log()).sum()))


@dataclass(frozen=True)
class FeatureHealth:
    """The spread of an encoder's tokens.

    Attributes:
        rank: RankMe of the tokens.
        width: width of a token: the greatest rank there is.
        std: mean over dimensions of the standard deviation over tokens.
        clip_std: the same of the clips' mean tokens: near zero when all clips look alike to the encoder.
    """

    rank: float
    width: int
    std: float
    clip_std: float

    @classmethod
    def from_tokens(cls, tokens: torch.Tensor, most_rows: int = 8192) -> "FeatureHealth":
        """Measure tokens [B, N, D]. Of more than ``most_rows`` tokens, evenly spaced ones are used."""
        tokens = tokens.detach().float()
        rows = tokens.flatten(0, 1)
        rows = rows[:: max(1, len(rows) // most_rows)]
        return cls(
            rank=rank_me(rows),
            width=tokens.shape[-1],
            std=float(rows.std(0).mean()),
            clip_std=float(tokens.mean(1).std(0).mean()),
        )

    def problems(self, who: str) -> list[str]:
        """Describe what looks like collapse, in a list of sentences. It is empty when nothing does."""
        found = []
        if self.rank < max(2.0, 0.05 * self.width):
            found.append(f"{who} tokens span {self.rank:.1f} of {self.width} dimensions: dimensional collapse")
        if self.std < 0.01:
            found.append(f"{who} tokens hardly vary (mean deviation {self.std:.4f}): complete collapse")
        elif self.clip_std < 0.01 * self.std:
            found.append(f"{who} sees no difference between clips (deviation {self.clip_std:.5f} of {self.std:.3f})")
        return found


def mean_predictor_loss(targets: torch.Tensor, kind: str) -> float:
    """Compute the loss of always predicting the mean target, which a model that ignores its input reaches.

    Args:
        targets: [n, D], normalised as the loss normalises them.
        kind: a kind of :func:`fastvid.ops.masked_latent_loss`.
    """
    targets = targets.detach().float()
    mean = targets.mean(0, keepdim=True).expand_as(targets)
    if kind == "mse":
        return float((targets - mean).square().mean())
    if kind == "l1":
        return float((targets - targets.median(0).values).abs().mean())
    if kind == "smooth_l1":
        return float(torch.nn.functional.smooth_l1_loss(mean, targets))
    return float((1 - torch.nn.functional.cosine_similarity(mean, targets, dim=-1)).mean())
