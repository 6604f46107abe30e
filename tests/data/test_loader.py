import json

import pytest
import torch

from fastvid.data import (
    BadSamplePolicy,
    EpochSampler,
    EvaluationDraws,
    LoaderState,
    Quarantine,
    TooManyBadSamples,
    TrainLoader,
    ViewDraws,
    eval_batches,
    open_source,
)
from fastvid.random import sample_id
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.video.clips import encode

SPEC = ViewSpec(frames=4, size=16)
VIDEO = encode(12)


def batches(source, count, **options):
    arguments = {"batch": 4, "seed": 0, **options}
    with train_loader(source, SPEC, **arguments) as loader:
        out = [(next(loader), loader.state) for _ in range(count)]
    return out


def test_batches_are_uint8_clips_with_their_identity(folder):
    source = open_source(folder)
    (batch, state), *_ = batches(source, 1)
    assert batch.clips.shape == (4, 4, 16, 16, 3)
    assert batch.clips.dtype == torch.uint8
    assert batch.ids.tolist() == [sample_id(key) for key in batch.keys]
    assert len(set(batch.view_hashes.tolist())) == 4
    assert state == LoaderState(0, 4)


def test_each_epoch_shows_every_video_once_in_a_new_order(folder):
    made = batches(open_source(folder), 10)
    first = [key for batch, _ in made[:5] for key in batch.keys]
    second = [key for batch, _ in made[5:] for key in batch.keys]
    assert sorted(first) == sorted(second) == sorted({f"{i:02d}.mp4" for i in range(20)})
    assert first != second
    assert made[4][1] == LoaderState(1, 0)


def test_resuming_is_two_numbers(folder):
    source = open_source(folder)
    through = batches(source, 8)
    for k in (1, 3, 6):
        resumed = batches(source, 8 - k, start=through[k - 1][1], threads=3, prefetch=1)
        for (a, _), (b, _) in zip(through[k:], resumed, strict=True):
            assert a.keys == b.keys
            assert torch.equal(a.clips, b.clips)
            assert torch.equal(a.view_hashes, b.view_hashes)


@pytest.mark.parametrize("world", [2, 4])
def test_ranks_share_the_same_global_batches(folder, world):
    source = open_source(folder)
    alone = batches(source, 6)
    ranks = [batches(source, 6, rank=r, world=world) for r in range(world)]
    for step, (whole, _) in enumerate(alone):
        together = [None] * 4
        for rank in range(world):
            for k, key in enumerate(ranks[rank][step][0].keys):
                together[rank + k * world] = key
        assert together == whole.keys


def test_batches_run_on_over_the_end_of_small_data(tmp_path):
    for i in range(3):
        (tmp_path / f"{i}.mp4").write_bytes(VIDEO)
    made = batches(open_source(tmp_path), 3, batch=8)
    keys = [key for batch, _ in made for key in batch.keys]
    assert len(keys) == 24
    for epoch in range(8):
        assert sorted(keys[3 * epoch : 3 * epoch + 3]) == ["0.mp4", "1.mp4", "2.mp4"]
    assert len({h for batch, _ in made for h in batch.view_hashes.tolist()}) == 24  # other views in each epoch


def test_a_bad_sample_is_named_and_replaced_by_the_next_in_order(folder, tmp_path_factory):
    source = open_source(folder)
    good = [key for batch, _ in batches(source, 5) for key in batch.keys]
    victim = good[6]
    (folder / victim).write_bytes(VIDEO[:500])
    record = tmp_path_factory.mktemp("run") / "bad_samples.jsonl"
    said = []
    quarantine = Quarantine(record, log=said.append)
    made = batches(open_source(folder), 10, quarantine=quarantine)
    keys = [key for batch, _ in made[:5] for key in batch.keys]
    assert keys == [*good[:6], good[7], *good[7:]]
    assert [sum(batch.substitutes) for batch, _ in made[:5]] == [0, 1, 0, 0, 0]
    entries = [json.loads(line) for line in record.read_text().splitlines()]
    assert [(e["key"], e["reason"]) for e in entries] == [(victim, "truncated")]
    assert len(said) == 1
    assert victim in said[0]
    again = batches(open_source(folder), 5, quarantine=Quarantine(record), threads=3)
    assert [key for batch, _ in again for key in batch.keys] == keys


def test_an_edited_index_stops_the_loader(tmp_path):
    from fastvid.data import ShardWriter
    from fastvid.data.shards.index import index_path

    with ShardWriter(tmp_path, "s") as writer:
        writer.add("a", ".mp4", VIDEO)
        writer.add("b", ".mp4", VIDEO)
    index = index_path(writer.shards[0])
    index.write_text(index.read_text().replace('"frames":12', '"frames":13', 1))
    with pytest.raises(ValueError, match=r"s-000000\.index\.jsonl is damaged"):
        batches(open_source(tmp_path), 1)


def test_too_many_bad_samples_stop_the_run(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02d}.mp4").write_bytes(VIDEO if i % 2 else b"rubbish")
    with pytest.raises(TooManyBadSamples, match=r"\d+ of \d+ .*1.0% and 10 files"):
        batches(open_source(tmp_path), 20)
    assert batches(open_source(tmp_path), 20, quarantine=Quarantine(policy=BadSamplePolicy(share=0.9)))
    with pytest.raises(TooManyBadSamples, match="3 bad samples in a row"):
        batches(open_source(tmp_path), 200, quarantine=Quarantine(policy=BadSamplePolicy(share=1.0, in_a_row=3)))


