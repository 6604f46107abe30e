"""A training loader from one list of options, as most tests want it."""

from dataclasses import fields
from typing import Any

from fastvid.data import DecodeOptions, EpochSampler, Source, TrainLoader, ViewDraws
from fastvid.video import ViewSpec

_DECODING = {f.name for f in fields(DecodeOptions)}
_LOADER = {"quarantine", "device"}


def train_loader(source: Source, spec: ViewSpec, *, batch: int = 4, seed: int = 0, **options: Any) -> TrainLoader:
    """Options are those of EpochSampler, DecodeOptions and TrainLoader; ``view_seed``, ``views`` and ``no_flip`` are
    those of ViewDraws.
    """
    views = {"count": options.pop("views")} if "views" in options else {}
    no_flip = frozenset(options.pop("no_flip", ()))
    draws = ViewDraws(spec, options.pop("view_seed", seed), no_flip=no_flip, **views)
    decoding = DecodeOptions(**{name: options.pop(name) for name in _DECODING & options.keys()})
    loader = {name: options.pop(name) for name in _LOADER & options.keys()}
    sampler = EpochSampler(source.shard_sizes, batch=batch, seed=seed, **options)
    return TrainLoader(source, draws, sampler, options=decoding, **loader)
