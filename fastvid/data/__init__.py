"""Data sets and loaders: folders and tar shards of videos, global order, batches of uint8 clips, caches of teacher
latents, the demo data set."""

import importlib
from typing import TYPE_CHECKING

_HOMES = {
    "BadSamplePolicy": "quarantine",
    "Batch": "batch_maker",
    "BatchInfo": "batch_maker",
    "FrameCache": "frame_cache",
    "EvalBatch": "evaluation",
    "FeatureBatch": "feature_loader",
    "FeatureLoader": "feature_loader",
    "LabelledSplits": "labelled",
    "LatentBatch": "latent_loader",
    "LatentCache": "latents",
    "LatentLoader": "latent_loader",
    "LatentManifest": "latent_manifest",
    "LatentStore": "feature_loader",
    "LatentWindow": "latent_window",
    "MemoryLatents": "memory_latents",
    "Latents": "latent_file",
    "LoaderState": "order",
    "Dataset": "dataset_file",
    "Quarantine": "quarantine",
    "Sample": "source",
    "ShardWriter": "shard_writer",
    "Source": "source",
    "StreamError": "remote",
    "TooManyBadSamples": "quarantine",
    "TrainLoader": "loader",
    "WindowBatch": "window_loader",
    "WindowLoader": "window_loader",
    "classes_of": "source",
    "EpochOrder": "order",
    "eval_batches": "evaluation",
    "hold_out": "probe_split",
    "join": "joined",
    "mirror_changes": "mirroring",
    "open_parts": "joined",
    "open_source": "source",
    "relabel": "relabelled",
    "slow_filesystem_warning": "filesystem",
    "split_by_key": "source",
    "split_labelled": "labelled",
    "subset": "source",
    "training_view": "mirroring",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.data.batch_maker import Batch as Batch
    from fastvid.data.batch_maker import BatchInfo as BatchInfo
    from fastvid.data.dataset_file import Dataset as Dataset
    from fastvid.data.evaluation import EvalBatch as EvalBatch
    from fastvid.data.evaluation import eval_batches as eval_batches
    from fastvid.data.feature_loader import FeatureBatch as FeatureBatch
    from fastvid.data.feature_loader import FeatureLoader as FeatureLoader
    from fastvid.data.feature_loader import LatentStore as LatentStore
    from fastvid.data.filesystem import slow_filesystem_warning as slow_filesystem_warning
    from fastvid.data.frame_cache import FrameCache as FrameCache
    from fastvid.data.joined import join as join
    from fastvid.data.joined import open_parts as open_parts
    from fastvid.data.labelled import LabelledSplits as LabelledSplits
    from fastvid.data.labelled import split_labelled as split_labelled
    from fastvid.data.latent_file import Latents as Latents
    from fastvid.data.latent_loader import LatentBatch as LatentBatch
    from fastvid.data.latent_loader import LatentLoader as LatentLoader
    from fastvid.data.latent_manifest import LatentManifest as LatentManifest
    from fastvid.data.latent_window import LatentWindow as LatentWindow
    from fastvid.data.latents import LatentCache as LatentCache
    from fastvid.data.loader import TrainLoader as TrainLoader
    from fastvid.data.memory_latents import MemoryLatents as MemoryLatents
    from fastvid.data.mirroring import mirror_changes as mirror_changes
    from fastvid.data.mirroring import training_view as training_view
    from fastvid.data.order import EpochOrder as EpochOrder
    from fastvid.data.order import LoaderState as LoaderState
    from fastvid.data.probe_split import hold_out as hold_out
    from fastvid.data.quarantine import BadSamplePolicy as BadSamplePolicy
    from fastvid.data.quarantine import Quarantine as Quarantine
    from fastvid.data.quarantine import TooManyBadSamples as TooManyBadSamples
    from fastvid.data.relabelled import relabel as relabel
    from fastvid.data.remote import StreamError as StreamError
    from fastvid.data.shard_writer import ShardWriter as ShardWriter
    from fastvid.data.source import Sample as Sample
    from fastvid.data.source import Source as Source
    from fastvid.data.source import classes_of as classes_of
    from fastvid.data.source import open_source as open_source
    from fastvid.data.source import split_by_key as split_by_key
    from fastvid.data.source import subset as subset
    from fastvid.data.window_loader import WindowBatch as WindowBatch
    from fastvid.data.window_loader import WindowLoader as WindowLoader


def __getattr__(name: str):
    # Loaded on use: processes that only render or decode need no torch.
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.data' has no attribute {name!r}")
