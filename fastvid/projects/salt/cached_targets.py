"""A SALT student that is taught by a latent cache: what must agree, and what is read from it."""

import logging

import torch

from fastvid.data import Batch, DecodeOptions, EpochSampler, Latents, Quarantine, TrainLoader, ViewDraws
from fastvid.data.inventory import with_named_videos
from fastvid.latents import LatentCache, LatentLoader
from fastvid.latents.manifest import dataset_hash, differences
from fastvid.models.block_numbers import name_blocks
from fastvid.models.fingerprint import teacher_fingerprint
from fastvid.models.teachers import Teacher
from fastvid.models.vit import VideoViT
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.data import SaltData
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.targets import Examples, MakeLoader, Selected, select_latents
from fastvid.projects.salt.token_subset import TokenSubset

log = logging.getLogger(__name__)


class CachedTargets:
    """Latents from a cache, as they are stored.

    Args:
        cache: opened by :func:`open_latents`.
        seed: seed of the run.
        device: of the run.
    """

    def __init__(self, cache: LatentCache, seed: int, device: torch.device):
        self.cache, self._seed, self._device = cache, seed, device
        # The cache has latents of its own views only.
        self._draws = ViewDraws(cache.views, cache.manifest.view_seed, cache.manifest.views_per_clip)

    @property
    def dim(self) -> int:
        return self.cache.manifest.dim

    @property
    def layers(self) -> int:
        return self.cache.manifest.layers

    def batches(self, make_loader: MakeLoader) -> LatentLoader:
        return LatentLoader(make_loader(draws=self._draws), self.cache, self._device)

    def prepare(self, batch: Batch) -> Latents:
        assert batch.latents is not None, "the batch comes without latents"
        return batch.latents

    def select(self, prepared: Latents, masked: torch.Tensor) -> Selected:
        return select_latents(prepared, masked, self.layers)

    def examples(self, data: SaltData, clips: int, quarantine: Quarantine) -> Examples:
        sampler = EpochSampler(data.train.shard_sizes, batch=min(clips, len(data.train.samples)), seed=self._seed)
        options = DecodeOptions(threads=1, prefetch=1)
        loader = TrainLoader(data.train, self._draws, sampler, options=options, quarantine=quarantine)
        with LatentLoader(loader, self.cache) as batches:
            batch = next(batches)
        assert batch.clips is not None
        return Examples(batch.clips, batch.ids, batch.latents)


def open_latents(config: SaltConfig, data: SaltData, student: VideoViT, teacher: Teacher | None) -> LatentCache:
    """Open the cache that a configuration names, after a check that it fits this run.

    Args:
        config: names it in ``latents``.
        data: the run's videos.
        student: whose token grid must be the cache's.
        teacher: the one that the configuration names, None where it names none: then the cache says who taught.

    Raises:
        ValueError: it was made for other videos, views, tokens or another teacher; the message lists what differs. Or
            it is incomplete or damaged.
        FileNotFoundError: there is no cache.
    """
    assert config.latents is not None
    cache = LatentCache(config.latents)
    m = cache.manifest
    wanted = {
        "dataset": dataset_hash(data.path, data.whole),
        "views": data.views.fingerprint,
        "grid": student.grid,
        "layer": name_blocks(config.teacher.layers),
        **({} if teacher is None else teacher_fingerprint(teacher)),
    }
    lines = with_named_videos(differences(m.dependencies, wanted, "this run"), cache.folder, data.whole)
    if lines:
        raise ValueError(
            f"--latents {config.latents}: this cache was made for something else:\n  "
            + "\n  ".join(lines)
            + "\ngive the run the options that the cache was made with, or make a cache for this run"
        )
    if m.is_subset and config.predictor.layout == "dense":
        raise ValueError(
            "--predictor.layout dense cannot predict a token twice, which a cache of some tokens asks for now and "
            "then: use concat or cross"
        )
    log.info(
        "latents: %d clips x %d views, %s%s, %d tokens of %d elements, by %s; views are drawn with the cache's seed %d",
        len(cache), m.views_per_clip, m.form, "" if m.projection == "none" else f", {m.projection}", m.tokens, m.dim,
        m.notes.get("teacher_source", m.teacher), m.view_seed,
    )  # fmt: skip
    return cache


def token_subset(cache: LatentCache, masks: MaskSampler, most: int | None, seed: int) -> TokenSubset | None:
    """Return a :class:`TokenSubset` where the cache holds only some tokens, or None where it holds all.

    Raises:
        ValueError: it holds too few.
    """
    m = cache.manifest
    return TokenSubset(masks.counts, m.grid_tokens, m.tokens, most, seed) if m.is_subset else None
