"""The head that predicts the latent of a frame from the frame before it, as what the language model knows says."""

import itertools

import torch
from torch import nn
from torch.nn import functional

_WIDTHS = (64, 128, 256)  # channels of the convolutions, there and back
_HIDDEN = 512


class FilmHead(nn.Module):
    """Predicts next latents: convolutions over the previous latent, whose features are scaled and shifted by what is
    known before the frame (FiLM, arXiv 1709.07871).

    Convolutions of 3 x 3 with 64, 128 and 256 channels, a scale and a shift of each of these 256, and 128, 64 and the
    latent's channels; GELU between them. With 4 channels and a width of 576 it has 1.30 M parameters.

    Args:
        width: W, width of the language model.
        shape: channels, height and width of a latent.

    Attributes:
        first_latent: parameter [channels, height, width], which stands for the latent before the first frame.
    """

    def __init__(self, width: int, shape: tuple[int, int, int]):
        super().__init__()
        self.first_latent = nn.Parameter(torch.zeros(shape))
        self.modulation = nn.Sequential(nn.Linear(width, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, 2 * _WIDTHS[-1]))
        self.there = _convolutions(shape[0], *_WIDTHS)
        self.back = _convolutions(*reversed(_WIDTHS), shape[0])

    def forward(self, states: torch.Tensor, previous: torch.Tensor) -> torch.Tensor:
        """Predict latents [..., channels, h, w].

        Args:
            states: [..., W], what is known before each frame.
            previous: [..., channels, h, w], the latents before them.
        """
        return self.predict(states, self.features(previous))

    def features(self, previous: torch.Tensor) -> torch.Tensor:
        """Map latents [..., channels, h, w] to features [..., 256, h, w], which know nothing of a pass."""
        found: torch.Tensor = self.there(previous.flatten(0, -4)).unflatten(0, previous.shape[:-3])
        return found

    def predict(self, states: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        """Predict latents [..., channels, h, w] from states [..., W] and features [..., 256, h, w]."""
        scale, shift = self.modulation(states)[..., None, None].chunk(2, -3)
        changed = scale * features + shift
        found: torch.Tensor = self.back(changed.flatten(0, -4)).unflatten(0, changed.shape[:-3])
        return found

    def before(self, latents: torch.Tensor) -> torch.Tensor:
        """Return the latent before each of T frames, [..., T, channels, h, w]."""
        first = self.first_latent.to(latents.dtype).expand_as(latents[..., :1, :, :, :])
        return torch.cat([first, latents[..., :-1, :, :, :]], -4)


def pixel_latents(clips: torch.Tensor, side: int) -> torch.Tensor:
    """Return frames, made small, as latents: float32 [C, T, 3, side, side] in [-1, 1].

    Args:
        clips: uint8 [C, T, H, W, 3].
        side: of a latent, in pixels.
    """
    frames = clips.flatten(0, 1).permute(0, 3, 1, 2).float()
    small: torch.Tensor = functional.adaptive_avg_pool2d(frames, side).unflatten(0, clips.shape[:2])
    return small / 127.5 - 1


def _convolutions(*channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for there, here in itertools.pairwise(channels):
        layers += [nn.Conv2d(there, here, 3, padding=1), nn.GELU()]
    return nn.Sequential(*layers[:-1])
