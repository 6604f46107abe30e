"""The masked latent loss as a module."""

import torch
from torch import nn

from fastvid.ops import masked_latent_loss
from fastvid.ops.masked_latent_loss import KINDS, Kind


class MaskedLatentLoss(nn.Module):
    """Mean distance between predictions and the targets at the masked tokens: :func:`fastvid.ops.masked_latent_loss`.

    Args:
        kind: ``"mse"``, ``"l1"``, ``"smooth_l1"`` or ``"cosine"``.
        normalize_target: apply LayerNorm without affine parameters to each target token, as V-JEPA does.

    Raises:
        ValueError: unknown ``kind``.
    """

    def __init__(self, kind: Kind = "l1", *, normalize_target: bool = True):
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f"MaskedLatentLoss: kind must be one of {', '.join(KINDS)}; got {kind!r}")
        self.kind, self.normalize_target = kind, normalize_target

    def forward(
        self,
        pred: torch.Tensor,
        target: torch.Tensor,
        masked: torch.Tensor,
        target_scale: torch.Tensor | None = None,
        weight: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Map pred [B, M, D], target [B, N, D] (int8 with target_scale [B, N]) and masked int64 [B, M] to a float32
        scalar: the mean over the tokens, weighted where there is a weight float32 [B, M].
        """
        return masked_latent_loss(
            pred, target, masked, kind=self.kind, normalize_target=self.normalize_target, target_scale=target_scale,
            weight=weight,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kind={self.kind!r}, normalize_target={self.normalize_target}"
