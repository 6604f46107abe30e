"""Options of the reconstruction of frames. No model code is imported, so that they are read quickly."""

from dataclasses import dataclass
from typing import Annotated, Literal

from fastvid.ranges import Count, NotNegative
from fastvid.train.paths import PathOption


@dataclass(frozen=True)
class ReconstructConfig:
    """Next-latent reconstruction: before a frame is looked at, a head predicts its latent from the one before it and
    from what the language model knows by then."""

    weight: NotNegative = 0.0
    """Weight of the squared error in the fine pass."""
    coarse_weight: NotNegative = 0.0
    """Weight of the squared error in the coarse pass. With 0 it is measured now and then, and not trained."""
    told: bool = False
    """The whole conversation stands in front of the frames, answers too. Then no answer is learnt, and the
    reconstruction is the whole loss."""
    latents: Literal["pixels", "data", "diffusers"] = "pixels"
    """pixels: a frame itself, made small. data: latents that are stored beside the videos. diffusers: those of a
    variational autoencoder, computed once and cached, so that a video's clip is the same in every epoch."""
    side: Count = 32
    """Side of a latent of pixels or of the data."""
    channels: Count = 4
    """Channels of the data's latents; those of diffusers are known from the autoencoder, and their side."""
    vae: Annotated[str, PathOption("model")] = "stabilityai/sd-vae-ft-mse"
    """AutoencoderKL of diffusers, from the Hugging Face hub or a local folder."""

    def __post_init__(self) -> None:
        if self.told and not self.on:
            raise ValueError("reconstruct: told learns no answer: give --reconstruct.weight, or there is no loss")

    @property
    def on(self) -> bool:
        """Return whether frames are reconstructed."""
        return self.weight > 0 or self.coarse_weight > 0
