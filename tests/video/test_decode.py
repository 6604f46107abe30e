import io
import pickle
import random
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest

from fastvid.video import DecodeError, Limits, decode, probe
from fastvid.video.container import has_several_edits
from fastvid.video.decoders import pyav
from tests.video.clips import encode, number_of, numbered_frame, pieces, shifted, sound_alone

CASES = {
    "h264 mp4": {},
    "h264 mp4, B-frames, long GOP": {"options": {"g": "250", "bf": "3"}},
    "h264 mp4, short open GOP": {"options": {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"}},
    "h264 mov": {"container": "mov"},
    "h264 mkv": {"container": "matroska", "options": {"g": "8"}},
    "hevc mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=10:open-gop=1"}},
    "vp8 webm": {"codec": "libvpx", "container": "webm", "options": {"auto-alt-ref": "1", "lag-in-frames": "8"}},
    "vp9 webm": {"codec": "libvpx-vp9", "container": "webm", "options": {"auto-alt-ref": "1", "lag-in-frames": "8"}},
    "av1 webm": {
        "codec": "libsvtav1",
        "container": "webm",
        "options": {"preset": "10", "svtav1-params": "logical-processors=1"},
    },
    "av1 mp4": {"codec": "libsvtav1", "options": {"preset": "10"}},
    "mpeg4 avi": {"codec": "mpeg4", "container": "avi", "options": {"bf": "2", "q:v": "3"}},
    "h264 with sound": {"audio": True},
    "h264 mp4, late start": {"start": 500},
}


@pytest.fixture(scope="module", params=CASES)
def video(request) -> bytes:
    arguments = dict(CASES[request.param])
    codec = arguments.get("codec", "libx264")
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode with {codec}")
    return encode(**arguments)


def test_frames_are_those_asked_for(video):
    info = probe(video)
    assert info.frames == 40
    assert info.upright_size == (64, 128)
    rng = random.Random(0)
    for indices in ([0], [39], [20, 3, 3, 39, 0], range(40), [rng.randrange(40) for _ in range(12)], [17], [12, 38]):
        clip = decode(video, indices, info=info)
        assert clip.shape == (len(indices), 64, 128, 3)
        assert [number_of(frame) for frame in clip] == list(indices)


def test_jumping_gives_the_same_pixels_as_reading_through(video):
    everything = decode(video, range(40))
    for index in (5, 13, 25, 39):
        assert np.array_equal(decode(video, [index])[0], everything[index])


@pytest.mark.parametrize("container", ["mp4", "mov", "matroska"])
def test_a_jump_lands_on_the_last_key_frame(container, monkeypatch):
    video = encode(40, container=container, options={"g": "8", "bf": "3"})
    read = []
    plain = pyav._Reader._next
    monkeypatch.setattr(pyav._Reader, "_next", lambda self, wanted: read.append(wanted) or plain(self, wanted))
    assert [number_of(frame) for frame in decode(video, [34, 2])] == [34, 2]
    assert len(read) == 3 + 3  # frames 0 to 2 and, from the key frame, 32 to 34


def test_variable_frame_rate_goes_by_presentation_time():
    times = sorted(random.Random(1).sample(range(4000), 40))
    video = encode(times=times, options={"g": "10", "bf": "2"})
    info = probe(video)
    assert [number_of(f) for f in decode(video, [39, 0, 7, 21])] == [39, 0, 7, 21]
    np.testing.assert_allclose(info.times, (np.array(times) - times[0]) / 1000, atol=2e-3)


def test_an_edit_list_hides_what_it_cuts():
    """Stream-copying from the middle of a GOP leaves frames in the file that must not be shown."""
    video = shifted(encode(40, options={"g": "40", "bf": "2"}), -0.4)  # ten frames begin before zero
    info = probe(video)
    shown = [number_of(f) for f in decode(video, range(info.frames))]
    assert shown == list(range(40 - info.frames, 40))
    assert [number_of(f) for f in decode(video, [0, 5])] == [shown[0], shown[5]]


def test_an_edit_list_of_several_pieces_joins_them():
    video = shifted(encode(40, options={"g": "8", "bf": "2"}), -0.4)
    assert not has_several_edits(video)
    video = pieces(video, [(400, 512 * 12), (400, 512 * 27)])
    assert has_several_edits(video)
    info = probe(video)
    assert [number_of(f) for f in decode(video, range(info.frames))] == [*range(10, 20), *range(25, 35)]


@pytest.mark.parametrize("rotation", [90, -90, 180])
def test_rotation_metadata_is_honoured(rotation):
    video = encode(3, rotation=rotation)
    info = probe(video)
    assert info.upright_size == ((128, 64) if rotation % 180 else (64, 128))
    frame = decode(video, [2])[0]
    assert frame.shape[:2] == info.upright_size
    upright = np.rot90(numbered_frame(2), round(rotation / 90))
    assert np.abs(frame.astype(int) - upright).mean() < 12


