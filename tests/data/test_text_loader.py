"""The loader of videos with conversations: order, mixtures, buckets by length, resume, and faults of samples."""

import json

import numpy as np
import pytest
import torch

from fastvid.data import (
    BadSamplePolicy,
    EpochSampler,
    FixedShares,
    LoaderState,
    MixtureSampler,
    PaddedEvaluation,
    Quarantine,
    ShardWriter,
    TextCollator,
    eval_batches,
    join,
    open_source,
)  # fmt: skip
from fastvid.data.loader.buckets import BucketSampler, FrameBuckets
from fastvid.data.shards.dataset_json import save_dataset
from fastvid.video import ViewSpec, decode
from tests.data.talks import CHAT, SPEC, VIDEO, numbers_of, same, take, talk, talk_loader, write_talks
from tests.video.clips import encode


def test_a_batch_has_the_conversations_of_its_samples(tmp_path):
    source = write_talks(tmp_path)
    ((batch, _),) = take(source, EpochSampler(source.shard_sizes, batch=4, seed=3), 1)
    assert batch.extra["frames"].all()
    for clip, number in enumerate(numbers_of(batch)):
        asked = [c.turns[0].question for c in batch.text[clip].conversations]
        assert len(set(asked)) == 2
        answers = [c.turns[0].answer for c in batch.text[clip].conversations]
        assert answers == [f"{number} {question.split()[1]}" for question in asked]
        for s, answer in enumerate(answers):
            labels = batch.extra["labels"][clip, s]
            assert CHAT.tokenizer.decode(labels[labels >= 0]) == f"{answer} <|end|>"


def test_resume_is_exact_and_threads_and_ranks_change_nothing(tmp_path):
    source = write_talks(tmp_path)
    through = take(source, EpochSampler(source.shard_sizes, batch=4, seed=3, window=2), 8)
    start = through[4][1]
    resumed = take(source, EpochSampler(source.shard_sizes, batch=4, seed=3, window=2, start=start), 3, threads=3)
    assert all(same(a, b) for (a, _), (b, _) in zip(through[5:], resumed, strict=True))
    ranks = [
        take(source, EpochSampler(source.shard_sizes, batch=4, seed=3, window=2, rank=r, world=2), 2) for r in (0, 1)
    ]
    for whole, *parts in zip(through[:2], *ranks, strict=True):
        for rank, (part, _) in enumerate(parts):
            assert part.keys == whole[0].keys[rank::2]
            assert part.extra["before"].tolist() == whole[0].extra["before"][rank::2].tolist()


def test_another_epoch_asks_other_questions(tmp_path):
    source = write_talks(tmp_path, count=4)
    made = take(source, EpochSampler(source.shard_sizes, batch=4, seed=0), 3)
    asked = [
        {n: tuple(c.turns[0].question for c in batch.text[i].conversations) for i, n in enumerate(numbers_of(batch))}
        for batch, _ in made
    ]
    assert asked[0] != asked[1] != asked[2]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["epoch", "buckets", "mixture"])
def test_every_sample_of_every_shard_is_read_once_an_epoch(tmp_path, world, threads, kind):
    """Splitting shards among workers a second time, after splitting them among ranks, reads only a part of them; and
    without the first split all ranks read the same."""
    source = write_talks(tmp_path, count=18)
    buckets = FrameBuckets((2, 4), fps=100.0, budget=24)

    def sampler(rank):
        ranks = {"seed": 1, "window": 2, "rank": rank, "world": world}
        if kind == "buckets":
            return BucketSampler(source, buckets, **ranks)
        if kind == "mixture":
            return MixtureSampler([source.shard_sizes], FixedShares((1.0,)), batch=6, **ranks)
        return EpochSampler(source.shard_sizes, batch=6, **ranks)

    for epoch in (0, 1):
        read = []
        for rank in range(world):
            with talk_loader(source, sampler(rank), threads=threads) as loader:
                while loader.state.epoch <= epoch:
                    before, batch = loader.state, next(loader)
                    if before.epoch == epoch:
                        read += [key for key in batch.keys if key]
        assert sorted(read) == sorted(sample.key for sample in source.samples)


def test_a_folder_of_ten_shards_is_not_read_in_halves_by_two_workers(tmp_path):
    """The fault that this is about: two workers that each read only every second of the shards of their rank."""
    source = write_talks(tmp_path, count=20, shard=2)
    made = take(source, EpochSampler(source.shard_sizes, batch=5, seed=0, window=1), 4, threads=2)
    shards = {key.split("/")[0] for batch, _ in made for key in batch.keys}
    assert len(shards) == 10


