"""Data sets and loaders: folders and tar shards of videos, global order, batches of uint8 clips, caches of teacher
latents, the demo data set."""

import importlib

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


def __getattr__(name: str):
    # Loaded on use: processes that only render or decode need no torch.
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.data' has no attribute {name!r}")
