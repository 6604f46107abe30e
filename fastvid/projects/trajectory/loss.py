"""The loss of a worker: the video's class, each track's verdict, and the worker's own term."""

import math
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from fastvid.data import Batch
from fastvid.projects.trajectory.batches import TokenBatch
from fastvid.projects.trajectory.config import SupervisionConfig
from fastvid.projects.trajectory.model import Output

_LEAST = 1e-12  # share of attention that counts as none, as in fastvid.eval.attention


def log_ratio(attention: torch.Tensor, persistent: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
    """Compute the log of each video's attention ratio, differentiably; see :func:`fastvid.eval.attention.log_ratios`.

    Args:
        attention: float [B, L], 0 for padding.
        persistent: bool [B, L].
        valid: bool [B, L].

    Returns:
        float32 [B], nan where a video has one kind only.
    """
    means = []
    for kind in (persistent & valid, ~persistent & valid):
        count = kind.sum(-1)
        mass = (attention.float() * kind).sum(-1).clamp(min=_LEAST)
        means.append(torch.where(count > 0, mass / count.clamp(min=1), math.nan))
    return means[0].log() - means[1].log()


def attention_hinge(attention: torch.Tensor, batch: TokenBatch, ratio: float) -> torch.Tensor:
    """Return the mean over videos of relu(log ratio - log r), 0 without a video that has both kinds.

    The logarithm frees it of scale: the difference of mean attentions, which goes to zero as 1 / L, has next to no
    gradient in long videos.
    """
    logs = log_ratio(attention, batch.persistent, batch.valid)
    logs = logs[~logs.isnan()]
    return (math.log(ratio) - logs).relu().mean() if len(logs) else attention.sum() * 0.0


def contrastive(tracks: torch.Tensor, kinds: torch.Tensor, temperature: float) -> torch.Tensor:
    """Compute the supervised contrastive loss of tracks: those of one kind near each other, of the other kind far.

    Args:
        tracks: float [n, D], embeddings; they are normalised here.
        kinds: bool [n].
        temperature: of the similarities.

    Source: Khosla et al., "Supervised contrastive learning", NeurIPS 2020, equation 2.
    """
    unit = functional.normalize(tracks.float(), dim=-1)
    logits = unit @ unit.T / temperature
    own = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    log_p = logits - logits.masked_fill(own, -math.inf).logsumexp(-1, keepdim=True)
    same = (kinds[:, None] == kinds[None]) & ~own
    some = same.any(-1)
    if not some.any():
        return tracks.sum() * 0.0
    return -((log_p * same).sum(-1)[some] / same.sum(-1)[some]).mean()


@dataclass(frozen=True)
class TrajectoryLoss:
    """The loss of one worker, as the engine calls it.

    Attributes:
        term: what is added to the two cross-entropies: "attention", "contrastive", "duration" or nothing.
        config: weights.
        warmup: micro-batches over which the added term's weight grows.
    """

    term: str | None
    config: SupervisionConfig
    warmup: int

    def __call__(self, module: nn.Module, batch: Batch, micro: int) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss and the terms to record."""
        tokens = TokenBatch(**batch.extra)
        out = module(tokens)
        target = functional.cross_entropy(out.target.float(), tokens.target)
        kinds = tokens.kinds[tokens.present]
        verdict = functional.binary_cross_entropy_with_logits(out.verdicts[tokens.present], kinds.float())
        terms = {"target_loss": target, "verdict_loss": verdict}
        # The head that no term uses takes part with weight 0: its gradients are zeros and not missing.
        loss = target + verdict + out.durations.sum() * 0.0
        if self.term is not None:
            added = self._added(out, tokens)
            terms[f"{self.term}_loss"] = added
            loss = loss + self.config.weight * min(1.0, (micro + 1) / max(1, self.warmup)) * added
        return loss, {name: value.detach() for name, value in terms.items()}

    def _added(self, out: Output, batch: TokenBatch) -> torch.Tensor:
        if self.term == "attention":
            return attention_hinge(out.attention, batch, self.config.ratio)
        if self.term == "contrastive":
            return contrastive(out.tracks[batch.present], batch.kinds[batch.present], self.config.temperature)
        return functional.smooth_l1_loss(out.durations[batch.present], batch.lengths[batch.present])
