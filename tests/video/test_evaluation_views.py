import dataclasses

import numpy as np
import pytest

from fastvid.data import EvaluationDraws, Quarantine, eval_batches, open_source
from fastvid.video import ViewSpec, decode_clips, decode_view, probe
from tests.video.clips import encode

VIDEO = encode(40)
INFO = probe(VIDEO)  # 64 x 128, 40 frames, 25 a second
SAMPLINGS = (
    ViewSpec(frames=8, size=32),
    ViewSpec(frames=8, size=32, sampling="stride", stride=3),
    ViewSpec(frames=8, size=32, sampling="fps", fps=6.0),
)


@pytest.mark.parametrize(
    ("spec", "drawn", "centre"),
    [
        (SAMPLINGS[0], 7850762029623590528, 2187187737599851549),
        (SAMPLINGS[1], 2532464832037288539, 2873317442272523796),
        (SAMPLINGS[2], 6243637635660045611, 649112923973196618),
    ],
)
def test_views_without_jitter_and_crop_are_those_of_old_caches(spec, drawn, centre):
    assert spec.draw("clip", 3, 5, INFO).hash == drawn
    assert spec.center("clip", INFO).hash == centre


def test_new_fields_are_in_the_fingerprint_only_where_they_do_something():
    names = {"frames", "size", "sampling", "scale", "ratio", "flip"}
    assert set(ViewSpec().fingerprint) == names
    for change in ({"jitter": 0.5}, {"crop": 0.875}):
        spec = dataclasses.replace(ViewSpec(), **change)
        assert set(spec.fingerprint) == names | set(change)
        assert ViewSpec.from_fields(spec.fingerprint) == spec


@pytest.mark.parametrize("spec", SAMPLINGS)
def test_one_clip_and_one_crop_are_the_centre_view(spec):
    assert spec.evaluation("a", INFO) == [spec.center("a", INFO)]
    jittery = dataclasses.replace(spec, jitter=1.0)
    assert jittery.evaluation("a", INFO, 3, 3) == spec.evaluation("a", INFO, 3, 3)


def test_clips_lie_evenly_over_the_video():
    span = ViewSpec(frames=4, size=16).evaluation("a", INFO, clips=2)
    assert [view.frames for view in span] == [(2, 12, 22, 32), (7, 17, 27, 37)]
    stride = ViewSpec(frames=4, size=16, sampling="stride", stride=2).evaluation("a", INFO, clips=2)
    assert [view.frames for view in stride] == [(8, 10, 12, 14), (25, 27, 29, 31)]  # a clip can start at 34 places
    fps = ViewSpec(frames=4, size=16, sampling="fps", fps=5).evaluation("a", INFO, clips=2)
    assert [view.frames for view in fps] == [(6, 11, 16, 21), (18, 23, 28, 33)]


def test_crops_lie_along_the_longer_side():
    views = ViewSpec(frames=4, size=16).evaluation("a", INFO, clips=2, crops=3)
    assert [view.box for view in views] == [(0, 0, 64, 64), (0, 32, 64, 64), (0, 64, 64, 64)] * 2
    assert [view.frames for view in views[:3]] == [views[0].frames] * 3
    assert len({view.hash for view in views}) == 6
    assert not any(view.flip for view in views)
    upright = dataclasses.replace(INFO, rotation=1)
    boxes = [view.box for view in ViewSpec(frames=4, size=16).evaluation("a", upright, crops=3)]
    assert boxes == [(0, 0, 64, 64), (32, 0, 64, 64), (64, 0, 64, 64)]


def test_a_crop_keeps_the_middle_share():
    spec = ViewSpec(frames=4, size=16, crop=0.875)
    assert spec.center("a", INFO).box == (4, 36, 56, 56)
    assert [v.box for v in spec.evaluation("a", INFO, crops=3)] == [(4, 0, 56, 56), (4, 36, 56, 56), (4, 72, 56, 56)]
    assert spec.draw("a", 0, 0, INFO) == ViewSpec(frames=4, size=16).draw("a", 0, 0, INFO)
    assert ViewSpec(size=16, crop=0.001).center("a", INFO).box == (31, 63, 1, 1)


@pytest.mark.parametrize("spec", SAMPLINGS)
def test_jitter_changes_the_frames_alone(spec):
    jittery = dataclasses.replace(spec, jitter=0.8)
    different = 0
    for draw in range(50):
        plain, view = spec.draw("a", 0, draw, INFO), jittery.draw("a", 0, draw, INFO)
        assert view == jittery.draw("a", 0, draw, INFO)
        assert (view.box, view.flip) == (plain.box, plain.flip)
        assert list(view.frames) == sorted(view.frames)
        assert 0 <= view.frames[0] <= view.frames[-1] < 40
        different += view.frames != plain.frames
    assert different > 35


