"""Batches decoded by NVDEC: the frames that our table says, pixels near those of PyAV; skipped without a GPU."""

import random

import numpy as np
import pytest
import torch

pytest.importorskip("av")

from fastvid.video import View, ViewSpec, cut_view, decode_view, probe
from fastvid.video.batch_decode import decode_views
from fastvid.video.decoders import GPU_DECODERS, why_not
from tests.video.clips import encode, number_of, pieces, shifted
from tests.video.exact_colours import exact_frames

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
SIZE = {"height": 256, "wide": 2}  # 256 x 256: NVDEC takes HEVC from 144 on
WHOLE = (0, 0, 256, 256)
OPEN_GOP = {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"}
VFR = sorted(random.Random(1).sample(range(4000), 40))
CASES = {
    "h264": lambda: encode(40, **SIZE),
    "h264, B-frames, long GOP": lambda: encode(40, **SIZE, options={"g": "250", "bf": "3"}),
    "h264, open GOP": lambda: encode(40, **SIZE, options=OPEN_GOP),
    "h264 mkv": lambda: encode(40, container="matroska", **SIZE, options={"g": "8"}),
    "h264, variable frame rate": lambda: encode(40, **SIZE, times=VFR, options={"g": "10", "bf": "2"}),
    "h264, late start": lambda: encode(40, **SIZE, start=500),
    "h264, edit list": lambda: shifted(encode(40, **SIZE, options={"g": "8", "bf": "2"}), -0.4),
    "hevc": lambda: encode(40, "libx265", **SIZE, options={"x265-params": "log-level=none:keyint=10:open-gop=1"}),
    "vp9": lambda: encode(40, "libvpx-vp9", "webm", **SIZE, options={"g": "8"}),
}


@pytest.fixture(params=GPU_DECODERS)
def run(request):
    reason = why_not(request.param)
    if reason:
        pytest.skip(reason)

    def decode_all(videos, views, infos=None):
        infos = infos or [probe(video) for video in videos]
        clips, errors = decode_views(videos, views, infos, decoder=request.param)
        return clips.cpu().numpy(), errors

    return decode_all


def numbers(clip) -> list[int]:
    return [number_of(frame) for frame in clip]


@pytest.mark.parametrize("case", CASES)
def test_frames_are_chosen_by_our_table(run, case):
    video = CASES[case]()
    info = probe(video)
    rng = random.Random(0)
    last = info.frames - 1
    draws = [(last, 0, 3, 3), (0, 1, 2, last), *(tuple(rng.randrange(info.frames) for _ in range(4)) for _ in range(8))]
    views = [View("a", draw, WHOLE, False, 128) for draw in draws]
    clips, errors = run([video] * len(views), views)
    assert errors == [None] * len(views)
    assert [numbers(clip) for clip in clips] == [numbers(decode_view(video, view, info=info)) for view in views]


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_frames_are_upright(run, rotation):
    video = encode(4, height=192, wide=2, rotation=rotation)
    view = View("a", (3, 1), (0, 0, 192, 192), False, 128)
    clips, errors = run([video], [view])
    assert errors == [None]
    assert np.abs(clips[0].astype(int) - decode_view(video, view)).mean() <= 1.6


@pytest.mark.parametrize("matrix", [0, 1])
def test_colours_are_those_of_the_standard(run, matrix):
    video = encode(8, **SIZE, coloured=True, matrix=matrix)
    view = ViewSpec(frames=8, size=112).draw("a", 0, 0, probe(video))
    (clip,), errors = run([video], [view])
    assert errors == [None]
    want = np.empty(clip.shape, np.uint8)
    cut_view(exact_frames(video, matrix or 5), view, want)
    off = np.abs(clip.astype(int) - want)
    assert off.mean() <= 1
    assert off.max() <= 4


@pytest.mark.parametrize("heights", [(530, 532, 530), (544, 530, 544)])
def test_nearly_equal_sizes_in_one_process(run, heights):
    """Either right, or refused by name: a decoder that DALI made for 544 rows fits the 544 that 530 are coded as."""
    videos = [encode(4, coloured=True, height=height, wide=2) for height in heights]
    views = [View("a", (0, 3), (0, 0, height, 256), False, 128) for height in heights]
    clips, errors = run(videos, views)
    for video, view, clip, error in zip(videos, views, clips, errors, strict=True):
        if error is None:
            assert np.abs(clip.astype(int) - decode_view(video, view)).mean() <= 1.6
        else:
            assert heights == (544, 530, 544)
            assert "in the same process" in str(error)


def test_a_bad_video_takes_no_other_with_it(run):
    good = encode(40, **SIZE)
    info = probe(good)
    view = View("a", (0, 20, 39), WHOLE, False, 128)
    clips, errors = run([good, b"bad", good[:900], good], [view] * 4, [info] * 4)
    assert [error and error.reason for error in errors] == [None, "container", "truncated", None]
    assert np.array_equal(clips[0], clips[3])
    assert numbers(clips[0]) == [0, 20, 39]
    damaged = good[:1000] + bytes(400) + good[1400:]  # decoders may conceal it, or give up on this one
    again, errors = run([good, damaged, good], [view] * 3, [info] * 3)
    assert errors[0] is None
    assert errors[2] is None
    assert np.array_equal(again[::2], clips[::3])


def test_an_edit_list_of_several_pieces_is_right_or_refused(run):
    video = pieces(shifted(encode(40, **SIZE, options={"g": "8"}), -0.4), [(400, 512 * 12), (400, 512 * 27)])
    view = View("a", tuple(range(probe(video).frames)), WHOLE, False, 128)
    (clip,), (error,) = run([video], [view])
    if error is None:
        assert numbers(clip) == numbers(decode_view(video, view))
    else:
        assert error.reason == "unsupported"


def test_what_nvdec_does_not_take_is_named(run):
    """torchcodec would decode it on the CPU and say nothing."""
    video = encode(8, "libx265", height=64, options={"x265-params": "log-level=none"})  # too small for NVDEC's HEVC
    _, (error,) = run([video], [View("a", (0,), (0, 0, 64, 128), False, 32)])
    assert error is not None
