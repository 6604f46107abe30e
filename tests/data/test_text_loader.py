"""The loader of videos with conversations: order, mixtures, buckets by length, resume, and faults of samples."""

import json
import re

import numpy as np
import pytest
import torch

from fastvid.data import (
    BadSamplePolicy,
    ChatFormat,
    DecodeOptions,
    EpochSampler,
    FixedShares,
    LoaderState,
    MixtureSampler,
    PaddedDraws,
    PaddedEvaluation,
    Quarantine,
    ShardWriter,
    TextChoice,
    TextCollator,
    TrainLoader,
    eval_batches,
    join,
    open_source,
)  # fmt: skip
from fastvid.data.loader.buckets import BucketSampler, FrameBuckets
from fastvid.video import ViewSpec, decode
from tests.data.chatting import tokenizer
from tests.video.clips import encode

SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)
CHAT = ChatFormat(tokenizer("what is this a cat really yes it be brief " + " ".join(str(n) for n in range(99))))
VIDEO = encode(12)


def _talk(*pairs: tuple[str, str]) -> dict:
    turns = [[{"from": "human", "value": asked}, {"from": "gpt", "value": answer}] for asked, answer in pairs]
    return {"conversations": turns}


def _write(folder, count=20, shard=3, **facts):
    """Write ``count`` samples with six conversations each, in shards of ``shard`` samples."""
    with ShardWriter(folder, "s") as writer:
        for number in range(count):
            pairs = [(f"what {question}", f"{number} {question}") for question in range(6)]
            writer.add(f"{number:02d}", ".mp4", VIDEO, extra=_talk(*pairs))
            if number % shard == shard - 1:
                writer.close()
    return open_source(folder)


def _loader(source, sampler, questions=2, spec=SPEC, fps=None, **options):
    quarantine = options.pop("quarantine", None)
    return TrainLoader(
        source, PaddedDraws(spec, sampler.seed, fps=fps), sampler, options=DecodeOptions(**options),
        quarantine=quarantine, text=TextChoice(sampler.seed, questions), collate=TextCollator(CHAT, questions),
    )  # fmt: skip


def _numbers(batch) -> list[int]:
    return [int(re.sub(r".*/", "", key)) for key in batch.keys]


def _take(source, sampler, count, **options):
    with _loader(source, sampler, **options) as loader:
        return [(next(loader), loader.state) for _ in range(count)]


def _same(a, b) -> bool:
    tensors = all(torch.equal(a.extra[name], b.extra[name]) for name in a.extra)
    return tensors and a.keys == b.keys and torch.equal(a.clips, b.clips)


def test_a_batch_has_the_conversations_of_its_samples(tmp_path):
    source = _write(tmp_path)
    ((batch, _),) = _take(source, EpochSampler(source.shard_sizes, batch=4, seed=3), 1)
    assert batch.extra["frames"].all()
    for clip, number in enumerate(_numbers(batch)):
        asked = [c.turns[0].question for c in batch.text[clip].conversations]
        assert len(set(asked)) == 2
        answers = [c.turns[0].answer for c in batch.text[clip].conversations]
        assert answers == [f"{number} {question.split()[1]}" for question in asked]
        for s, answer in enumerate(answers):
            labels = batch.extra["labels"][clip, s]
            assert CHAT.tokenizer.decode(labels[labels >= 0]) == f"{answer} <|end|>"


def test_resume_is_exact_and_threads_and_ranks_change_nothing(tmp_path):
    source = _write(tmp_path)
    through = _take(source, EpochSampler(source.shard_sizes, batch=4, seed=3, window=2), 8)
    start = through[4][1]
    resumed = _take(source, EpochSampler(source.shard_sizes, batch=4, seed=3, window=2, start=start), 3, threads=3)
    assert all(_same(a, b) for (a, _), (b, _) in zip(through[5:], resumed, strict=True))
    ranks = [
        _take(source, EpochSampler(source.shard_sizes, batch=4, seed=3, window=2, rank=r, world=2), 2) for r in (0, 1)
    ]
    for whole, *parts in zip(through[:2], *ranks, strict=True):
        for rank, (part, _) in enumerate(parts):
            assert part.keys == whole[0].keys[rank::2]
            assert part.extra["before"].tolist() == whole[0].extra["before"][rank::2].tolist()


def test_another_epoch_asks_other_questions(tmp_path):
    source = _write(tmp_path, count=4)
    made = _take(source, EpochSampler(source.shard_sizes, batch=4, seed=0), 3)
    asked = [
        {n: tuple(c.turns[0].question for c in batch.text[i].conversations) for i, n in enumerate(_numbers(batch))}
        for batch, _ in made
    ]
    assert asked[0] != asked[1] != asked[2]


