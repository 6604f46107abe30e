"""The connection of the language model and the encoder: queries one way, visual tokens the other."""

import torch
from torch import nn

from fastvid.projects.fvlm.model_config import Kind


class Connector(nn.Module):
    """Makes queries of hidden states, and visual tokens of what the queries saw.

    Queries start at a standard deviation of 1 and enter the encoder without a bias: with small queries or a shared bias
    all of them look alike, attention starts uniform and stays so.

    Args:
        vision: D, width of the encoder.
        language: W, width of the language model.
        token_scale: constant factor of visual tokens, and standard deviation of the tokens below at the start.
        marks: have tokens [W] that stand in front of the frames: ``coarse_mark`` and ``fine_mark``.
        no_text: have one that stands where there is no text, too.
    """

    def __init__(self, vision: int, language: int, token_scale: float, *, marks: bool = False, no_text: bool = False):
        super().__init__()
        self.token_scale = token_scale
        self.static_query = nn.Parameter(torch.randn(vision))
        self.first_query = nn.Parameter(torch.randn(vision))
        self.predict = nn.Linear(language, vision, bias=False)
        self.enter = nn.Linear(vision, vision, bias=False)
        self.leave = nn.Linear(vision, vision)
        self.token = nn.Linear(vision, language)
        for layer in (self.predict, self.enter, self.leave, self.token):
            nn.init.normal_(layer.weight, std=layer.in_features**-0.5)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if marks:
            self.coarse_mark = nn.Parameter(token_scale * torch.randn(language))
            self.fine_mark = nn.Parameter(token_scale * torch.randn(language))
        if no_text:
            self.no_text = nn.Parameter(token_scale * torch.randn(language))

    def tokens(self, seen: torch.Tensor) -> torch.Tensor:
        """Map what queries saw [..., D] to visual tokens [..., W]."""
        token: torch.Tensor = self.token_scale * self.token(self.leave(seen))
        return token

    def mark(self, kind: Kind) -> torch.Tensor:
        """Return the token that stands in front of the frames of a pass, [1, 1, W]."""
        mark: torch.Tensor = self.coarse_mark if kind == "coarse" else self.fine_mark
        return mark[None, None]
