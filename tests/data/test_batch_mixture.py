"""Mixtures of batches of one kind each: shares, order, resume, processes, and sources sorted by kind."""

import os
import pickle
import signal

import numpy as np
import pytest

from fastvid.data import (
    BatchMixtureSampler,
    BatchPart,
    BucketSampler,
    DecodeOptions,
    EpochSampler,
    FrameBuckets,
    LoaderState,
    PaddedDraws,
    TextCollator,
    TrainLoader,
    by_kind,
    join,
    open_described,
)  # fmt: skip
from fastvid.data.source import KINDS, kinds_of
from fastvid.video import ViewSpec
from tests.data.talks import CHAT, same
from tests.data.test_kinds import ASK, picture, write_tar

SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)


def write_shards(folder, videos, images, texts, shards=2):
    """Write samples of all kinds, dealt to some shards; the n-th video has 1 + n % 4 pictures more than one."""
    members = [{} for _ in range(shards)]
    for number in range(videos):
        frames = 2 + number % 4
        into = members[number % shards]
        into |= {f"v{number}.{frame:03d}.png": picture(frame) for frame in range(frames)}
        into[f"v{number}.json"] = {**ASK, "frame_count": frames}
    for number in range(images):
        members[number % shards] |= {f"i{number}.png": picture(number), f"i{number}.json": ASK}
    for number in range(texts):
        members[number % shards][f"t{number}.json"] = ASK
    for number, content in enumerate(members):
        write_tar(folder / f"s-{number:06d}.tar", content)
    return open_described(folder)


def mixture(parts, start=None, rank=0, world=1, buckets=None, shares=(0.5, 0.3, 0.2)):
    """Return a sampler of videos, images and texts in these shares."""
    made = []
    for (kind, part), share in zip(parts.items(), shares, strict=True):
        batch = {"video": 4, "image": 6, "text": 2}[kind]
        sampler = EpochSampler(part.shard_sizes, batch=batch, seed=1, window=1, rank=rank, world=world)
        if kind == "video" and buckets is not None:
            sampler = BucketSampler(part, buckets, seed=1, window=1, rank=rank, world=world)
        made.append(BatchPart(sampler, share, {"video": 4, "image": 1, "text": 0}[kind]))
    return BatchMixtureSampler(made, seed=3, start=start)


def loader(source, sampler, threads=2):
    draws = PaddedDraws(SPEC, 0, fps=1.0)
    return TrainLoader(source, draws, sampler, options=DecodeOptions(threads=threads), text=TextCollator(CHAT, looks=3))


def take(source, sampler, count, **options):
    with loader(source, sampler, **options) as batches:
        return [(next(batches), batches.state) for _ in range(count)]


@pytest.fixture
def mixed(tmp_path):
    return by_kind(write_shards(tmp_path, 8, 7, 5))


def test_a_source_is_sorted_by_kind_and_each_kind_keeps_its_shards(tmp_path):
    whole = write_shards(tmp_path, 3, 2, 1)
    source, parts = by_kind(whole)
    kinds = [sample.kind for sample in source.samples]
    assert kinds == ["video"] * 3 + ["image"] * 2 + ["text"]
    assert source.shard_sizes == [2, 1, 1, 1, 1, 0]
    for one in (whole, source, *parts.values(), join({"a": source, "b": whole})):
        assert [KINDS[kind] for kind in kinds_of(one)] == [sample.kind for sample in one.samples]
    assert [part.shard_sizes for part in parts.values()] == [[2, 1], [1, 1], [1, 0]]
    assert [s.key for part in parts.values() for s in part.samples] == [s.key for s in source.samples]
    rows = {sample.key: row for row, sample in enumerate(whole.samples)}
    for index, sample in enumerate(source.samples):
        assert source.read(index) == whole.read(rows[sample.key])
        assert source.fields(index) == whole.fields(rows[sample.key])
        assert source.size(index) == whole.size(rows[sample.key])
    assert source.inventory() == whole.inventory()
    asked = []
    whole.prefetch = lambda *shards: asked.append(shards)
    source.prefetch([0, 3], [1, 5])
    assert asked == [([0, 1], [])]
    assert by_kind(parts["text"])[0] is parts["text"]