@pytest.mark.parametrize("world", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", ["epoch", "buckets", "mixture"])
def test_every_sample_of_every_shard_is_read_once_an_epoch(tmp_path, world, threads, kind):
    """Splitting shards among workers a second time, after splitting them among ranks, reads only a part of them; and
    without the first split all ranks read the same."""
    source = _write(tmp_path, count=18)
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
            with _loader(source, sampler(rank), threads=threads) as loader:
                while loader.state.epoch <= epoch:
                    before, batch = loader.state, next(loader)
                    if before.epoch == epoch:
                        read += [key for key in batch.keys if key]
        assert sorted(read) == sorted(sample.key for sample in source.samples)


def test_a_folder_of_ten_shards_is_not_read_in_halves_by_two_workers(tmp_path):
    """The fault that this is about: two workers that each read only every second of the shards of their rank."""
    source = _write(tmp_path, count=20, shard=2)
    made = _take(source, EpochSampler(source.shard_sizes, batch=5, seed=0, window=1), 4, threads=2)
    shards = {key.split("/")[0] for batch, _ in made for key in batch.keys}
    assert len(shards) == 10


def test_a_mixture_follows_its_shares_and_goes_through_each_part_whole(tmp_path):
    few, many = _write(tmp_path / "few", count=3), _write(tmp_path / "many", count=17)
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
    source = _write(tmp_path, count=2, shard=2)
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


def _lengths(folder, frames):
    with ShardWriter(folder, "s") as writer:
        for number, count in enumerate(frames):
            writer.add(f"{number:02d}", ".mp4", encode(count), extra=_talk((f"what {number}", str(number))))
            if number % 4 == 3:
                writer.close()
    return open_source(folder)


def test_batches_by_length_have_static_shapes_within_the_budget(tmp_path):
    frames = [3, 20, 9, 2, 30, 5, 8, 4, 16, 10, 3, 2]
    source = _lengths(tmp_path, frames)
    rate = source.samples[0].video.fps
    buckets = FrameBuckets((2, 4, 8), fps=rate / 3, budget=16)
    sampler = BucketSampler(source, buckets, seed=2, window=3)
    seen = {}
    spec = ViewSpec(frames=8, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)
    with _loader(source, sampler, questions=1, spec=spec, fps=buckets.fps) as loader:
        shapes = []
        while loader.state.epoch == 0:
            batch = next(loader)
            C, T = batch.clips.shape[:2]
            shapes.append((C, T))
            for clip, key in enumerate(batch.keys):
                used = int(batch.extra["frames"][clip].sum())
                if not key:
                    assert used == 0
                    assert not batch.extra["questions"][clip].any()
                    assert not batch.clips[clip].any()
                    continue
                number = int(key.split("/")[1])
                seen[number] = (used, T)
                assert batch.text[clip].conversations[0].turns[0].answer == str(number)
    assert set(shapes) == {(8, 2), (4, 4), (2, 8)}
    expected = {n: min(8, max(1, round(count / 3))) for n, count in enumerate(frames)}
    assert {number: used for number, (used, _) in seen.items()} == expected
    assert all(used <= T < 2 * max(2, used) for used, T in seen.values())


def test_batches_by_length_resume_exactly_and_refuse_another_budget(tmp_path):
    source = _lengths(tmp_path, [3, 20, 9, 2, 30, 5, 8, 4, 16, 10, 3, 2] * 2)
    buckets = FrameBuckets((2, 4, 8), fps=source.samples[0].video.fps / 3, budget=16)
    spec = ViewSpec(frames=8, size=16)

    def take(count, start=None, **options):
        sampler = BucketSampler(source, buckets, seed=2, window=2, start=start)
        return _take(source, sampler, count, spec=spec, fps=buckets.fps, **options)

    through = take(12)
    assert through[-1][1].epoch == 1
    for k in (1, 4, 7):
        resumed = take(12 - k, through[k - 1][1], threads=3)
        assert all(_same(a, b) for (a, _), (b, _) in zip(through[k:], resumed, strict=True))
    other = FrameBuckets((2, 4, 8), fps=buckets.fps, budget=24)
    begins = [LoaderState(), *(state for _, state in through)]
    sampler = BucketSampler(source, other, seed=2, window=2)
    theirs = {sampler._begin(number) for number in range(12)}
    start = next(state for state in begins if state not in theirs)
    with pytest.raises(ValueError, match="resume with the frame budget"):
        BucketSampler(source, other, seed=2, window=2, start=start)


def test_memory_for_clips_is_bounded_by_the_budget_not_by_the_longest_clip(tmp_path):
    source = _write(tmp_path, count=2, shard=2)
    sampler = BucketSampler(source, FrameBuckets((1, 2, 4), fps=100.0, budget=8), seed=0)
    assert sampler.slot_frames == [4, 4, 2, 2, 1, 1, 1, 1]
    with _loader(source, sampler) as loader:
        ring = loader._prefetcher.process.ring
        assert ring.slots % 8 == 0
        assert ring.bytes == ring.slots * 2 * 16 * 16 * 3
        assert loader.ram_bound() == ring.bytes + 3 * 16 * 16 * 16 * 3
        assert len(next(loader).clips) == 2


def test_lengths_that_are_not_known_and_budgets_that_are_too_small_are_said(tmp_path, folder):
    (tmp_path / "shards").mkdir()
    source = _write(tmp_path / "shards")
    with pytest.raises(ValueError, match="does not hold a clip of 8 frames for each of 2 processes"):
        BucketSampler(source, FrameBuckets((4, 8), budget=15), seed=0, world=2)
    with pytest.raises(ValueError, match="ascending numbers of frames"):
        FrameBuckets((8, 4))


def test_a_folder_does_not_know_how_long_its_videos_are(folder):
    with pytest.raises(ValueError, match="need an index that says how long each video is"):
        BucketSampler(open_source(folder), FrameBuckets(), seed=0)


def test_a_short_video_is_padded_at_its_end_and_no_frame_is_shown_twice(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("0", ".mp4", encode(3), caption="a cat")
    source = open_source(tmp_path)
    spec = ViewSpec(frames=8, size=64, scale=(1, 1), ratio=(1, 1), flip=0.0)
    ((batch, _),) = _take(source, EpochSampler([1], batch=1, seed=0), 1, spec=spec)
    assert batch.extra["frames"].tolist() == [[True] * 3 + [False] * 5]
    with_text = {"text": TextChoice(), "collate": TextCollator(CHAT)}
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
            extra = _talk((f"what {number}", str(number)))
            if number == 2:
                extra = {"conversations": [{"from": "human", "value": "what"}]}
            writer.add(f"{number:02d}", ".mp4", VIDEO, extra=None if number == 5 else extra)
    source = open_source(tmp_path)
    quarantine = Quarantine(tmp_path / "bad.jsonl", BadSamplePolicy(files=5))
    made = _take(source, EpochSampler(source.shard_sizes, batch=4, seed=0), 2, quarantine=quarantine)
    assert {2, 5}.isdisjoint({n for batch, _ in made for n in _numbers(batch)})
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
        text=TextChoice(),
        collate=TextCollator(CHAT),
    )
    assert [_numbers(batch) for batch in batches] == [[0, 1, 3, 4, 6, 7]]
    assert set(held.bad) == {"s-000000/02", "s-000000/05"}


def test_a_text_that_was_changed_in_the_shard_is_found_by_its_checksum(tmp_path):
    source = _write(tmp_path, count=3)
    (tar,) = tmp_path.glob("*.tar")
    data = tar.read_bytes()
    at = data.index(b'"what 3"')
    tar.write_bytes(data[:at] + b'"wham 3"' + data[at + 8 :])
    source = open_source(tmp_path)
    quarantine = Quarantine(policy=BadSamplePolicy(files=5))
    _take(source, EpochSampler(source.shard_sizes, batch=1, seed=0), 3, quarantine=quarantine)
    assert [bad["reason"] for bad in quarantine.bad.values()] == ["checksum"]
    assert list(quarantine.bad) == ["s-000000/00"]


def test_text_is_read_by_offset_and_not_kept(tmp_path):
    """What a source holds of a sample does not grow with what is written about it."""
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("0", ".mp4", VIDEO, extra=_talk(*[(f"what {n}", "yes " * 1000) for n in range(50)]))
    (index,) = tmp_path.glob("*.index.jsonl")
    assert index.stat().st_size < 2000
    assert len(open_source(tmp_path).fields(0)["conversations"]) == 50


def test_text_without_a_collator_is_refused(tmp_path):
    source = _write(tmp_path, count=2, shard=2)
    with pytest.raises(ValueError, match="give both"):
        TrainLoader(source, PaddedDraws(SPEC, 0), EpochSampler([2], batch=1, seed=0), text=TextChoice())