def test_nothing_but_bad_samples(tmp_path):
    for i in range(5):
        (tmp_path / f"{i}.mp4").write_bytes(b"rubbish")
    with pytest.raises(TooManyBadSamples, match="none of the 5 videos can be decoded"):
        batches(open_source(tmp_path), 1)


def test_short_videos_repeat_frames_and_are_counted(tmp_path):
    (tmp_path / "short.mp4").write_bytes(encode(3))
    (tmp_path / "long.mp4").write_bytes(VIDEO)
    (batch, _), *_ = batches(open_source(tmp_path), 1)
    for key, repeats in zip(batch.keys, batch.repeats, strict=True):
        assert repeats == (key == "short.mp4")


def test_a_cache_of_frames_changes_nothing(folder):
    source = open_source(folder)
    plain = batches(source, 12)
    for capacity in (1 << 30, 12 * 64 * 128 * 3 * 5):
        cached = batches(source, 12, cache_bytes=capacity)
        assert all(torch.equal(a.clips, b.clips) for (a, _), (b, _) in zip(plain, cached, strict=True))
        assert all(torch.equal(a.view_hashes, b.view_hashes) for (a, _), (b, _) in zip(plain, cached, strict=True))


def test_a_cache_of_crops_changes_nothing(folder):
    source = open_source(folder)
    fixed = ViewSpec(frames=4, size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0))

    def clips(**options):
        with train_loader(source, fixed, batch=5, seed=0, **options) as loader:
            made = [next(loader) for _ in range(12)]
            return torch.cat([batch.clips for batch in made]), torch.cat([batch.view_hashes for batch in made])

    for plain, cached in zip(clips(), clips(cache_bytes=1 << 30), strict=True):
        assert torch.equal(plain, cached)


def test_views_can_come_round_again_and_have_a_seed_of_their_own(folder):
    source = open_source(folder)

    def clips(epoch, **options):
        return {
            key: view
            for batch, _ in batches(source, 5, start=LoaderState(epoch, 0), **options)
            for key, view in zip(batch.keys, batch.view_hashes.tolist(), strict=True)
        }

    assert clips(0, views=2) == clips(2, views=2) == clips(0)
    assert clips(1, views=2) == clips(1) != clips(0)
    assert clips(0, view_seed=7) == clips(0, seed=7)
    assert clips(0, view_seed=7) != clips(0)


def test_a_batch_must_divide_among_the_ranks(folder):
    with pytest.raises(ValueError, match=r"5 clips .* 2 processes"):
        train_loader(open_source(folder), SPEC, batch=5, seed=0, world=2)


def test_evaluation_shows_every_good_video_once_in_order(folder):
    (folder / "07.mp4").write_bytes(b"rubbish")
    quarantine = Quarantine()
    source = open_source(folder)
    made = list(eval_batches(source, range(20), EvaluationDraws(SPEC), batch=6, quarantine=quarantine))
    assert [key for batch in made for key in batch.keys] == [f"{i:02d}.mp4" for i in range(20) if i != 7]
    assert [len(batch.clips) for batch in made] == [6, 6, 6, 1]
    assert list(quarantine.bad) == ["07.mp4"]


def test_a_record_cut_short_by_a_kill_is_read_around(tmp_path):
    path = tmp_path / "bad.jsonl"
    path.write_text('{"key": "a", "reason": "read", "detail": "x"}\n{"key": "b", "rea')
    quarantine = Quarantine(path)
    assert list(quarantine.bad) == ["a"]


def test_a_restart_meets_a_half_damaged_video_as_the_first_run_did(tmp_path):
    """Some views of it decode and some do not; neither the record nor the cache of frames may change which."""
    for i in range(6):
        (tmp_path / f"{i}.mp4").write_bytes(VIDEO)
    damaged = bytearray(encode(40, container="matroska", options={"g": "4", "bf": "0"}))
    damaged[int(len(damaged) * 0.7) : int(len(damaged) * 0.8)] = bytes(int(len(damaged) * 0.1))
    (tmp_path / "3.mp4").write_bytes(bytes(damaged))
    record = tmp_path / "bad_samples.jsonl"
    policy = BadSamplePolicy(share=1.0)
    spec = ViewSpec(frames=11, size=16, sampling="stride", stride=1)

    def keys(**options):
        arguments = {"batch": 4, "seed": 0, "quarantine": Quarantine(record, policy), **options}
        with train_loader(open_source(tmp_path), spec, **arguments) as loader:
            return [tuple(next(loader).keys) for _ in range(24)]

    first = keys()
    assert "3.mp4" in {key for batch in first for key in batch}  # some of its views are good
    assert '"key": "3.mp4"' in record.read_text()  # and some are not
    assert keys() == first
    assert keys(cache_bytes=1 << 24) == first


def test_a_sampler_of_another_source_is_refused(folder):
    sampler = EpochSampler([1, 2], batch=2, seed=0)
    with pytest.raises(ValueError, match="the sampler is of 3 samples and the source has 20"):
        TrainLoader(open_source(folder), ViewDraws(SPEC, 0), sampler)


def test_draws_that_change_pixels_are_refused(folder):
    """The decoding process would not change them, and training would go on without augmentation."""

    class Darker(ViewDraws):
        def transform(self, pixels, sample, draw):
            return pixels // 2

    source = open_source(folder)
    with pytest.raises(ValueError, match="Darker changes the pixels"):
        TrainLoader(source, Darker(SPEC, 0), EpochSampler(source.shard_sizes, batch=2, seed=0))


def test_views_without_a_count_are_refused_where_all_are_wanted(folder):
    source = open_source(folder)
    with pytest.raises(ValueError, match="no end"):
        list(eval_batches(source, range(2), ViewDraws(SPEC, 0), batch=2, quarantine=Quarantine()))