def test_batches_are_of_one_kind_in_their_shares_and_each_part_is_gone_through_whole(mixed):
    source, parts = mixed
    sampler = mixture(parts)
    made = take(source, sampler, 20)
    found: dict[str, list[str]] = {"v": [], "i": [], "t": []}
    for batch, _ in made:
        (kind,) = {key.split("/")[1][0] for key in batch.keys}
        found[kind] += batch.keys
        shape = {"v": (4, 4), "i": (6, 1), "t": (2, 0)}[kind]
        assert tuple(batch.clips.shape[:2]) == shape
        assert batch.extra["frames"].shape[1] == {"v": 4, "i": 3, "t": 0}[kind]
        assert kind == "v" or batch.extra["frames"].all()
        assert batch.extra["questions"].all()
    batches = [len(found[kind]) // size for kind, size in (("v", 4), ("i", 6), ("t", 2))]
    assert np.abs(np.subtract(batches, [10, 6, 4])).max() <= 1
    for kind, count in (("v", 8), ("i", 7), ("t", 5)):
        keys = found[kind]
        assert all(len(set(keys[at : at + count])) == count for at in range(0, len(keys) - count, count))
    shown = sampler.part_coverage(made[-1][1])
    assert [part.clips for part in shown] == [len(keys) for keys in found.values()]
    assert sampler.coverage(made[-1][1]).clips == sum(len(keys) for keys in found.values())


@pytest.mark.parametrize("shares", [(0.86, 0.14), (0.5, 0.3, 0.2), (1, 1), (0.97, 0.02, 0.01)])
def test_any_run_of_batches_has_its_shares(shares):
    parts = [BatchPart(EpochSampler([3], batch=1, seed=0), share, 1) for share in shares]
    drawn = BatchMixtureSampler(parts, seed=7).drawn(np.arange(20_000))
    of = np.cumsum(drawn[:, None] == np.arange(len(shares)), 0)
    wanted = np.array(shares) / sum(shares)
    for length in (10, 100, 5000):
        runs = of[length:] - of[:-length]
        assert np.abs(runs - length * wanted).max() < 4
    other = BatchMixtureSampler(parts, seed=8).drawn(np.arange(100))
    assert not np.array_equal(other, drawn[:100])


@pytest.mark.parametrize("with_buckets", [False, True])
def test_resume_is_exact_whatever_threads_and_with_lengths(mixed, with_buckets):
    source, parts = mixed
    buckets = FrameBuckets((2, 4), fps=1.0, budget=8) if with_buckets else None
    through = take(source, mixture(parts, buckets=buckets), 16)
    assert through[-1][1].epoch >= 1
    for at in (1, 5, 11):
        start = LoaderState(**pickle.loads(pickle.dumps(vars(through[at - 1][1]))))
        resumed = take(source, mixture(parts, start, buckets=buckets), 16 - at, threads=1)
        assert all(same(a, b) for (a, _), (b, _) in zip(through[at:], resumed, strict=True))
        assert [state for _, state in through[at:]] == [state for _, state in resumed]


def test_a_decoding_process_that_is_killed_changes_nothing(mixed):
    source, parts = mixed
    through = take(source, mixture(parts), 12)
    with loader(source, mixture(parts)) as batches:
        again = [next(batches) for _ in range(3)]
        os.kill(batches._prefetcher.process.pid, signal.SIGKILL)
        again += [next(batches) for _ in range(9)]
    assert all(same(a, b) for (a, _), b in zip(through, again, strict=True))


def test_processes_share_each_batch_and_have_the_same_kind(mixed):
    source, parts = mixed
    whole = take(source, mixture(parts), 8)
    ranks = [take(source, mixture(parts, rank=rank, world=2), 8) for rank in (0, 1)]
    for (batch, state), *halves in zip(whole, *ranks, strict=True):
        assert [half.keys for half, _ in halves] == [batch.keys[0::2], batch.keys[1::2]]
        assert [after for _, after in halves] == [state, state]


def test_parts_of_several_collections_are_joined(tmp_path):
    first, second = write_shards(tmp_path / "a", 3, 2, 0), write_shards(tmp_path / "b", 0, 0, 4)
    a, parts = by_kind(first)
    source = join({"a": a, "b": second})
    made = [BatchPart(EpochSampler(parts["video"].shard_sizes, batch=2, seed=0), 0.4, 4)]
    made += [BatchPart(EpochSampler(parts["image"].shard_sizes, batch=2, seed=0), 0.2, 1)]
    made += [BatchPart(EpochSampler(second.shard_sizes, batch=2, seed=0), 0.4, 0)]
    batches = take(source, BatchMixtureSampler(made, seed=0), 10)
    assert {(key[0], key.split("/")[2][0]) for batch, _ in batches for key in batch.keys} == {
        ("a", "v"), ("a", "i"), ("b", "t"),
    }  # fmt: skip


def test_places_of_other_mixtures_are_refused(mixed):
    _, parts = mixed
    for start in (LoaderState(0, 4), LoaderState(0, 4, ((0, 1), (0, 2)))):
        with pytest.raises(ValueError, match="resume with the collections of before"):
            mixture(parts, start)
    with pytest.raises(ValueError, match="resume with the collections of before"):
        EpochSampler([4], batch=2, seed=0, start=LoaderState(0, 2, ((0, 2),)))
    with pytest.raises(ValueError, match="shares of batches must be positive"):
        mixture(parts, shares=(1.0, 0.0, 0.5))


def test_a_state_from_a_file_is_the_same():
    assert LoaderState(0, 3, [[0, 1], [2, 0]]) == LoaderState(0, 3, ((0, 1), (2, 0)))
