import io
import os
import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest

from fastvid.data.__main__ import main
from fastvid.video import DecodeError, decode, probe
from fastvid.video.decoders import why_not
from fastvid.video.transcode import Normalisation, transcode
from fastvid.video.verify import verified_metadata, verify
from tests.video.clips import encode, number_of
from tests.video.containers import joined


def painted(count, height, width, codec, container, pix_fmt, *, source="rgb24", tag=None, options=None):
    """A video of smooth colours that move."""
    file = io.BytesIO()
    y, x = np.mgrid[:height, :width]
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt, stream.options = height, width, pix_fmt, options or {}
        if tag is not None:
            stream.codec_context.colorspace = tag
        for i in range(count):
            image = np.stack([x * 255 // width, y * 255 // height, (x + y + 8 * i) % 256 // 2 + 60], 2).astype(np.uint8)
            if source == "rgba":
                image = np.concatenate([image, np.full((height, width, 1), 40, np.uint8)], 2)
            frame = av.VideoFrame.from_ndarray(image, format=source)
            frame.pts, frame.time_base = i, Fraction(1, 25)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def numbers(video):
    return [number_of(frame) for frame in decode(video, range(probe(video).frames))]


def test_the_form_is_the_one_promised():
    video = transcode(encode(40, "libvpx-vp9", "webm", audio=True))
    with av.open(io.BytesIO(video)) as container:
        assert [stream.type for stream in container.streams] == ["video"]
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        packets = [packet for packet in container.demux(stream) if packet.size]
    keys = [i for i, packet in enumerate(packets) if packet.is_keyframe]
    assert keys == [0, 12, 24, 36]
    for key, end in zip(keys, [*keys[1:], len(packets)], strict=True):  # closed: nothing is shown before its key frame
        assert min(packet.pts for packet in packets[key:end]) == packets[key].pts
    assert 0 < video.find(b"moov") < video.find(b"mdat")
    info = probe(video)
    assert (info.frames, info.fps) == (40, 25.0)
    assert len(set(np.diff(info.pts))) == 1
    assert numbers(video) == list(range(40))
    verify(video, info)


def test_the_same_bytes_each_time():
    video = encode(20)
    assert transcode(video) == transcode(video)


def test_a_variable_rate_is_resampled_by_the_rule():
    times = [0, 10, 30, 60, 70, 80, 200, 210]
    video = encode(8, times=times)
    info = probe(video)
    for fps in (10, 50, 100):
        starts = [int(t / 1000 * fps + 0.5) for t in times]
        count = max(1, int(info.duration * fps + 0.5))
        starts = [min(start, count - 1) for start in starts]
        expected = [max(i for i, start in enumerate(starts) if start <= k) for k in range(count)]
        assert numbers(transcode(video, Normalisation(fps=fps))) == expected
    assert probe(transcode(video)).fps == round(info.fps)


@pytest.mark.parametrize(("fps", "count"), [(50, 80), (10, 16), (1, 2)])
def test_a_constant_rate_keeps_its_duration(fps, count):
    video = transcode(encode(40), Normalisation(fps=fps))
    assert probe(video).frames == count
    assert numbers(video)[-1] == 39


def test_the_first_time_does_not_matter():
    assert numbers(transcode(encode(10, "libx264", "matroska", start=1000))) == list(range(10))


@pytest.mark.parametrize("rotation", [90, 180, -90])
def test_turned_upright(rotation):
    video = encode(6, rotation=rotation)
    result = transcode(video)
    assert probe(result).rotation == 0
    before, after = decode(video, range(6)), decode(result, range(6))
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).mean() < 2


@pytest.mark.parametrize(
    ("codec", "container", "pix_fmt", "options"),
    [
        ("libx264", "mp4", "yuv420p", {"crf": "10"}),
        ("libx264", "mp4", "yuv444p", {"crf": "10"}),
        ("libx265", "mp4", "yuv420p10le", {"x265-params": "log-level=none:crf=10"}),
        ("ffv1", "matroska", "yuv422p10le", {}),
        ("mjpeg", "avi", "yuvj420p", {"q": "2"}),
    ],
)
def test_pixels_stay_what_they_were(codec, container, pix_fmt, options):
    video = painted(4, 96, 128, codec, container, pix_fmt, options=options)
    before, after = decode(video, range(4)), decode(transcode(video, Normalisation(crf=8)), range(4))
    assert before.shape == after.shape
    assert np.abs(before.astype(int) - after).mean() < 3


@pytest.mark.parametrize("tag", [None, 1, 5, 9])  # nothing said, BT.709, BT.601, BT.2020
def test_the_matrix_becomes_that_of_bt601(tag):
    video = painted(2, 96, 128, "libx264", "mp4", "yuv420p", tag=tag, options={"crf": "8"})
    result = transcode(video, Normalisation(crf=8))
    before, after = decode(video, [0, 1]), decode(result, [0, 1])
    assert np.abs(before.astype(int) - after).mean() < 2  # taking one matrix for the other costs 4 and more
    with av.open(io.BytesIO(result)) as container:
        frame = next(container.decode(video=0))
    assert (frame.colorspace, frame.color_range) == (6, 1)


def test_alpha_is_dropped_as_decoding_does():
    video = painted(3, 64, 80, "png", "mov", "rgba", source="rgba")
    before, after = decode(video, range(3)), decode(transcode(video, Normalisation(crf=8)), range(3))
    assert np.abs(before.astype(int) - after).mean() < 3


@pytest.mark.parametrize(
    ("height", "width", "short", "expected"),
    [(63, 101, 256, (64, 100)), (101, 63, 32, (52, 32)), (96, 128, 64, (64, 86)), (1, 9, 256, (2, 8))],
)
def test_sizes_are_even_and_never_enlarged(height, width, short, expected):
    video = painted(2, height, width, "ffv1", "matroska", "yuv420p")
    assert probe(transcode(video, Normalisation(short_side=short))).upright_size == expected


def test_one_frame():
    assert numbers(transcode(encode(1))) == [0]


def test_no_times_in_the_file():
    video = encode(8, "mpeg4", "avi")
    assert probe(transcode(video)).frames == 8


def test_what_cannot_be_decoded_is_refused():
    video = encode(60, options={"g": "12"})
    start = video.find(b"mdat") + 200
    broken = video[:start] + bytes(len(video[start:-1500])) + video[-1500:]
    with pytest.raises(DecodeError) as caught:
        transcode(broken)
    assert caught.value.reason in ("corrupt", "frame_count")
    with pytest.raises(DecodeError):
        verify(broken, probe(broken))


def test_too_many_frames_at_a_high_rate():
    video = encode(2, times=[0, 3_600_000])
    with pytest.raises(DecodeError, match="limit"):
        transcode(video, Normalisation(fps=1000))


@pytest.mark.parametrize("bad", [{"short_side": 255}, {"short_side": 0}, {"fps": 0}, {"fps": 100000}])
def test_impossible_wishes_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        Normalisation(**bad)


def test_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    for count in (10, 120):
        path = tmp_path / f"{count}.mp4"
        path.write_bytes(encode(count, height=2160, options={"preset": "ultrafast"}))
        done = subprocess.run([sys.executable, "-c", PEAK, str(path)], capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
    assert peaks[1] - peaks[0] < 30_000  # kB; the frames are 100 MB of RGB


PEAK = """
import pathlib, sys
from fastvid.video.transcode import transcode
transcode(pathlib.Path(sys.argv[1]).read_bytes())
print(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""


@pytest.mark.parametrize(
    "video",
    [
        encode(30, options={"bf": "2"}),
        encode(20, "libvpx-vp9", "webm"),
        encode(5, "libvpx", "webm"),
        encode(9, "mpeg4", "avi"),
    ],
)
def test_sound_videos_are_verified(video):
    verify(video, probe(video))


def test_the_same_video_gives_the_same_bytes_again_and_again():
    """Whatever lies in the memory that the encoder is given."""
    video = encode(12, coloured=True, wide=2, height=128)
    normal = Normalisation(short_side=64)
    first = transcode(video, normal)
    for k in range(20):
        junk = [os.urandom(4096 * (k % 7 + 1)) for _ in range(50)]
        del junk
        assert transcode(video, normal) == first


PLAIN_VP8 = {"auto-alt-ref": "0"}
CHANGES = {
    "vp8 webm, twice as large": lambda: joined(
        encode(10, "libvpx", "webm", options=PLAIN_VP8),
        encode(10, "libvpx", "webm", options=PLAIN_VP8, height=128, wide=2, start=10),
        container="webm",
    ),
    "vp8 webm, another shape": lambda: joined(
        encode(10, "libvpx", "webm", options=PLAIN_VP8),
        encode(10, "libvpx", "webm", options=PLAIN_VP8, height=96),
        container="webm",
    ),
    "mpeg4 avi, smaller": lambda: joined(
        encode(10, "mpeg4", "avi", height=96), encode(10, "mpeg4", "avi", height=48), container="avi"
    ),
    "mjpeg mov, another layout": lambda: joined(
        painted(10, 64, 128, "mjpeg", "mov", "yuvj420p"),
        painted(10, 64, 128, "mjpeg", "mov", "yuvj444p"),
        container="mov",
    ),
}


@pytest.mark.parametrize("name", CHANGES)
def test_frames_of_several_sizes_become_one(name):
    video = CHANGES[name]()
    info = probe(video)
    assert info.frames == 20
    for made in (transcode(video), transcode(video, Normalisation(short_side=32), info=info)):
        found = probe(made)
        verify(made, found)
        assert found.frames == 20
    if "mjpeg" not in name:
        made = transcode(video, Normalisation(fps=25))
        assert probe(made).upright_size == info.upright_size
        shown = numbers(made)  # webm does not say how long the last frame is shown
        assert (shown[:18], shown[-1]) == ([*range(10), *range(8)], 9)


@pytest.mark.parametrize("name", [name for name in CHANGES if "mjpeg" not in name])
@pytest.mark.parametrize("decoder", ["pyav", "torchcodec"])
def test_frames_of_several_sizes_are_refused_with_the_way_out(name, decoder):
    if why_not(decoder):
        pytest.skip(why_not(decoder))
    video = CHANGES[name]()
    info = probe(video)
    words = rf"^corrupt: frame 1\d is \d+ x \d+ in a video of {info.width} x {info.height}, .*pack --transcode"
    for refuse in (lambda: decode(video, [4, 12], info=info, decoder=decoder), lambda: verify(video, info)):
        with pytest.raises(DecodeError, match=words):
            refuse()
    with pytest.raises(DecodeError, match=r"^corrupt: frame 10 is"):
        verified_metadata(video, info)


@pytest.mark.parametrize("codec", ["libvpx", "libx264", "mpeg2video"])  # FFmpeg loses a frame of the last
def test_pack_transcodes_what_it_refuses_otherwise(tmp_path, codec, capsys):
    (tmp_path / "src").mkdir()
    container = "webm" if codec == "libvpx" else "avi"
    options = {"g": "5"} if codec == "libvpx" else {"g": "5", "bf": "0"}
    video = joined(*(encode(10, codec, container, options=options, height=h) for h in (64, 96)), container=container)
    (tmp_path / f"src/a.{container}").write_bytes(video)
    arguments = ["pack", str(tmp_path / "src"), "--jobs", "0", "--out"]
    assert main([*arguments, str(tmp_path / "one")]) == 2
    assert f"frame {9 if codec == 'mpeg2video' else 10} is 128 x 96 in a video of 128 x 64" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "two"), "--transcode"]) == 0
    assert main(["check", str(tmp_path / "two"), "--jobs", "0"]) == 0