def test_the_best_of_several_video_streams_is_the_one():
    """A cover picture is a video stream too; the film is wanted."""
    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        small, large = out.add_stream("mpeg4", rate=25), out.add_stream("libx264", rate=25)
        small.height, small.width, small.pix_fmt = 32, 32, "yuv420p"
        large.height, large.width, large.pix_fmt = 64, 128, "yuv420p"
        out.mux(small.encode(av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")))
        out.mux(small.encode())
        for i in range(20):
            out.mux(large.encode(av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24")))
        out.mux(large.encode())
    video = file.getvalue()
    assert probe(video).codec == "h264"
    assert probe(encode(4, "libsvtav1", "webm", options=CASES["av1 webm"]["options"])).codec == "av1"
    assert number_of(decode(video, [5])[0]) == 5


@pytest.mark.parametrize("container", ["mp4", "matroska", "avi"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_cut_short_is_named_so(container, share):
    codec = "mpeg4" if container == "avi" else "libx264"
    video = encode(40, codec, container)
    with pytest.raises(DecodeError) as caught:
        probe(video[: int(len(video) * share)])
    assert caught.value.reason == "truncated"
    assert "missing" in caught.value.detail


def test_damage_inside_is_found_when_it_is_decoded():
    video = bytearray(encode(40, options={"g": "40"}))
    start, end = video.index(b"mdat"), video.index(b"moov")
    video[(start + end) // 2 : end - 40] = bytes(end - 40 - (start + end) // 2)
    with pytest.raises(DecodeError) as caught:
        decode(bytes(video), range(40))
    assert caught.value.reason in ("corrupt", "frame_count")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "container"),
        (b"hello", "container"),
        (b"#EXTM3U\n#EXT-X-TARGETDURATION:1\nfile:///etc/passwd\n", "container"),
        (b"\x00\x00\x00\x10ftypisom\x00\x00\x00\x00", "container"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), "container"),
        (random.Random(0).randbytes(5000), "container"),
    ],
)
def test_what_is_no_video_is_named_so(data, reason):
    with pytest.raises(DecodeError) as caught:
        probe(data)
    assert caught.value.reason == reason


def test_sound_alone_is_no_video():
    with pytest.raises(DecodeError, match="no_video"):
        probe(sound_alone())


@pytest.mark.parametrize(
    ("limits", "word"),
    [
        (Limits(bytes=100), "bytes"),
        (Limits(pixels=128 * 64 - 1), "pixels per frame \\(128 x 64\\)"),
        (Limits(frames=39), "frames"),
        (Limits(seconds=1.5), "seconds"),
    ],
)
def test_limits_are_enforced_before_decoding(limits, word):
    video = encode(40)
    with pytest.raises(DecodeError, match=f"limit: .*{word}"):
        probe(video, limits)


def test_an_index_outside_is_an_error_of_the_caller():
    video = encode(4)
    with pytest.raises(IndexError, match="frame 4 of a video with 4 frames"):
        decode(video, [4])


def test_nothing_asked_for_is_nothing():
    assert decode(encode(4), []).shape == (0, 64, 128, 3)


def test_decoding_needs_no_torch():
    modules = "fastvid.video, fastvid.video.batch_decode, fastvid.video.decoders.dali, fastvid.video.measure_decoders"
    code = f"import sys, {modules}, fastvid.video.decoders.torchcodec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_errors_survive_the_trip_between_processes():
    error = pickle.loads(pickle.dumps(DecodeError("corrupt", "frame 3")))
    assert (error.reason, error.detail, str(error)) == ("corrupt", "frame 3", "corrupt: frame 3")


SHARED = Path(__file__).resolve().parents[3] / "shared" / "videos"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no sample videos beside the repository")
def test_real_files_decode_as_reading_through_does():
    bad = []
    for path in sorted(SHARED.iterdir()):
        data = path.read_bytes()
        try:
            info = probe(data)
            clip = decode(data, [0, info.frames // 2, info.frames - 1], info=info)
        except DecodeError as error:
            bad.append((path.name, error.reason))
            continue
        with av.open(str(path)) as container:
            frames = [f.to_ndarray(format="rgb24") for f in container.decode(container.streams.best("video"))]
        assert len(frames) == info.frames
        assert np.array_equal(clip[1], frames[info.frames // 2])
        assert np.array_equal(clip[2], frames[-1])
    assert bad == [("corrupted.mp4", "corrupt")]


def test_a_codec_nobody_decodes_is_named_so():
    """As in a file with digital rights management, whose sample entry is encv."""
    data = encode(12)
    assert data.count(b"avc1") >= 1
    with pytest.raises(DecodeError) as caught:
        probe(data.replace(b"avc1", b"encv"))
    assert caught.value.reason == "codec"
