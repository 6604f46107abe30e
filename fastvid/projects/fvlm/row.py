"""Columns that the language model reads in one call."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Row:
    """Columns that the language model reads.

    Attributes:
        embeds: [R, n, W].
        real: bool [R, n].
        lead: how many of them are in front of the frames.
    """

    embeds: torch.Tensor
    real: torch.Tensor
    lead: int = -1

    def __post_init__(self) -> None:
        if self.lead < 0:
            object.__setattr__(self, "lead", self.embeds.shape[1])

    @property
    def part(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return embeddings and which of them are real."""
        return self.embeds, self.real

    def then(self, embeds: torch.Tensor, real: torch.Tensor) -> "Row":
        """Return this with further columns behind."""
        return Row(torch.cat([self.embeds, embeds], 1), torch.cat([self.real, real], 1), self.lead)
