"""Data sets and loaders: folders and tar shards of videos, splits, a global order, batches of uint8 clips, the demo."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names

_HOMES = {
    "BadSamplePolicy": "bad_samples",
    "Batch": "loader.batch",
    "FrameCache": "loader.frame_cache",
    "LabelledSplits": "splits.split",
    "LoaderState": "loader.order",
    "Dataset": "shards.dataset_json",
    "Quarantine": "bad_samples",
    "Sample": "source",
    "ShardWriter": "shards.writer",
    "Source": "source",
    "StreamError": "storage.remote",
    "TooManyBadSamples": "bad_samples",
    "TrainLoader": "loader.loader",
    "classes_of": "source",
    "EpochOrder": "loader.order",
    "DecodeOptions": "loader.plan",
    "EpochSampler": "loader.sampler",
    "EvaluationDraws": "loader.views",
    "ViewDraws": "loader.views",
    "Latents": "loader.batch",
    "eval_batches": "loader.decode_ahead",
    "hold_out": "splits.probe",
    "join": "sources.concat",
    "mirror_changes": "loader.flips",
    "open_parts": "sources.open",
    "open_source": "sources.open",
    "relabel": "sources.relabel",
    "slow_filesystem_warning": "sources.filesystem",
    "split_by_key": "sources.subset",
    "split_labelled": "splits.split",
    "subset": "sources.subset",
    "ChatFormat": "text.chat",
    "FixedShares": "loader.mixture",
    "MixtureSampler": "loader.mixture",
    "PaddedDraws": "loader.padded_views",
    "PaddedEvaluation": "loader.padded_views",
    "TextChoice": "text.conversation",
    "TextCollator": "text.rows",
    "BatchMixtureSampler": "loader.batch_mixture",
    "BatchPart": "loader.batch_mixture",
    "BucketSampler": "loader.buckets",
    "FrameBuckets": "loader.buckets",
    "open_described": "sources.described",
    "by_kind": "sources.by_kind",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.data.bad_samples import BadSamplePolicy as BadSamplePolicy
    from fastvid.data.bad_samples import Quarantine as Quarantine
    from fastvid.data.bad_samples import TooManyBadSamples as TooManyBadSamples
    from fastvid.data.loader.batch import Batch as Batch
    from fastvid.data.loader.batch import Latents as Latents
    from fastvid.data.loader.batch_mixture import BatchMixtureSampler as BatchMixtureSampler
    from fastvid.data.loader.batch_mixture import BatchPart as BatchPart
    from fastvid.data.loader.buckets import BucketSampler as BucketSampler
    from fastvid.data.loader.buckets import FrameBuckets as FrameBuckets
    from fastvid.data.loader.decode_ahead import eval_batches as eval_batches
    from fastvid.data.loader.flips import mirror_changes as mirror_changes
    from fastvid.data.loader.frame_cache import FrameCache as FrameCache
    from fastvid.data.loader.loader import TrainLoader as TrainLoader
    from fastvid.data.loader.mixture import FixedShares as FixedShares
    from fastvid.data.loader.mixture import MixtureSampler as MixtureSampler
    from fastvid.data.loader.order import EpochOrder as EpochOrder
    from fastvid.data.loader.order import LoaderState as LoaderState
    from fastvid.data.loader.padded_views import PaddedDraws as PaddedDraws
    from fastvid.data.loader.padded_views import PaddedEvaluation as PaddedEvaluation
    from fastvid.data.loader.plan import DecodeOptions as DecodeOptions
    from fastvid.data.loader.sampler import EpochSampler as EpochSampler
    from fastvid.data.loader.views import EvaluationDraws as EvaluationDraws
    from fastvid.data.loader.views import ViewDraws as ViewDraws
    from fastvid.data.shards.dataset_json import Dataset as Dataset
    from fastvid.data.shards.writer import ShardWriter as ShardWriter
    from fastvid.data.source import Sample as Sample
    from fastvid.data.source import Source as Source
    from fastvid.data.source import classes_of as classes_of
    from fastvid.data.sources.by_kind import by_kind as by_kind
    from fastvid.data.sources.concat import join as join
    from fastvid.data.sources.described import open_described as open_described
    from fastvid.data.sources.filesystem import slow_filesystem_warning as slow_filesystem_warning
    from fastvid.data.sources.open import open_parts as open_parts
    from fastvid.data.sources.open import open_source as open_source
    from fastvid.data.sources.relabel import relabel as relabel
    from fastvid.data.sources.subset import split_by_key as split_by_key
    from fastvid.data.sources.subset import subset as subset
    from fastvid.data.splits.probe import hold_out as hold_out
    from fastvid.data.splits.split import LabelledSplits as LabelledSplits
    from fastvid.data.splits.split import split_labelled as split_labelled
    from fastvid.data.storage.remote import StreamError as StreamError
    from fastvid.data.text.chat import ChatFormat as ChatFormat
    from fastvid.data.text.conversation import TextChoice as TextChoice
    from fastvid.data.text.rows import TextCollator as TextCollator

__getattr__ = lazy_names(__name__, _HOMES)
