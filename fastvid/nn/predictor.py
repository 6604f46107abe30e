"""The predictor: a narrow transformer that says what the masked tokens are, given the visible ones."""

import torch
from timm.models.vision_transformer import Block
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastvid.nn.cross_block import CrossBlock
from fastvid.nn.init import Init, init_weights
from fastvid.nn.positions import sincos_positions
from fastvid.nn.predictor_config import PredictorConfig
from fastvid.ops import gather_tokens


class Predictor(nn.Module):
    """Predicts a vector for each masked token from the encoder's visible tokens.

    Every token carries its position explicitly, so attention does not care about order and only the tokens that matter
    are processed: ``layout="concat"`` runs on [visible; masked], ``layout="dense"`` scatters the visible tokens into
    the full grid, puts mask tokens everywhere else and keeps the masked outputs (the published SALT-VLA layout). Where
    visible and masked make up the whole grid the two compute the same thing. ``layout="cross"`` is another, cheaper
    model: masked tokens attend to the visible ones and not to each other (CrossMAE, arXiv 2401.14391), so that what is
    predicted for one does not depend on which others are asked for, and a random subset has the whole's expected loss.

    Args:
        in_dim: width of the encoder's tokens.
        out_dim: width of the predictions.
        grid: (T, H, W) tokens.
        config: its size, layout and positions.
        mask_tokens: learnt mask tokens, one for each mask spec of a step.
        context: predict the visible tokens too, by a head of their own (V-JEPA 2.1, arXiv 2603.14482).
        init: how the weights start; see :func:`fastvid.nn.init_weights`.

    Attributes:
        checkpointing: recompute the blocks in the backward pass instead of keeping their activations.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        grid: tuple[int, int, int],
        config: PredictorConfig,
        *,
        mask_tokens: int = 1,
        context: bool = False,
        init: Init = "xavier",
    ):
        super().__init__()
        width = config.width
        self.layout, self.checkpointing = config.layout, False
        self.positions: torch.Tensor
        self.embed = nn.Linear(in_dim, width)
        self.mask_tokens = nn.Parameter(torch.empty(mask_tokens, width))
        positions = config.position_scale * sincos_positions(grid, width, config.temperature)
        self.register_buffer("positions", positions, persistent=False)
        if config.layout == "cross":
            self.context_norm = nn.LayerNorm(width)
            self.blocks = nn.ModuleList(CrossBlock(width, config.heads) for _ in range(config.depth))
        else:
            self.blocks = nn.ModuleList(Block(width, config.heads, qkv_bias=True) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, out_dim)
        self.context_head = nn.Linear(width, out_dim) if context else None
        init_weights(self, init)
        nn.init.normal_(self.mask_tokens, std=0.02)

    def forward(self, z: torch.Tensor, visible: torch.Tensor, masked: torch.Tensor, which: int = 0) -> torch.Tensor:
        """Map z [B, V, in_dim] at ``visible`` int64 [B, V] to predictions [B, M, out_dim] at ``masked`` int64 [B, M],
        followed by those at ``visible``, [B, M + V, out_dim], where visible tokens are predicted too.

        ``which`` selects the mask token.
        """
        z = self.embed(z)
        positions = self.positions.to(z.dtype)
        token = self.mask_tokens[which].to(z.dtype)
        seen: tuple[torch.Tensor, ...] = ()  # what blocks take beside x
        if self.layout == "dense":
            x = token.expand(len(z), len(positions), -1)
            x = x.scatter(1, visible.unsqueeze(-1).expand_as(z), z) + positions
        elif self.layout == "concat":
            x = torch.cat([z + positions[visible], token + positions[masked]], dim=1)
        else:
            x, z = token + positions[masked], z + positions[visible]
            seen = (self.context_norm(z),)
            if self.context_head is not None:
                x = torch.cat([z, x], dim=1)
        for block in self.blocks:
            if self.checkpointing and self.training:
                x = checkpoint(block, x, *seen, use_reentrant=False)
            else:
                x = block(x, *seen)
        if self.layout == "dense":
            wanted = masked if self.context_head is None else torch.cat([visible, masked], dim=1)
            x = gather_tokens(x, wanted)
        if self.context_head is None:
            return self.head(self.norm(x[:, x.shape[1] - masked.shape[1] :]))
        visible_part, masked_part = self.norm(x).split([visible.shape[1], masked.shape[1]], dim=1)
        return torch.cat([self.head(masked_part), self.context_head(visible_part)], dim=1)
