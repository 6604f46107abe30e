import dataclasses

import numpy as np
import pytest

from fastvid.video import ViewSpec, cut_view, decode, decode_view, probe
from fastvid.video.resize import crop_resize
from tests.video.clips import encode, number_of

VIDEO = encode(40)
INFO = probe(VIDEO)
WIDE = ViewSpec(frames=8, size=32, scale=(1.0, 1.0), ratio=(2.0, 2.0), flip=0.0)


def test_a_view_is_a_function_of_key_seed_and_draw():
    spec = ViewSpec(frames=8, size=32)
    view = spec.draw("a", 1, 2, INFO)
    assert view == spec.draw("a", 1, 2, INFO)
    assert view.hash == spec.draw("a", 1, 2, INFO).hash
    others = [spec.draw(*arguments, INFO) for arguments in (("b", 1, 2), ("a", 2, 2), ("a", 1, 3))]
    assert all(other != view and other.hash != view.hash for other in others)
    for change in ({"flip": not view.flip}, {"size": 16}, {"key": "z"}, {"frames": view.frames[::-1]}):
        assert dataclasses.replace(view, **change).hash != view.hash


def test_a_view_does_not_change_with_the_version():
    """Caches made years ago are paired by this."""
    view = ViewSpec(frames=4, size=16).draw("clip", 3, 5, INFO)
    assert view.frames == (3, 13, 23, 33)
    assert view.box == (2, 41, 59, 60)
    assert view.flip is False


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (ViewSpec(frames=8, sampling="span"), [2, 7, 12, 17, 22, 27, 32, 37]),
        (ViewSpec(frames=8, sampling="stride", stride=3), [9, 12, 15, 18, 21, 24, 27, 30]),
        (ViewSpec(frames=8, sampling="stride", stride=10), [0, 10, 20, 30, 39, 39, 39, 39]),
        (ViewSpec(frames=4, sampling="fps", fps=5), [12, 17, 22, 27]),
        (ViewSpec(frames=4, sampling="fps", fps=1), [0, 25, 39, 39]),
        (ViewSpec(frames=64, sampling="span"), [int((k + 0.5) * 40 / 64) for k in range(64)]),
    ],
)
def test_the_centre_view_takes_the_middle(spec, expected):
    view = spec.center("a", INFO)
    assert list(view.frames) == expected
    assert view.box == (0, 32, 64, 64)
    assert view.repeats_frames == (len(set(expected)) < len(expected))


@pytest.mark.parametrize("sampling", ["span", "stride", "fps"])
def test_random_views_stay_inside(sampling):
    spec = ViewSpec(frames=8, size=32, sampling=sampling, stride=4, fps=6.0)
    starts, flips = set(), 0
    for draw in range(200):
        view = spec.draw("a", 0, draw, INFO)
        top, left, height, width = view.box
        assert 0 <= top <= top + height <= 64
        assert 0 <= left <= left + width <= 128
        assert 0.2 < height * width / (64 * 128) <= 1
        assert all(0 <= f < 40 for f in view.frames)
        assert list(view.frames) == sorted(view.frames)
        starts.add(view.frames[0])
        flips += view.flip
    assert len(starts) >= 5
    assert 60 < flips < 140


def test_fps_goes_by_presentation_time():
    times = [0, 10, 20, 30, 1000, 1010, 1020, 1030, 2000, 3000]
    video = encode(10, times=times)
    view = ViewSpec(frames=4, size=16, sampling="fps", fps=1.0).center("a", probe(video))
    assert [number_of(f) for f in decode(video, view.frames)] == [0, 4, 8, 9]


def test_pixels_of_a_view():
    view = WIDE.draw("a", 0, 0, INFO)
    clip = decode_view(VIDEO, view)
    assert clip.shape == (8, 32, 32, 3)
    frames = decode(VIDEO, range(40))
    for k, index in enumerate(view.frames):
        assert np.array_equal(clip[k], crop_resize(frames[index], view.box, 32))
    cut = np.empty_like(clip)
    cut_view(frames, view, cut)
    assert np.array_equal(cut, clip)
    mirrored = decode_view(VIDEO, dataclasses.replace(view, flip=True))
    assert np.array_equal(mirrored, clip[:, :, ::-1])


def test_resizing_is_antialiased_and_exact_where_it_can_be():
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (64, 128, 3), dtype=np.uint8)
    assert np.array_equal(crop_resize(frame, (3, 5, 32, 32), 32), frame[3:35, 5:37])
    assert np.array_equal(crop_resize(np.full((64, 64, 3), 77, np.uint8), (0, 0, 64, 64), 16), np.full((16, 16, 3), 77))
    checkers = np.indices((64, 64)).sum(0) % 2 * 255
    shrunk = crop_resize(np.repeat(checkers[..., None], 3, 2).astype(np.uint8), (0, 0, 64, 64), 8)
    assert np.abs(shrunk.astype(int) - 127).max() <= 2
    with pytest.raises(ValueError, match="64 x 128"):
        crop_resize(frame, (60, 0, 16, 16), 8)


@pytest.mark.parametrize(
    "fields", [{"frames": 0}, {"sampling": "random"}, {"scale": (0.0, 1.0)}, {"fps": 0.0}, {"ratio": (2.0, 1.0)}]
)
def test_specs_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="ViewSpec"):
        ViewSpec(**fields)


@pytest.mark.parametrize(
    ("scale", "ratio", "box"),
    [
        ((1.0, 1.0), (1.0, 1.0), (0, 32, 64, 64)),  # the centred square
        ((1.0, 1.0), (2.0, 2.0), (0, 0, 64, 128)),  # the whole frame
        ((0.5, 0.5), (1.0, 1.0), None),  # a square as high as the frame, anywhere along its width
        ((0.3, 0.3), (1.0, 1.0), None),
        ((0.3, 1.0), (1.0, 1.0), None),
        ((0.3, 0.3), (0.75, 1.35), None),
    ],
)
def test_a_box_is_fixed_only_where_all_views_share_it(scale, ratio, box):
    spec = ViewSpec(frames=2, size=16, scale=scale, ratio=ratio)
    drawn = {spec.draw(str(key), 0, 0, INFO).box for key in range(100)}
    assert spec.fixed_box(INFO) == box
    assert drawn == {box} if box is not None else len(drawn) > 1
