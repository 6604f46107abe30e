"""The connection of the language model and the encoder: queries one way, visual tokens the other."""

import torch
from torch import nn


class Connector(nn.Module):
    """Makes queries of hidden states, and visual tokens of what the queries saw.

    Queries start at a standard deviation of 1 and enter the encoder without a bias: with small queries or a shared bias
    all of them look alike, attention starts uniform and stays so.

    Args:
        vision: D, width of the encoder.
        language: W, width of the language model.
        token_scale: constant factor of visual tokens.
    """

    def __init__(self, vision: int, language: int, token_scale: float):
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

    def tokens(self, seen: torch.Tensor) -> torch.Tensor:
        """Map what queries saw [..., D] to visual tokens [..., W]."""
        token: torch.Tensor = self.token_scale * self.token(self.leave(seen))
        return token
