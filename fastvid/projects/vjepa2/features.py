"""Features of a V-JEPA 2 run: which views of which videos the frozen parts see, and where features are kept."""

import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import torch
from torch import nn

from fastvid.data import Quarantine
from fastvid.data.worker_pool import most_threads
from fastvid.files import cache_dir
from fastvid.latents import LatentStore
from fastvid.latents.compute import FrozenEncoder, FrozenModule
from fastvid.latents.features import FeatureSet, FeatureStorage, Where, choose_place, features_bytes, make_features
from fastvid.models.fingerprint import config_hash, tensors_hash
from fastvid.projects.vjepa2.config import VJepa2Config
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.train.distributed import broadcast_text
from fastvid.train.logs import progress
from fastvid.train.session import Session

log = logging.getLogger(__name__)

# Of a transformers configuration: what features do not depend on.
_NOT_THE_ENCODER = (
    "_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "id2label", "label2id",
    "problem_type",
)  # fmt: skip


class _FrozenPart(nn.Module):
    """The frozen part of a classifier as a module of its own."""

    def __init__(self, model: VJepa2Classifier):
        super().__init__()
        self.model = model

    def forward(self, clip: torch.Tensor) -> torch.Tensor:
        return self.model.frozen_features(clip)


def frozen_part(model: VJepa2Classifier) -> FrozenModule:
    """Return the module that computes features: the encoder, and the pooler where that is frozen too. Its weights
    are hashed once.
    """
    pooled = not model.pooler_trains
    config = {k: v for k, v in model.hf.config.to_dict().items() if k not in _NOT_THE_ENCODER}
    config |= {"mean": model.mean, "std": model.std}
    return FrozenModule(
        _FrozenPart(model),
        kind=f"vjepa2 {config_hash(config)}",
        weights=_weights(model),
        layer="pooler" if pooled else "encoder",
        grid=(1, 1, 1) if pooled else model.grid,
        dim=model.dim,
    )


def _weights(model: VJepa2Classifier) -> str:
    parts = {"encoder": model.hf.vjepa2.encoder} | ({} if model.pooler_trains else {"pooler": model.hf.pooler})
    return tensors_hash({f"{name}.{n}": p for name, part in parts.items() for n, p in part.named_parameters()})


def make_stores(
    session: Session,
    config: VJepa2Config,
    frozen: FrozenModule,
    sets: Sequence[FeatureSet],
    precision: str,
    quarantine: Quarantine,
) -> dict[str, LatentStore]:
    """Compute features, or read those that are on the disk already.

    Args:
        session: of the run.
        config: configuration of the run.
        frozen: the module that computes them.
        sets: which videos and views.
        precision: precision of the arithmetic.
        quarantine: where videos that do not decode go.

    Returns:
        The features of each set by its name; nothing where there is no room for them.
    """
    place, folder = _place(session, config, frozen, sets, precision)
    if place == "none":
        return {}
    world, stores = session.world, {}
    encoder = FrozenEncoder(frozen, world.device, precision, config.features.batch)
    storage = FeatureStorage(place, folder, config.features.form)
    started = time.perf_counter()
    with progress(sum(len(one.source.samples) for one in sets), 0, "features") as bar:
        for one in sets:
            stores[one.name] = make_features(
                encoder, one, storage, threads=config.data.threads or most_threads(), quarantine=quarantine,
                world=world, progress=bar.update, check=session.signals.check,
            )  # fmt: skip
    run = session.run
    if run is not None and "features" not in run.metadata():  # those of the start that made them
        run.record(features={"place": place, "seconds": time.perf_counter() - started})
    return stores


def _place(
    session: Session, config: VJepa2Config, frozen: FrozenModule, sets: Sequence[FeatureSet], precision: str
) -> tuple[Where, Path]:
    """Choose where features are kept: once, by the main process. A resumed run keeps the choice."""
    f, run = config.features, session.run
    folder = Path(f.dir).expanduser() if f.dir is not None else cache_dir() / "features"
    if f.keep != "auto":
        return f.keep, folder
    if f.dir is not None:
        return "disk", folder
    place = None if run is None else run.metadata().get("features_place")
    if run is not None and place is None:
        needed = sum(features_bytes(one.manifest(frozen, precision=precision, form=f.form)) for one in sets)
        # Several processes each make a share and read all of it.
        memory = int(f.ram_gb * 1e9) if session.world.size == 1 else 0
        place, why = choose_place(needed, memory=memory, disk=int(f.disk_gb * 1e9), folder=folder)
        log.info("%s", why)
        run.record(features_place=place)
    return cast(Where, broadcast_text(session.world, place)), folder
