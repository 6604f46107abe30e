"""DALI's frames and pixels, for real on the CPU, which decodes VP8 and VP9; tests/gpu has the rest."""

import dataclasses
import random

import numpy as np
import pytest
import torch

from fastvid.video import DecodeError, View, ViewSpec, cut_view, decode, decode_view, probe
from fastvid.video import batch_decode as batch
from fastvid.video.batch_decode import decode_views
from fastvid.video.decoders import DecoderUnavailable, dali, why_not
from tests.video.clips import encode, number_of, pieces, shifted
from tests.video.exact_colours import exact_frames

REASON = why_not("dali", "cpu")
pytestmark = pytest.mark.skipif(REASON is not None, reason=str(REASON))
WHOLE = (0, 0, 64, 128)
VFR = sorted(random.Random(1).sample(range(4000), 40))
VP9 = {"codec": "libvpx-vp9", "container": "webm"}


def vp9_mp4(**options) -> bytes:
    return encode(40, "libvpx-vp9", "mp4", **options)


CASES = {
    "vp9 webm": lambda: encode(40, **VP9, options={"auto-alt-ref": "1", "lag-in-frames": "8"}),
    "vp8 webm": lambda: encode(40, "libvpx", "webm", options={"auto-alt-ref": "1", "lag-in-frames": "8", "g": "8"}),
    "vp9 mkv": lambda: encode(40, "libvpx-vp9", "matroska", options={"g": "10"}),
    "vp9 with sound": lambda: encode(40, **VP9, audio=True),
    "variable frame rate": lambda: encode(40, **VP9, times=VFR, options={"g": "8"}),
    "variable frame rate, mp4": lambda: vp9_mp4(times=VFR, options={"g": "8"}),
    "late start": lambda: vp9_mp4(start=500, options={"g": "8"}),
    "edit list": lambda: shifted(vp9_mp4(options={"g": "8"}), -0.4),
    "edit list inside the only GOP": lambda: shifted(vp9_mp4(options={"g": "40"}), -0.4),
    "edit list of two pieces": lambda: pieces(shifted(vp9_mp4(), -0.4), [(400, 512 * 10), (400, 512 * 25)]),
}


def decode_all(videos, views):
    return decode_views(videos, views, [probe(video) for video in videos], decoder="dali", device="cpu")


@pytest.mark.parametrize("case", CASES)
def test_frames_are_chosen_by_our_table(case):
    video = CASES[case]()
    info = probe(video)
    want = [number_of(frame) for frame in decode(video, range(info.frames), info=info)]
    rng = random.Random(0)
    last = info.frames - 1
    draws = [(last, 0, 3, 3), (0, 1, 2, last), *(tuple(rng.randrange(info.frames) for _ in range(4)) for _ in range(8))]
    views = [View("a", draw, WHOLE, False, 128) for draw in draws]
    clips, errors = decode_all([video] * len(views), views)
    assert errors == [None] * len(views)
    assert [[number_of(frame) for frame in clip] for clip in clips.numpy()] == [[want[i] for i in d] for d in draws]


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_frames_are_upright(rotation):
    video = encode(4, "libvpx-vp9", "mp4", rotation=rotation)
    view = View("a", (3, 1), (0, 0, 64, 64), False, 64)
    clips, errors = decode_all([video], [view])
    assert errors == [None]
    assert np.array_equal(clips[0].numpy(), decode_view(video, view))


def test_grey_pixels_are_those_of_pyav_at_native_size_and_near_them_after_a_resize():
    video = encode(8, **VP9)
    info = probe(video)
    native = View("a", (0, 5, 7), (0, 9, 64, 64), True, 64)
    clips, _ = decode_all([video], [native])
    assert np.array_equal(clips[0].numpy(), decode_view(video, native))
    spec = ViewSpec(frames=8, size=40)
    views = [spec.draw("a", 0, draw, info) for draw in range(6)]
    clips, _ = decode_all([video] * 6, views)
    off = clips.int() - torch.from_numpy(np.stack([decode_view(video, view) for view in views])).int()
    assert off.abs().max() <= 1


@pytest.mark.parametrize("matrix", [0, 1, 5, 9])
def test_colours_are_those_of_the_standard(matrix):
    """DALI itself takes everything for BT.601. PyAV's fast conversion is darker by one to two levels."""
    video = encode(8, **VP9, coloured=True, matrix=matrix)
    exact = exact_frames(video, matrix or 5)
    view = ViewSpec(frames=8, size=40).draw("a", 0, 0, probe(video))
    (clip,), errors = decode_all([video], [view])
    assert errors == [None]
    want = np.empty(clip.shape, np.uint8)
    cut_view(exact, view, want)
    off = np.abs(clip.numpy().astype(int) - want)
    assert off.mean() <= 1
    assert off.max() <= 4
    assert abs((clip.numpy() - want.astype(int)).mean()) < 0.2  # rounded, not cut off
    from_pyav = np.abs(clip.numpy().astype(int) - decode_view(video, view))
    assert from_pyav.mean() <= 1.6
    assert from_pyav.max() <= 10


