"""Batches of clips of one length each, within a budget of frames."""

import os
import signal

import pytest

from fastvid.data import BucketSampler, FrameBuckets, LoaderState, ShardWriter, open_source
from fastvid.video import ViewSpec
from tests.data.talks import same, take, talk, talk_loader, write_talks
from tests.video.clips import encode


def _lengths(folder, frames):
    with ShardWriter(folder, "s") as writer:
        for number, count in enumerate(frames):
            writer.add(f"{number:02d}", ".mp4", encode(count), extra=talk((f"what {number}", str(number))))
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
    with talk_loader(source, sampler, questions=1, spec=spec, fps=buckets.fps) as loader:
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

    def batches(count, start=None, **options):
        sampler = BucketSampler(source, buckets, seed=2, window=2, start=start)
        return take(source, sampler, count, spec=spec, fps=buckets.fps, **options)

    through = batches(12)
    assert through[-1][1].epoch == 1
    for k in (1, 4, 7):
        resumed = batches(12 - k, through[k - 1][1], threads=3)
        assert all(same(a, b) for (a, _), (b, _) in zip(through[k:], resumed, strict=True))
    other = FrameBuckets((2, 4, 8), fps=buckets.fps, budget=24)
    begins = [LoaderState(), *(state for _, state in through)]
    sampler = BucketSampler(source, other, seed=2, window=2)
    theirs = {sampler._begin(number) for number in range(12)}
    start = next(state for state in begins if state not in theirs)
    with pytest.raises(ValueError, match="resume with the frame budget"):
        BucketSampler(source, other, seed=2, window=2, start=start)


def test_a_decoding_process_that_is_killed_changes_nothing(tmp_path):
    source = _lengths(tmp_path, [3, 20, 9, 2, 30, 5, 8, 4, 16, 10, 3, 2])
    buckets = FrameBuckets((2, 4, 8), fps=source.samples[0].video.fps / 3, budget=16)
    made = {}
    for killed in (False, True):
        sampler = BucketSampler(source, buckets, seed=2, window=2)
        with talk_loader(source, sampler, spec=ViewSpec(frames=8, size=16), fps=buckets.fps) as loader:
            made[killed] = [next(loader)]
            if killed:
                os.kill(loader._prefetcher.process.pid, signal.SIGKILL)
            made[killed] += [next(loader) for _ in range(7)]
    assert all(same(a, b) for a, b in zip(made[False], made[True], strict=True))


def test_memory_for_clips_is_bounded_by_the_budget_not_by_the_longest_clip(tmp_path):
    source = write_talks(tmp_path, count=2, shard=2)
    sampler = BucketSampler(source, FrameBuckets((1, 2, 4), fps=100.0, budget=8), seed=0)
    assert sampler.slot_frames == [4, 4, 2, 2, 1, 1, 1, 1]
    with talk_loader(source, sampler) as loader:
        ring = loader._prefetcher.process.ring
        assert ring.slots % 8 == 0
        assert ring.bytes == ring.slots * 2 * 16 * 16 * 3
        assert loader.ram_bound() == ring.bytes + 3 * 16 * 16 * 16 * 3
        assert len(next(loader).clips) == 2


def test_lengths_that_are_not_known_and_budgets_that_are_too_small_are_said(tmp_path, folder):
    (tmp_path / "shards").mkdir()
    source = write_talks(tmp_path / "shards")
    with pytest.raises(ValueError, match="does not hold a clip of 8 frames for each of 2 processes"):
        BucketSampler(source, FrameBuckets((4, 8), budget=15), seed=0, world=2)
    with pytest.raises(ValueError, match="ascending numbers of frames"):
        FrameBuckets((8, 4))


def test_a_folder_does_not_know_how_long_its_videos_are(folder):
    with pytest.raises(ValueError, match="need an index that says how long each video is"):
        BucketSampler(open_source(folder), FrameBuckets(), seed=0)
