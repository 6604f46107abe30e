"""A SALT student that is taught by a latent cache: what must agree, and what is read from it."""

import logging

from fastvid.data import LatentCache, LatentLoader, Quarantine, TrainLoader
from fastvid.data.latent_manifest import dataset_hash, differences, view_facts
from fastvid.models.identity import teacher_identity
from fastvid.models.teachers import Teacher
from fastvid.models.vit import VideoViT
from fastvid.train.salt_config import SaltConfig
from fastvid.train.salt_data import SaltData
from fastvid.train.salt_health import HealthBatch
from fastvid.train.salt_masks import MaskSampler
from fastvid.train.salt_subset import TokenSubset

log = logging.getLogger(__name__)


def open_latents(config: SaltConfig, data: SaltData, student: VideoViT, teacher: Teacher | None) -> LatentCache:
    """Opens the cache a configuration names, if it was made for this run.

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
        "views": view_facts(data.views),
        "grid": student.grid,
        **({} if teacher is None else teacher_identity(teacher)),
    }
    lines = differences(m.facts, wanted, "this run")
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
    """What picks the predicted tokens where the cache holds only some; None where it holds all.

    Raises:
        ValueError: it holds too few.
    """
    m = cache.manifest
    return TokenSubset(masks.counts, m.grid_tokens, m.tokens, most, seed) if m.is_subset else None


def cached_clips(cache: LatentCache, data: SaltData, clips: int, seed: int, quarantine: Quarantine) -> HealthBatch:
    """First views of the first training clips in order, their sample ids and latents."""
    m = cache.manifest
    loader = TrainLoader(
        data.train, data.views, batch=min(clips, len(data.train.samples)), seed=seed, prefetch=1, threads=1,
        quarantine=quarantine, view_seed=m.view_seed, views=m.views_per_clip,
    )  # fmt: skip
    with LatentLoader(loader, cache) as batches:
        batch = next(batches)
    return batch.clips, batch.ids, batch.latents