def test_two_nearly_equal_sizes_in_one_process():
    videos = [encode(4, **VP9, coloured=True, height=height) for height in (530, 532, 530)]
    views = [View("a", (0, 3), (0, 0, probe(video).height, 128), False, 64) for video in videos]
    together, errors = decode_all(videos, views)
    assert errors == [None] * 3
    for video, view, clip in zip(videos, views, together, strict=True):
        off = np.abs(clip.numpy().astype(int) - decode_view(video, view))
        assert off.mean() <= 1.6
        assert off.max() <= 10
        assert torch.equal(clip, decode_all([video], [view])[0][0])


def test_a_bad_video_takes_no_other_with_it(monkeypatch):
    good = encode(40, **VP9, options={"g": "40"})
    info = probe(good)
    damaged = bytearray(vp9_mp4(options={"g": "40", "crf": "5", "b": "4M"}))
    start = damaged.index(b"mdat")
    damaged[start + 300 : start + 340] = bytes(b ^ 0x5A for b in damaged[start + 300 : start + 340])
    view = View("a", (0, 20, 39), WHOLE, False, 128)
    missing = View("a", (0, 20, 50), WHOLE, False, 128)
    videos = [good, bytes(damaged), good, b"hello", good, encode(40), good[:800], good]
    views = [view, view, missing, view, view, view, view, view]
    infos = [info, probe(videos[1]), info, info, info, probe(videos[5]), info, info]
    clips, errors = decode_views(videos, views, infos, decoder="dali", device="cpu")
    reasons = [None, "corrupt", "corrupt", "container", None, "unsupported", "truncated", None]
    assert [error and error.reason for error in errors] == reasons
    for clip, error in zip(clips.numpy(), errors, strict=True):
        if error is None:
            assert [number_of(frame) for frame in clip] == [0, 20, 39]
        else:
            assert isinstance(error, DecodeError)
            assert not clip.any()
    assert "DALI does not decode h264 on cpu; use pyav" in str(errors[5])
    # and the next batch, decoded in parts, is as if nothing had been
    monkeypatch.setattr(batch, "_NATIVE_BYTES", 2 * 3 * 64 * 128 * 3)
    again, errors = decode_all([good] * 5, [view] * 5)
    assert errors == [None] * 5
    assert torch.equal(again, clips[:1].expand(5, -1, -1, -1, -1))


def test_what_it_would_get_wrong_is_refused():
    times = [0, 10, 20, 20, 20, *range(30, 100, 10)]
    view = View("a", (0, 4), WHOLE, False, 64)
    clips, (error,) = decode_all([encode(12, **VP9, times=times)], [view])
    assert "unsupported: DALI needs a presentation time of its own" in str(error)
    full_range = encode(12, **VP9, matrix=1, full_range=True)
    assert probe(full_range).colours.full_range
    clips, (error,) = decode_all([full_range], [view])
    assert "unsupported: DALI would change the colours" in str(error)
    assert not clips.any()


def test_sizes_that_nvdec_would_take_for_one_another_are_refused(monkeypatch):
    monkeypatch.setattr(dali, "_sizes", set())
    plain = probe(encode(2))

    def check(codec: str, width: int, height: int) -> None:
        dali._check_size(dataclasses.replace(plain, codec=codec, width=width, height=height))

    for codec, width, height in (("h264", 1280, 530), ("h264", 1280, 532), ("h264", 1280, 544), ("hevc", 1280, 530)):
        check(codec, width, height)  # 544 is the first that one coded as 544 x 1280 could be taken for
    for codec, width, height in (("h264", 1280, 530), ("h264", 1276, 544)):
        with pytest.raises(DecodeError, match=f"after a video of 1280 x 544, DALI may cut one of {width} x {height}"):
            check(codec, width, height)
    check("h264", 1280, 544)


def test_a_device_that_fails_is_no_fault_of_the_videos(monkeypatch):
    def out_of_memory(*arguments):
        raise RuntimeError("An error happened") from RuntimeError("CUDA runtime API error cudaErrorMemoryAllocation")

    monkeypatch.setattr(dali, "_run", out_of_memory)
    with pytest.raises(RuntimeError, match="An error happened"):
        decode_all([encode(4, **VP9)] * 2, [View("a", (0,), WHOLE, False, 64)] * 2)


def test_calls_that_make_no_sense_are_refused():
    video = encode(4, **VP9)
    info = probe(video)
    view, other = View("a", (0,), WHOLE, False, 64), View("a", (0,), WHOLE, False, 32)
    with pytest.raises(ValueError, match="same size"):
        decode_views([video] * 2, [view, other], [info] * 2, decoder="dali", device="cpu")
    with pytest.raises(ValueError, match="1 videos, 2 views, 1 infos"):
        decode_views([video], [view, view], [info], decoder="dali", device="cpu")
    with pytest.raises(ValueError, match=r"'torchcodec-cuda' .* cpu"):
        decode_views([video], [view], [info], decoder="torchcodec-cuda", device="cpu")
    with pytest.raises(ValueError, match=r"'pyav' .*decode_view"):
        decode_views([video], [view], [info], decoder="pyav")
    if not torch.cuda.is_available():
        with pytest.raises(DecoderUnavailable, match=r"'dali' cannot be used: .*GPU"):
            decode_views([video], [view], [info], decoder="dali")
