"""Latents of frames by a variational autoencoder of diffusers, computed once and kept on the disk."""

import logging
import shutil
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data.worker_pool import most_threads
from fastvid.files import cache_dir, existing
from fastvid.latents import LatentStore
from fastvid.latents.compute import FrozenEncoder, FrozenModule
from fastvid.latents.features import FeatureSet, FeatureStorage, features_bytes, make_features
from fastvid.models.fingerprint import config_hash, weights_hash
from fastvid.models.pretrained import Misfits, Parts, check_fit
from fastvid.models.weight_files import first_line, local_or_hub
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.data import Clips, FvlmData
from fastvid.train.logs import progress
from fastvid.train.precision import autocast_dtype, precision_name
from fastvid.units import size

log = logging.getLogger(__name__)

_FRAMES = 8  # in one forward pass: a large image's features are gigabytes
_SPARE = 1 << 30  # bytes of a disk that are left free


class FrameVae(nn.Module):
    """The latents of frames, each by itself: the mean of the encoder's distribution, scaled to about unit variance.

    Args:
        vae: an ``AutoencoderKL``.
    """

    def __init__(self, vae: Any):
        super().__init__()
        self.vae = vae
        self.channels: int = vae.config.latent_channels

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Map uint8 [B, T, H, W, 3] to [B, T, channels * h * w]."""
        frames = clips.flatten(0, 1).permute(0, 3, 1, 2)
        parts = [self.vae.encode(part.float() / 127.5 - 1).latent_dist.mean for part in frames.split(_FRAMES)]
        scaled = (torch.cat(parts) - (self.vae.config.shift_factor or 0.0)) * self.vae.config.scaling_factor
        latents: torch.Tensor = scaled.flatten(1).unflatten(0, clips.shape[:2])
        return latents

    def side(self, size: int) -> int:
        """Return the side of the latent of a frame of ``size`` pixels.

        Raises:
            ValueError: such frames do not divide.
        """
        shrinks: int = 2 ** (len(self.vae.config.block_out_channels) - 1)
        if size % shrinks:
            raise ValueError(f"frames of {size} pixels do not divide by the {shrinks} that the autoencoder shrinks by")
        return size // shrinks


def open_vae(source: str) -> FrameVae:
    """Open an autoencoder of diffusers, every tensor of it.

    Args:
        source: a local folder, or a name on the Hugging Face hub.

    Raises:
        UserError: diffusers is not installed.
        ValueError: files that are damaged, or do not fit.
        OSError: nothing to open.
    """
    try:
        from diffusers import AutoencoderKL
    except ImportError as error:
        raise UserError(
            "--reconstruct.latents diffusers needs diffusers: pip install 'fastvid[diffusers]', or use pixels"
        ) from error
    try:
        vae, found = AutoencoderKL.from_pretrained(
            local_or_hub(source), use_safetensors=True, low_cpu_mem_usage=False, output_loading_info=True
        )
    except OSError:
        raise
    except Exception as error:  # of any type: a configuration's numbers are checked by what they break
        raise ValueError(f"diffusers cannot build the autoencoder of {source!r}: {first_line(error)}") from error
    misfits = Misfits(*(sorted(found[f"{kind}_keys"]) for kind in ("missing", "unexpected", "mismatched")))
    check_fit(source, misfits, vae.state_dict(), Parts())
    return FrameVae(vae.requires_grad_(False).eval())


def with_vae(config: FvlmConfig, vae: FrameVae, data: FvlmData) -> FvlmConfig:
    """Return a configuration whose latents have the shape that an autoencoder gives them.

    Raises:
        ValueError: frames of this size do not divide; or there are other samples than videos.
    """
    sources = [data.whole, *(() if data.mixture is None else (part.source for part in data.mixture.parts))]
    other = next((sample for source in sources for sample in source.samples if sample.kind != "video"), None)
    if other is not None:
        raise ValueError(
            f"{other.key} is no video but {other.kind}, and diffusers' latents are computed of videos alone: "
            "use --reconstruct.latents pixels"
        )
    shape = replace(config.reconstruct, channels=vae.channels, side=vae.side(data.views.size))
    return replace(config, reconstruct=shape)


def make_latents(clips: Clips, vae: FrameVae) -> dict[str, LatentStore]:
    """Compute the latents of the frames of all clips, or read those that are on the disk already. Return them by part.

    Args:
        clips: of the run.
        vae: what computes them; it is not needed behind this.

    Raises:
        UserError: the disk has no room for them.
    """
    session, config, data = clips.session, clips.config, clips.data
    world, shape = session.world, config.reconstruct
    precision = precision_name(autocast_dtype(config.run.precision, world.device))
    frozen = FrozenModule(
        vae, f"AutoencoderKL {config_hash(_plain(vae))}", weights_hash(vae), "mean",
        (data.views.frames, 1, 1), shape.channels * shape.side**2,
    )  # fmt: skip
    folder = cache_dir() / "frame-latents"
    sets = [
        FeatureSet("train", data.train, clips.draws),
        *(FeatureSet(name, getattr(data, name), clips.fixed_draws) for name in ("val", "test")),
    ]
    needed = sum(features_bytes(one.manifest(frozen, precision=precision, form="fp16")) for one in sets)
    free = shutil.disk_usage(existing(folder)).free
    if needed + _SPARE > free:
        raise UserError(
            f"the latents of all frames take {size(needed)}, and there are {size(free)} at {folder}: set FASTVID_CACHE "
            "to a folder on a larger disk, or use --reconstruct.latents pixels"
        )
    encoder, stores = FrozenEncoder(frozen, world.device, precision, 1), {}
    with progress(sum(len(one.source.samples) for one in sets), 0, "latents") as bar:
        for one in sets:
            stores[one.name] = make_features(
                encoder, one, FeatureStorage("disk", folder, "fp16"), threads=config.data.threads or most_threads(),
                quarantine=clips.quarantine, world=world, progress=bar.update, check=session.signals.check,
            )  # fmt: skip
    return stores


def _plain(vae: FrameVae) -> dict[str, Any]:
    return {key: value for key, value in dict(vae.vae.config).items() if not key.startswith("_")}
