"""The published loop and fastvid's recipe on the same videos and model."""

import copy
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from benchmarks.baselines.published_vjepa2 import FRAMES_BETWEEN, PublishedLoop
from benchmarks.harness.precision import exact_convolutions
from benchmarks.loading.loaders import encode, random_picture
from fastvid.data import EpochSampler, LoaderState, Quarantine, Source, TrainLoader, ViewDraws
from fastvid.data.demo.files import encode_h264
from fastvid.data.demo.render import DemoSpec, demo_frames
from fastvid.data.loader.decode_ahead import decode_ahead
from fastvid.data.sources.folder import FolderSource
from fastvid.data.splits.split import labels_of
from fastvid.data.worker_pool import most_threads
from fastvid.latents import LatentLoader, LatentStore
from fastvid.latents.compute import FrozenEncoder, TrainingDraws
from fastvid.latents.features import FeatureSet, FeatureStorage, make_features
from fastvid.nn.augment import Augment
from fastvid.projects.vjepa2.approach import Approach, apply_approach
from fastvid.projects.vjepa2.config import AugmentConfig
from fastvid.projects.vjepa2.features import frozen_part
from fastvid.projects.vjepa2.load import drawn_from, tiny_config
from fastvid.projects.vjepa2.loss import ClassifierLoss
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.distributed import World
from fastvid.train.engine import Engine
from fastvid.train.loader import Loader
from fastvid.train.optim import OptimConfig
from fastvid.train.precision import autocast_dtype, precision_name
from fastvid.train.stage import Stage
from fastvid.video import ViewSpec

CLASSES = ["a", "b", "c", "d"]
KINDS = ("320x256", "demo")
FRAMES = 16
_BATCH = 16  # of an update and of a forward pass of the frozen part, as in the recipe's presets


@dataclass(frozen=True)
class Shape:
    """A V-JEPA 2 classifier's, with random weights: a pooler of 4 layers follows the encoder, as in the checkpoints.

    Attributes:
        layers: of the encoder.
        width: width of a token, a multiple of 64.
        size: side of a frame, pixels.
    """

    layers: int
    width: int
    size: int


TINY = Shape(4, 64, 64)  # the recipe's tiny model


def write_videos(folder: Path, kind: str, videos: int, frames: int) -> FolderSource:
    """Write H.264 files, in a folder for each class.

    Args:
        folder: where to.
        kind: ``"demo"``, the demo data set's, of 64 x 64 pixels; ``"320x256"``, with a key frame in every 12.
        videos: how many.
        frames: number of frames of each.
    """
    picture, spec = random_picture(np.random.default_rng(0)), DemoSpec(frames=frames)

    def write(number: int) -> None:
        path = folder / CLASSES[number % len(CLASSES)] / f"{number:04d}.mp4"
        path.parent.mkdir(exist_ok=True)
        if kind == "demo":
            data = encode_h264(demo_frames(0, number, spec), spec.fps)
        else:
            data = encode(picture, "h264", number, frames, np.random.default_rng(number))
        path.write_bytes(data)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(videos)))
    return FolderSource(folder)


def make_model(shape: Shape, approach: Approach) -> VJepa2Classifier:
    """Make a classifier with the weights of seed 0."""
    config: Any = tiny_config(len(CLASSES))
    if shape != TINY:
        config = VJEPA2Config(
            crop_size=shape.size, frames_per_clip=FRAMES, hidden_size=shape.width, num_hidden_layers=shape.layers,
            num_attention_heads=shape.width // 64, pred_hidden_size=24, pred_num_hidden_layers=1,
            pred_num_attention_heads=2, pred_num_mask_tokens=1,
        )  # fmt: skip
        config.num_labels = len(CLASSES)
    with drawn_from(0):
        model = VJepa2Classifier(VJEPA2ForVideoClassification(config))
        apply_approach(model, approach)
    return model


def published(model: VJepa2Classifier, source: FolderSource, device: torch.device) -> PublishedLoop:
    """Make the published loop on a copy of the model."""
    ids = {name: i for i, name in enumerate(CLASSES)}
    files = [(source.root / sample.key, ids[sample.label or ""]) for sample in source.samples]
    hf = copy.deepcopy(model.model).to(device)
    return PublishedLoop(hf, files, FRAMES, model.hf.config.crop_size, device)


class _NeverStopped:
    """In the place of :class:`fastvid.train.signals.StopSignals`, which takes the process's signals."""

    signum = 0


class _NothingKept(Checkpoints):
    """Every stage starts anew, and writing its weights is no part of its time."""

    def __init__(self) -> None:
        super().__init__(Path("never-written"))

    def restore(self, *_: Any) -> None:
        return None

    def save(self, *_: Any, **__: Any) -> Path:
        return self.folder


class _Kept:
    """A loader that stays open from one call of the engine to the next: only a run's first epoch starts one."""

    def __init__(self, loader: TrainLoader):
        self._loader = loader
        self.description = loader.description

    @property
    def state(self) -> LoaderState:
        return self._loader.state

    @property
    def clips_shown(self) -> int:
        return self._loader.clips_shown

    def worker_bytes(self) -> int:
        return self._loader.worker_bytes()

    def __next__(self):
        return next(self._loader)

    def __iter__(self) -> Iterator:
        return self

    def __enter__(self) -> "_Kept":
        return self

    def __exit__(self, *exc) -> None:
        pass


