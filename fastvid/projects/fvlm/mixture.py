"""The training data of a run beside and within its main collection: kinds of samples, further collections, shares."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

from fastvid.command import UserError
from fastvid.data import (
    BatchMixtureSampler,
    BatchPart,
    BucketSampler,
    EpochSampler,
    FrameBuckets,
    LoaderState,
    Source,
    by_kind,
    join,
    open_described,
)
from fastvid.data.source import KINDS, Kind, kinds_of
from fastvid.projects.fvlm.config import TextDataConfig
from fastvid.projects.fvlm.stored import some_of
from fastvid.train.data import open_videos
from fastvid.train.distributed import World
from fastvid.video.decoders import GPU_DECODERS

_MOST = 64  # images or texts of a batch, where the budget of frames would hold more


@dataclass(frozen=True)
class KindPart:
    """Training samples of one collection that are of one kind.

    Attributes:
        name: of the collection.
        kind: of its samples.
        source: these samples and no others.
        share: of the batches.
    """

    name: str
    kind: Kind
    source: Source
    share: float


@dataclass(frozen=True)
class TrainMixture:
    """All training samples, where they are not videos of one collection.

    Attributes:
        source: the samples, part after part.
        parts: in the order of ``source``.
        further: the collections beside the main one, by name.
    """

    source: Source
    parts: Sequence[KindPart]
    further: dict[str, Source]


def train_mixture(config: TextDataConfig, train: Source) -> TrainMixture | None:
    """Open the further collections of a run and put its training samples together; None where these are videos of the
    main collection alone.

    Args:
        config: names the collections and their shares.
        train: training samples of the main collection.

    Raises:
        UserError: a share that is none, shares of more than 1 in all, or nothing in a collection.
    """
    shares = [_share(written) for written in config.mix]
    rest = 1 - sum(share for _, share in shares)
    if rest < -1e-6:
        raise UserError(f"data.mix: the shares are {1 - rest:g} in all; of --data.path at least 0 must be left of 1")
    names = [f"{number}-{PurePath(path).name}" for number, (path, _) in enumerate(shares, 2)]
    further = {
        name: open_videos(replace(config, path=path, labels=None, mix=()), open_described)
        for name, (path, _) in zip(names, shares, strict=True)
    }
    if not further and (kinds_of(train) == KINDS.index("video")).all():
        return None
    collections = {f"1-{PurePath(config.path).name}": (train, rest)} if rest > 1e-6 and len(train.samples) else {}
    collections |= {name: (further[name], share) for name, (_, share) in zip(names, shares, strict=True)}
    sources: dict[str, Source] = {}
    parts: list[KindPart] = []
    for name, (source, share) in collections.items():
        sources[name], kinds = by_kind(source)
        # Each sample of a collection equally often: as many batches as a kind's samples fill.
        batches = {kind: len(part.samples) / _typical_clips(config, kind, part) for kind, part in kinds.items()}
        whole = sum(batches.values())
        parts += [KindPart(name, kind, part, share * batches[kind] / whole) for kind, part in kinds.items()]
    return TrainMixture(join(sources), parts, further)


def mixture_sampler(
    config: TextDataConfig, parts: Sequence[KindPart], batch: int, seed: int, world: World, start: LoaderState
) -> BatchMixtureSampler:
    """Return the order of the training samples of several kinds or collections.

    Args:
        config: lengths, budget, looks, window.
        parts: the samples.
        batch: samples of a global batch, where there are no lengths.
        seed: of the orders.
        world: the processes that share each batch.
        start: where to begin.
    """
    made = []
    for number, part in enumerate(parts):
        own = (seed + (number << 40)) % 2**63
        frames = {"video": config.frames, "image": 1, "text": 0}[part.kind]
        sampler: EpochSampler
        if part.kind == "video" and config.lengths:
            sampler = BucketSampler(
                part.source, frame_buckets(config), seed=own, window=config.window, rank=world.rank, world=world.size
            )
        else:
            sampler = EpochSampler(
                part.source.shard_sizes, batch=_clips(config, part.kind, batch, world.size), seed=own,
                window=config.window, rank=world.rank, world=world.size,
            )  # fmt: skip
        made.append(BatchPart(sampler, part.share, frames))
    return BatchMixtureSampler(made, seed=seed, start=start)


def frame_buckets(config: TextDataConfig) -> FrameBuckets:
    """Return the lengths of clips that batches are made of, for a configuration with lengths."""
    assert config.used_fps is not None
    return FrameBuckets(config.lengths, config.used_fps, config.budget)


def check_decoder(decoder: str, parts: Sequence[KindPart]) -> None:
    """Check that a decoder reads all kinds of samples.

    Raises:
        UserError: it is one that reads videos alone.
    """
    other = sorted({part.kind for part in parts} - {"video"})
    if other and decoder in GPU_DECODERS:
        raise UserError(f"--data.decode {decoder} reads videos alone, and the data holds {' and '.join(other)} samples")


def _share(written: str) -> tuple[str, float]:
    path, _, number = written.rpartition("=")
    try:
        share = float(number)
    except ValueError:
        share = 0.0
    if not path or not 0 < share <= 1:
        raise UserError(f"--data.mix {written}: PATH=SHARE is expected, with a share above 0 and at most 1")
    return path, share


def _typical_clips(config: TextDataConfig, kind: Kind, part: Source) -> float:
    """Return the samples of a global batch of a kind, of videos with lengths on average; in units of those without."""
    if not config.lengths:
        return 1.0
    if kind != "video":
        return float(_clips(config, kind, 0, 1))
    buckets = frame_buckets(config)
    lengths = [config.lengths[int(buckets.of(part, index, 1)[0])] for index in some_of(part)]
    return float(config.budget * len(lengths) / sum(lengths))


def _clips(config: TextDataConfig, kind: Kind, batch: int, world: int) -> int:
    """Return the samples of a global batch of a kind. With lengths, an image counts as many frames as it has looks, and
    a text or a video that nothing is known of as many as the shortest clip.
    """
    if not config.lengths:
        return batch
    clips = min(_MOST, config.budget // (config.image_looks if kind == "image" else config.lengths[0]))
    return max(world, clips // world * world)