def test_jittered_spans_keep_one_frame_in_each_segment():
    views = [ViewSpec(frames=8, size=16, jitter=1.0).draw("a", 0, draw, INFO) for draw in range(200)]
    frames = np.array([view.frames for view in views])
    assert (frames // 5 == np.arange(8)).all()
    places = frames % 5
    assert np.bincount(places.ravel(), minlength=5).min() > 240  # 320 of each are expected
    assert abs(np.corrcoef(places[:, 0], places[:, 1])[0, 1]) < 0.2  # frames move on their own
    slight = [ViewSpec(frames=8, size=16, jitter=0.1).draw("a", 0, draw, INFO).frames for draw in range(200)]
    shared = [ViewSpec(frames=8, size=16).draw("a", 0, draw, INFO).frames for draw in range(200)]
    assert np.abs(np.array(slight) - np.array(shared)).max() == 1


def test_jittered_strides_are_half_to_double():
    spec = ViewSpec(frames=5, size=16, sampling="stride", stride=4, jitter=1.0)
    lengths = [v.frames[-1] - v.frames[0] for v in (spec.draw("a", 0, draw, INFO) for draw in range(300))]
    assert (min(lengths), max(lengths)) == (8, 31)
    assert 120 < sum(length < 16 for length in lengths) < 180  # slowed down as often as sped up
    spec = ViewSpec(frames=5, size=16, sampling="stride", stride=1, jitter=1.0)
    assert all(len(set(spec.draw("a", 0, draw, INFO).frames)) == 5 for draw in range(50))
    spec = ViewSpec(frames=5, size=16, sampling="fps", fps=6.25, jitter=1.0)
    lengths = [v.frames[-1] - v.frames[0] for v in (spec.draw("a", 0, draw, INFO) for draw in range(300))]
    assert 8 <= min(lengths) <= 9
    assert 30 <= max(lengths) <= 32


def test_clips_decoded_together_are_those_decoded_alone():
    spec = ViewSpec(frames=8, size=32, jitter=1.0)
    views = [*spec.evaluation("a", INFO, 2, 3), *(spec.draw("a", 0, draw, INFO) for draw in range(4))]
    assert any(view.flip for view in views)
    together = decode_clips(VIDEO, views)
    assert together.shape == (10, 8, 32, 32, 3)
    for clip, view in zip(together, views, strict=True):
        assert np.array_equal(clip, decode_view(VIDEO, view))
    with pytest.raises(ValueError, match=r"got \[\(4, 16\), \(8, 32\)\]"):
        decode_clips(VIDEO, [views[0], ViewSpec(frames=4, size=16).center("a", INFO)])


def test_batches_of_several_views(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.mp4").write_bytes(encode(10 + ord(name) % 7))
    (tmp_path / "bad.mp4").write_bytes(b"rubbish")
    source, quarantine = open_source(tmp_path), Quarantine()
    spec = ViewSpec(frames=4, size=16)
    batches = list(
        eval_batches(
            source, range(4), EvaluationDraws(spec, clips=2, crops=3), batch=2, quarantine=quarantine
        )
    )  # fmt: skip
    assert [batch.clips.shape for batch in batches] == [(12, 4, 16, 16, 3), (6, 4, 16, 16, 3)]
    assert [key for batch in batches for key in batch.keys[::6]] == ["a.mp4", "b.mp4", "c.mp4"]
    assert list(quarantine.bad) == ["bad.mp4"]
    for batch in batches:
        for clips, key in zip(batch.clips.split(6), batch.keys[::6], strict=True):
            data = (tmp_path / key).read_bytes()
            views = spec.evaluation(key, probe(data), 2, 3)
            assert np.array_equal(clips.numpy(), decode_clips(data, views))
        hashes = [v.hash for k in batch.keys[::6] for v in spec.evaluation(k, probe((tmp_path / k).read_bytes()), 2, 3)]
        assert batch.view_hashes.tolist() == hashes


@pytest.mark.parametrize("fields", [{"jitter": -0.1}, {"jitter": 1.5}, {"crop": 0.0}, {"crop": 1.1}])
def test_fields_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="ViewSpec: need 0 <= jitter <= 1 and 0 < crop <= 1"):
        ViewSpec(**fields)


@pytest.mark.parametrize("count", [(0, 1), (1, 2), (1, 0)])
def test_evaluations_that_make_no_sense_are_refused(count):
    with pytest.raises(ValueError, match="clips must be at least 1 and crops 1 or 3"):
        ViewSpec().evaluation("a", INFO, *count)