def test_a_mixture_follows_its_shares_and_goes_through_each_part_whole(tmp_path):
    few, many = write_talks(tmp_path / "few", count=3), write_talks(tmp_path / "many", count=17)
    source = join({"few": few, "many": many})

    class Rising:
        def __call__(self, batches):
            return np.where(batches[:, None] < 4, (1.0, 0.0), (0.25, 0.75))

    sampler = MixtureSampler([few.shard_sizes, many.shard_sizes], Rising(), batch=4, seed=5, window=1)
    shown = [source.samples[sampler.index(sampler.position(turn))].key for turn in range(200)]
    part = [key.split("/")[0] for key in shown]
    assert set(part[:16]) == {"few"}
    assert part[16:].count("few") == 184 // 4
    for name, count in (("few", 3), ("many", 17)):
        keys = [key for key in shown if key.startswith(name)]
        for epoch in range(len(keys) // count):
            assert len(set(keys[epoch * count : (epoch + 1) * count])) == count
    coverage = sampler.coverage(LoaderState(0, 0).advance(200, len(sampler)))
    assert (coverage.clips, coverage.unique) == (200, 20)
    assert str(coverage) == "200 clips of 20 unique samples (10.00 times each; 20 there are)"
    assert [part.clips for part in sampler.part_coverage(LoaderState(0, 16))] == [16, 0]
    # A resume is two numbers here as well.
    again = MixtureSampler(
        [few.shard_sizes, many.shard_sizes], Rising(), batch=4, seed=5, window=1,
        start=LoaderState().advance(120, len(sampler)),
    )  # fmt: skip
    assert [source.samples[again.index(again.position(turn))].key for turn in range(80)] == shown[120:]


def test_the_same_sample_has_another_view_and_other_questions_when_its_part_begins_anew(tmp_path):
    source = write_talks(tmp_path, count=2, shard=2)
    sampler = MixtureSampler([source.shard_sizes], FixedShares((1.0,)), batch=2, seed=5)
    assert [sampler.sample(sampler.position(turn))[1] for turn in range(6)] == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (([[3], []], FixedShares((1.0, 1.0))), "every part of a mixture needs samples"),
        (([[3], [4]], FixedShares((1.0,))), "as many numbers, not negative, not all 0"),
        (([[3], [4]], FixedShares((1.0, -1.0))), "as many numbers, not negative, not all 0"),
    ],
)
def test_mixtures_that_make_no_sense_are_refused(arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        MixtureSampler(*arguments, batch=2, seed=0).sample(LoaderState())


def test_a_short_video_is_padded_at_its_end_and_no_frame_is_shown_twice(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("0", ".mp4", encode(3), caption="a cat")
    source = open_source(tmp_path)
    spec = ViewSpec(frames=8, size=64, scale=(1, 1), ratio=(1, 1), flip=0.0)
    ((batch, _),) = take(source, EpochSampler([1], batch=1, seed=0), 1, spec=spec)
    assert batch.extra["frames"].tolist() == [[True] * 3 + [False] * 5]
    with_text = {"text": TextCollator(CHAT)}
    evaluated = next(eval_batches(source, [0], PaddedEvaluation(spec), batch=2, quarantine=Quarantine(), **with_text))
    assert evaluated.extra["frames"].tolist() == batch.extra["frames"].tolist()
    assert torch.equal(evaluated.clips, batch.clips)
    assert evaluated.text[0].conversations[0].turns[0].answer == "a cat"
    pixels = torch.from_numpy(decode(source.read(0), range(3)))
    assert torch.equal(batch.clips[0, 3:], batch.clips[0, 2:3].expand(5, -1, -1, -1))
    assert pixels.shape[0] == 3


def test_samples_whose_text_cannot_be_used_are_quarantined_by_name_and_replaced(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        for number in range(8):
            extra = talk((f"what {number}", str(number)))
            if number == 2:
                extra = {"conversations": [{"from": "human", "value": "what"}]}
            writer.add(f"{number:02d}", ".mp4", VIDEO, extra=None if number == 5 else extra)
    source = open_source(tmp_path)
    quarantine = Quarantine(tmp_path / "bad.jsonl", BadSamplePolicy(files=5))
    made = take(source, EpochSampler(source.shard_sizes, batch=4, seed=0), 2, quarantine=quarantine)
    assert {2, 5}.isdisjoint({n for batch, _ in made for n in numbers_of(batch)})
    lines = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    found = {line["key"]: (line["reason"], line["detail"]) for line in lines}
    assert found["s-000000/02"] == (
        "text",
        "turn 1 of a conversation: a question and its answer are expected, and there is human",
    )
    assert found["s-000000/05"][1].startswith("nothing is written about it")
    held = Quarantine(tmp_path / "other.jsonl", BadSamplePolicy(files=5))
    batches = eval_batches(
        source,
        range(8),
        PaddedEvaluation(SPEC),
        batch=8,
        quarantine=held,
        text=TextCollator(CHAT),
    )
    assert [numbers_of(batch) for batch in batches] == [[0, 1, 3, 4, 6, 7]]
    assert set(held.bad) == {"s-000000/02", "s-000000/05"}


def test_a_text_that_was_changed_in_the_shard_is_found_by_its_checksum(tmp_path):
    source = write_talks(tmp_path, count=3)
    (tar,) = tmp_path.glob("*.tar")
    data = tar.read_bytes()
    at = data.index(b'"what 3"')
    tar.write_bytes(data[:at] + b'"wham 3"' + data[at + 8 :])
    source = open_source(tmp_path)
    quarantine = Quarantine(policy=BadSamplePolicy(files=5))
    take(source, EpochSampler(source.shard_sizes, batch=1, seed=0), 3, quarantine=quarantine)
    assert [bad["reason"] for bad in quarantine.bad.values()] == ["checksum"]
    assert list(quarantine.bad) == ["s-000000/00"]


def test_text_is_read_by_offset_and_not_kept(tmp_path):
    """What a source holds of a sample does not grow with what is written about it."""
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("0", ".mp4", VIDEO, extra=talk(*[(f"what {n}", "yes " * 1000) for n in range(50)]))
    (index,) = tmp_path.glob("*.index.jsonl")
    assert index.stat().st_size < 2000
    assert len(open_source(tmp_path).fields(0)["conversations"]) == 50


def test_text_of_streamed_shards_is_read_from_their_copy(tmp_path):
    with ShardWriter(tmp_path / "shards", "s") as writer:
        writer.add("0", ".mp4", VIDEO, extra=talk(("what", "yes")))
        writer.close()
        save_dataset(tmp_path / "shards", writer.dataset())
    source = open_source(f"file://{tmp_path}/shards", cache_dir=tmp_path / "cache")
    ((batch, _),) = take(source, EpochSampler(source.shard_sizes, batch=1, seed=0), 1)
    assert batch.text[0].conversations[0].turns[0].answer == "yes"
