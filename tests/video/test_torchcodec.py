"""torchcodec gives PyAV's frames, bit for bit, or says why it does not."""

import os
import random
import subprocess
import sys

import av
import numpy as np
import pytest

from fastvid.video import DecodeError, ViewSpec, decode, decode_view, probe
from fastvid.video.decoders import DecoderUnavailable, frame_reader, torchcodec, why_not
from tests.video.clips import encode, number_of, shifted
from tests.video.ffmpeg_of_pyav import link_libraries

REASON = why_not("torchcodec")
loads = pytest.mark.skipif(REASON is not None, reason=str(REASON))
VFR = sorted(random.Random(1).sample(range(4000), 40))
OPEN_GOP = {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"}
ALT_REF = {"auto-alt-ref": "1", "lag-in-frames": "8"}
CASES = {
    "h264 mp4": {},
    "h264, B-frames, long GOP": {"options": {"g": "250", "bf": "3"}},
    "h264, short open GOP": {"options": OPEN_GOP},
    "h264 mkv": {"container": "matroska", "options": {"g": "8"}},
    "h264, variable frame rate": {"times": VFR, "options": {"g": "10", "bf": "2"}},
    "h264 mkv, variable frame rate": {"times": VFR, "container": "matroska", "options": {"g": "10", "bf": "2"}},
    "h264, late start": {"start": 500},
    "h264, turned left": {"count": 6, "rotation": 90},
    "h264, turned right": {"count": 6, "rotation": -90},
    "h264, upside down": {"count": 6, "rotation": 180},
    "h264 with sound": {"audio": True},
    "h264, 66 rows": {"height": 66},
    "hevc mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:open-gop=1"}},
    "vp8 webm": {"codec": "libvpx", "container": "webm", "options": ALT_REF},
    "vp9 webm": {"codec": "libvpx-vp9", "container": "webm", "options": ALT_REF},
    "av1 mp4": {"codec": "libsvtav1", "options": {"preset": "10"}},
}


def same_frames(video: bytes) -> None:
    info = probe(video)
    rng = random.Random(0)
    for indices in (range(info.frames), [info.frames - 1, 0, 3, 3], [rng.randrange(info.frames) for _ in range(12)]):
        ours = decode(video, indices, info=info)
        theirs = decode(video, indices, info=info, decoder="torchcodec")
        assert theirs.dtype == np.uint8
        assert np.array_equal(ours, theirs)


@loads
@pytest.mark.parametrize("case", CASES)
def test_the_frames_are_those_of_pyav(case):
    codec = CASES[case].get("codec", "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode with {codec}")
    same_frames(encode(**CASES[case]))


@loads
@pytest.mark.parametrize("keyint", ["40", "8"])
def test_the_frames_are_those_of_pyav_after_an_edit_list(keyint):
    video = shifted(encode(40, options={"g": keyint, "bf": "2"}), -0.4)
    assert probe(video).frames == 30
    same_frames(video)


@loads
@pytest.mark.parametrize("matrix", [1, 5, 9])
def test_colours_are_read_as_the_file_says(matrix):
    same_frames(encode(6, matrix=matrix, coloured=True))


@loads
def test_a_view_is_the_same():
    video = encode(40)
    view = ViewSpec(frames=8, size=32).draw("a", 0, 0, probe(video))
    assert np.array_equal(decode_view(video, view), decode_view(video, view, decoder="torchcodec"))


@loads
def test_frames_without_times_of_their_own_are_read_by_pyav():
    for video in (
        encode(12, "mpeg4", "avi", options={"bf": "2"}),
        encode(12, "libvpx-vp9", "webm", times=[0, 10, 20, 20, 20, *range(30, 100, 10)]),
    ):
        for index in (4, 1, 11):
            assert number_of(decode(video, [index], decoder="torchcodec")[0]) == index


@loads
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/passwd\n", "container"),
        (encode(40)[:900], "truncated"),
        (encode(40).replace(b"avc1", b"encv"), "corrupt"),
        (encode(30), "frame_count"),
    ],
)
def test_what_it_cannot_use_is_a_decode_error(data, reason):
    info = probe(encode(40))  # as from an index whose file has changed since
    with pytest.raises(DecodeError) as caught:
        decode(data, [0, 35], info=info, decoder="torchcodec")
    assert caught.value.reason == reason


@loads
def test_damage_is_a_decode_error():
    video = bytearray(encode(40, options={"g": "40"}))
    info = probe(bytes(video))
    start, end = video.index(b"mdat"), video.index(b"moov")
    video[(start + end) // 2 : end - 40] = bytes(end - 40 - (start + end) // 2)
    with pytest.raises(DecodeError) as caught:
        decode(bytes(video), range(40), info=info, decoder="torchcodec")
    assert caught.value.reason in ("corrupt", "frame_count")


@loads
def test_a_frame_of_another_time_is_never_handed_out():
    """A table that does not belong to the file, frame for frame."""
    info = probe(encode(40, start=1))
    with pytest.raises(DecodeError, match=r"unsupported: torchcodec shows frame 0 at 0\.0000 s, not 0\.04"):
        decode(encode(40), [0], info=info, decoder="torchcodec")


@loads
def test_the_cache_that_mixes_up_sizes_is_off_on_a_gpu():
    from torchcodec.decoders import get_nvdec_cache_capacity, set_nvdec_cache_capacity

    set_nvdec_cache_capacity(20)
    torchcodec._disable_nvdec_cache.cache_clear()
    torchcodec._disable_nvdec_cache()
    assert get_nvdec_cache_capacity() == 0


@loads
def test_decoding_on_the_cpu_in_place_of_the_gpu_is_noticed(monkeypatch):
    """The frames come from the CPU here as they would after a silent fallback; what torchcodec then says is put in."""
    video = encode(6)
    real = torchcodec._open

    class FellBack:
        def __init__(self, data, info, device):
            self.get_frame_at = real(data, info, "cpu").get_frame_at
            self.cpu_fallback = "Video not supported by NVDEC"

    monkeypatch.setattr(torchcodec, "_open", FellBack)
    with pytest.raises(DecodeError, match=r"unsupported: NVDEC does not take it \(Video not supported by NVDEC\)"):
        torchcodec.decode_on_gpu(video, [0, 3], probe(video), "cuda:0")


@pytest.mark.skipif(REASON is None, reason="torchcodec loads by itself here, and was tested above")
def test_all_of_this_with_the_ffmpeg_that_pyav_brings(tmp_path):
    path = link_libraries(tmp_path)
    if path is None:
        pytest.skip(f"{REASON}; and this PyAV brings no libraries of its own")
    environment = {**os.environ, "LD_LIBRARY_PATH": path}
    load = [sys.executable, "-c", "import torchcodec, sys; sys.exit(torchcodec.ffmpeg_major_version is None)"]
    if subprocess.run(load, env=environment, check=False, capture_output=True).returncode:
        pytest.skip(f"{REASON}; nor does it load PyAV's libraries")
    again = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(again, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-4000:]
    assert "1 skipped" in done.stdout.splitlines()[-1]  # this test alone


def test_a_decoder_that_cannot_run_is_refused_in_a_sentence():
    with pytest.raises(ValueError, match="no decoder 'decord': choose one of pyav, torchcodec, dali, torchcodec-cuda"):
        decode(encode(3), [0], decoder="decord")
    with pytest.raises(ValueError, match=r"'dali' .*decode_views.*pyav or torch"):
        frame_reader("dali")
    if REASON is not None:
        with pytest.raises(DecoderUnavailable, match=r"'torchcodec' cannot be used: .*install"):
            decode(encode(3), [0], decoder="torchcodec")