class Recipe:
    """The work of ``python -m fastvid.train vjepa2`` in an epoch, made of the recipe's own parts.

    Args:
        model: trained in place.
        source: the videos.
        device: where the model is put.
        views: augmented views of each video.

    Attributes:
        store: the features of all views, once :meth:`make_features` has run.
    """

    def __init__(self, model: VJepa2Classifier, source: Source, device: torch.device, views: int):
        self.model, self.source, self.device = model.to(device), source, device
        autocast = autocast_dtype("auto", device)
        self.precision = precision_name(autocast)
        self.spec = ViewSpec(
            frames=FRAMES, size=model.hf.config.crop_size, sampling="stride", stride=FRAMES_BETWEEN, scale=(0.08, 1.0),
            ratio=(3 / 4, 4 / 3),
        )  # fmt: skip
        self.draws = TrainingDraws(self.spec, 0, views, frozenset(), Augment())
        self.store: LatentStore | None = None
        self.batch = min(_BATCH, len(source.samples))
        self.loss = ClassifierLoss(CLASSES, AugmentConfig(), Augment(), 0, pooled=not model.pooler_trains)
        self.engine = Engine(
            None, None, _NothingKept(), World(0, 1, device), cast(Any, _NeverStopped()), 0,
            autocast=autocast,
        )  # fmt: skip
        self._recomputing: TrainLoader | None = None

    def make_features(self) -> None:
        """Decode all views and run the frozen part on them."""
        self.store = make_features(
            FrozenEncoder(frozen_part(self.model), self.device, self.precision, _BATCH),
            FeatureSet("train", self.source, self.draws), FeatureStorage("memory", Path("."), "bf16"),
            threads=most_threads(), quarantine=Quarantine(), world=World(0, 1, self.device),
        )  # fmt: skip

    def first_epoch(self) -> None:
        """Make the features and train on them once."""
        self.make_features()
        self.later_epochs(1)

    def later_epochs(self, epochs: int = 1) -> None:
        """Train on existing features."""
        store = self.store
        assert store is not None
        self._train(
            epochs,
            lambda state: LatentLoader.from_store(
                store, labels_of(self.source), batch=self.batch, seed=0, state=state, device=self.device
            ),
        )

    def use_up_what_was_decoded(self) -> None:
        """Consume what was decoded before :meth:`recomputed_epoch`: its loader went on decoding during other sides'
        turns.
        """
        if self._recomputing is None:
            sampler = EpochSampler(self.source.shard_sizes, batch=self.batch, seed=0)
            self._recomputing = TrainLoader(self.source, ViewDraws(self.spec, 0), sampler, device=self.device)
        for _ in range(self._recomputing.prefetch):
            next(self._recomputing)

    def recomputed_epoch(self) -> None:
        """Train as with ``--features.keep none``: decode and run the frozen part on the way."""
        assert self._recomputing is not None
        kept = _Kept(self._recomputing)
        self._train(1, lambda state: cast(Loader, kept))

    def pieces(self) -> dict[str, float]:
        """Time the parts of :meth:`make_features`, one after the other."""
        rows = range(len(self.source.samples))
        began = time.perf_counter()
        stream = decode_ahead(self.source, rows, self.draws, group=_BATCH, threads=most_threads(), device=self.device)
        clips = [clip.pixels for clip in stream]
        between = time.perf_counter()
        pixels = [picture for views in clips for picture in views if picture is not None]
        FrozenEncoder(frozen_part(self.model), self.device, self.precision, _BATCH)(pixels).cpu()
        return {"decode": between - began, "frozen": time.perf_counter() - between}

    def close(self) -> None:
        """End the decoding process."""
        if self._recomputing is not None:
            self._recomputing.close()

    def _train(self, epochs: int, loader) -> None:
        steps = epochs * (len(self.source.samples) // self.batch)
        optim = OptimConfig(
            steps=steps, batch=self.batch, lr=2e-4, min_lr=2e-6, warmup=0, betas=(0.9, 0.999), weight_decay=0.01,
            weight_decay_end=0.01,
        )  # fmt: skip
        self.engine.train(Stage("finetune", self.model, self.loss, optim, loader))
        if self.device.type == "cuda":
            torch.cuda.synchronize()


@torch.no_grad()
def check_same(loop: PublishedLoop, recipe: Recipe) -> None:
    """Raise AssertionError unless both variants' models, not trained yet, give a clip the same scores to rounding."""
    size = recipe.spec.size
    generator = torch.Generator().manual_seed(0)
    clip = torch.randint(0, 256, (1, FRAMES, size, size, 3), dtype=torch.uint8, generator=generator)
    inputs = loop.processor(
        [clip[0].permute(0, 3, 1, 2)], do_resize=False, do_center_crop=False, return_tensors="pt"
    ).to(recipe.device)
    with exact_convolutions():
        theirs = loop.model.eval()(pixel_values_videos=inputs["pixel_values_videos"]).logits
        ours = recipe.model.eval()(clip.to(recipe.device))
    error, largest = float((ours - theirs).abs().max()), float(theirs.abs().max())
    assert error <= 1e-3 * largest, (
        f"the same weights give a clip scores that are {error:g} apart, of up to {largest:g}"
    )
