"""Every frame of every container and codec is the one that decoding from the beginning hands out at its place."""

import importlib
import io
import random
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from fastvid.data.shards.entry import Entry
from fastvid.video import DecodeError, VideoMetadata, ViewSpec, decode, decode_view, probe
from fastvid.video.container import container_format
from fastvid.video.decoders import pyav, why_not
from fastvid.video.transcode import Normalisation, transcode
from fastvid.video.verify import verified_metadata, verify
from tests.video.clips import encode, number_of, numbered_frame, shifted
from tests.video.containers import NOT_CODED, packed_bitstream, remuxed, second_key_frame, without_boxes

probing = importlib.import_module("fastvid.video.probe")  # the package's function of this name hides the module
X264 = {
    "no B": {"bf": "0", "g": "12"},
    "B": {"bf": "2", "g": "12"},
    "open": {"x264-params": "open-gop=1:keyint=6:min-keyint=6:bframes=3:scenecut=0"},
}
X265 = {
    "no B": {"x265-params": "log-level=none:keyint=10:bframes=0"},
    "B": {"x265-params": "log-level=none:keyint=10:bframes=2:open-gop=0"},
    "open": {"x265-params": "log-level=none:keyint=10:bframes=3:open-gop=1"},
}
INTRA = {
    "libx264": {"g": "1", "bf": "0"},
    "libx265": {"x265-params": "log-level=none:keyint=1"},
    "mpeg4": {"g": "1", "q:v": "3"},
    "mpeg2video": {"g": "1", "q:v": "3"},
    "libvpx": {"g": "1"},
    "libvpx-vp9": {"g": "1"},
}
INTRA_CONTAINERS = {
    "libx265": ("mp4", "mov", "matroska"),
    "libvpx": ("matroska", "webm", "avi"),
    "libvpx-vp9": ("mp4", "webm"),
}
MPEG2 = {"no B": {"bf": "0", "g": "12", "q:v": "3"}, "B": {"bf": "2", "g": "12", "q:v": "3"}}
MPEG4 = {"no B": {"bf": "0", "g": "12", "q:v": "3"}, "B": {"bf": "2", "g": "12", "q:v": "3"}}
HIDDEN = {"auto-alt-ref": "1", "lag-in-frames": "8", "g": "12"}


def made(codec: str, container: str, options: dict[str, str]) -> Callable[[], bytes]:
    return lambda: encode(codec=codec, container=container, options=options)


def cut_before_a_key_frame(codec: str, options: dict[str, str]) -> bytes:
    """A stream copy that begins with a key frame and the B-frames before it, which nobody can decode."""
    video = encode(codec=codec, container="matroska", options=options)
    return remuxed(video, first=second_key_frame(video))


def with_palette(container: str, codec: str, moving: bool) -> bytes:
    """Frames of two colours, the darker of which may become lighter from frame to frame."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as out:
        stream = out.add_stream(codec, rate=25)
        stream.height, stream.width, stream.pix_fmt = 64, 128, "pal8"
        for index in range(40):
            palette = np.zeros((256, 4), np.uint8)
            palette[:, 0] = 255  # alpha
            palette[10, 1:], palette[11, 1:] = 3 * index * moving, (255, 200, 160)
            colours = 10 + numbered_frame(index)[..., 0] // 255
            frame = av.VideoFrame.from_ndarray((colours, palette), format="pal8")
            frame.pts = index
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


CASES: dict[str, Callable[[], bytes]] = {
    f"{codec} {kind} {container}": made(codec, container, options)
    for codec, kinds, containers in (
        ("libx264", X264, ("mp4", "mov", "matroska", "avi")),
        ("libx265", X265, ("mp4", "mov", "matroska")),
        ("mpeg4", MPEG4, ("mp4", "mov", "matroska", "avi")),
        ("mpeg2video", MPEG2, ("mp4", "mov", "matroska", "avi")),
        ("mpeg1video", MPEG2, ("mov", "matroska", "avi")),
    )
    for kind, options in kinds.items()
    for container in containers
}
CASES |= {
    f"{codec} intra {container}": made(codec, container, options)
    for codec, options in INTRA.items()
    for container in INTRA_CONTAINERS.get(codec, ("mp4", "mov", "matroska", "avi"))
}
CASES |= {
    "vp8 webm": made("libvpx", "webm", HIDDEN),
    "vp8 mkv": made("libvpx", "matroska", HIDDEN),
    "vp9 webm": made("libvpx-vp9", "webm", HIDDEN),
    "vp9 mp4": made("libvpx-vp9", "mp4", HIDDEN),
    "av1 webm": made("libsvtav1", "webm", {"preset": "10", "svtav1-params": "logical-processors=1:keyint=12"}),
    "av1 mp4": made("libsvtav1", "mp4", {"preset": "10", "svtav1-params": "logical-processors=1:keyint=12"}),
    "h264 B mp4, no ctts": lambda: without_boxes(encode(options=X264["B"]), b"ctts"),
    "h264 open mov, no ctts": lambda: without_boxes(encode(container="mov", options=X264["open"]), b"ctts"),
    "hevc B mp4, no ctts": lambda: without_boxes(encode(codec="libx265", options=X265["B"]), b"ctts"),
    "mpeg4 B mp4, no ctts": lambda: without_boxes(encode(codec="mpeg4", options=MPEG4["B"]), b"ctts"),
    "h264 B mp4, no edts": lambda: without_boxes(encode(options=X264["B"]), b"edts"),
    "h264 B mp4, no ctts, no edts": lambda: without_boxes(encode(options=X264["B"]), b"ctts", b"edts"),
    "h264 B mp4, no stss": lambda: without_boxes(encode(options=X264["B"]), b"stss"),
    "h264 no B mp4, no stss": lambda: without_boxes(encode(options=X264["no B"]), b"stss"),
    "mpeg4 no B mp4, no stss": lambda: without_boxes(encode(codec="mpeg4", options=MPEG4["no B"]), b"stss"),
    "vp9 mp4, no stss": lambda: without_boxes(encode(codec="libvpx-vp9", options=HIDDEN), b"stss"),
    "mpeg2 no B mp4, no stss": lambda: without_boxes(encode(codec="mpeg2video", options=MPEG2["no B"]), b"stss"),
    "mpeg4 B mov, no stss": lambda: without_boxes(encode(codec="mpeg4", container="mov", options=MPEG4["B"]), b"stss"),
    "h264 B mp4, cut at the front": lambda: shifted(encode(options=X264["B"]), -0.4),
    "mpeg4 packed avi": packed_bitstream,
    "h264 open mkv, tied times": lambda: remuxed(
        encode(container="matroska", options=X264["open"]), time=lambda _, p: p.pts - 40 * (p.pts // 40 % 5 == 4)
    ),
    "h264 B mkv, half of the times lost": lambda: remuxed(
        encode(container="matroska", options=X264["B"]), time=lambda number, p: 40 * number if number >= 24 else p.pts
    ),
    "h264 open mkv, cut before a key frame": lambda: cut_before_a_key_frame("libx264", X264["open"]),
    "hevc open mkv, cut before a key frame": lambda: cut_before_a_key_frame("libx265", X265["open"]),
    "h264 intra mkv, jumbled times": lambda: remuxed(
        encode(container="matroska", options=INTRA["libx264"]), time=lambda number, p: 40 * (number ^ 1)
    ),
    "h264 one group mp4, no stss": lambda: without_boxes(encode(options={"g": "1000", "bf": "0"}), b"stss"),
    "h264 intra of several slices": made("libx264", "mp4", {"g": "1", "bf": "0", "slices": "4"}),
    "raw avi, palette": lambda: with_palette("avi", "rawvideo", moving=False),
    "raw avi, moving palette": lambda: with_palette("avi", "rawvideo", moving=True),
    "raw mov, palette": lambda: with_palette("mov", "rawvideo", moving=False),
    "png mov, moving palette": lambda: with_palette("mov", "png", moving=True),
    "mjpeg avi": made("mjpeg", "avi", {"strict": "unofficial"}),
}


def read_through(video: bytes) -> np.ndarray:
    with av.open(io.BytesIO(video), format=container_format(video)) as container:
        stream = container.streams.best("video")
        stream.codec_context.thread_count = 1
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(stream)])


@pytest.fixture(scope="module", params=CASES)
def case(request) -> tuple[bytes, VideoMetadata, np.ndarray]:
    video = CASES[request.param]()
    return video, probe(video), read_through(video)


def test_there_are_as_many_frames(case):
    _, info, frames = case
    assert info.frames == len(frames) > 0
    assert np.all(np.diff(info.times) >= 0)


@pytest.mark.parametrize("pattern", ["random", "stride", "span", "backwards", "each alone"])
def test_each_frame_is_the_one_at_its_place(case, pattern):
    video, info, frames = case
    last, rng = info.frames - 1, random.Random(pattern)
    indices = {
        "random": [rng.randint(0, last) for _ in range(12)],
        "stride": list(range(3, last, 4)),
        "span": [int((k + 0.5) * info.frames / 8) for k in range(8)],
        "backwards": list(range(last, -1, -1)),
        "each alone": [],
    }[pattern]
    assert np.array_equal(decode(video, indices, info=info), frames[indices])
    for index in range(0, info.frames, 3) if pattern == "each alone" else ():
        assert np.array_equal(decode(video, [index], info=info)[0], frames[index])


def test_the_index_of_a_shard_keeps_the_table(case):
    video, info, frames = case
    kept = Entry.from_line(Entry("a", 0, len(video), 0, info).to_line()).video
    assert kept is not None
    indices = [info.frames - 1, 0, info.frames // 2, 7]
    assert np.array_equal(decode(video, indices, info=kept), frames[indices])
    verify(video, kept)


@pytest.mark.parametrize("name", ["libx264 B avi", "mpeg4 B avi", "h264 B mp4, no ctts", "mpeg4 packed avi"])
def test_a_table_that_does_not_hold_is_found_and_replaced(name):
    """As an index made from timestamps alone has it: in the order of decoding."""
    video = CASES[name]()
    info, frames = probe(video), read_through(video)
    wrong = replace(info, order=None)
    with pytest.raises(DecodeError):
        verify(video, wrong)
    found = verified_metadata(video, wrong)
    assert np.array_equal(decode(video, [5, 30, 11], info=found), frames[[5, 30, 11]])


def test_a_palette_reaches_torchcodec_and_transcoding_too():
    video = CASES["raw mov, palette"]()
    info, frames = probe(video), read_through(video)
    if not why_not("torchcodec"):
        assert np.array_equal(decode(video, [33, 5], info=info, decoder="torchcodec"), frames[[33, 5]])
    made = transcode(video, Normalisation(short_side=64), info=info)
    assert [number_of(frame) for frame in decode(made, [0, 17, 39])] == [0, 17, 39]


@pytest.mark.parametrize("name", ["libx264 B avi", "h264 B mp4, no ctts", "mpeg4 B avi", "raw mov, palette"])
def test_decoders_of_a_gpu_refuse_what_they_would_number_otherwise(name):
    dali, torchcodec = (importlib.import_module(f"fastvid.video.decoders.{name}") for name in ("dali", "torchcodec"))
    video = CASES[name]()
    info = probe(video)
    with pytest.raises(DecodeError, match="unsupported"):
        dali._check(video, info, SimpleNamespace(type="cuda"))
    with pytest.raises(DecodeError, match="unsupported"):
        torchcodec._open(video, info, "cuda")


def test_right_files_are_not_decoded_to_be_probed(monkeypatch):
    def never(data, limits):
        raise AssertionError("decoded")

    monkeypatch.setattr(probing, "decode_table", never)
    for codec, container, options in (
        ("libx264", "mp4", X264["no B"]),
        ("libx264", "mp4", X264["B"]),
        ("libx264", "matroska", X264["open"]),
        ("libx264", "avi", X264["no B"]),
        ("libx265", "mp4", X265["no B"]),
        ("libx265", "mp4", X265["B"]),
        ("mpeg4", "avi", MPEG4["no B"]),
        ("libvpx-vp9", "webm", HIDDEN),
        ("libx264", "mp4", {**INTRA["libx264"], "slices": "4"}),
        ("libx265", "matroska", INTRA["libx265"]),
        *((name, where, INTRA[name]) for name in INTRA for where in INTRA_CONTAINERS.get(name, ("mp4", "mov", "avi"))),
        ("mpeg2video", "matroska", MPEG2["no B"]),
        ("mpeg2video", "mp4", MPEG2["B"]),
        ("mpeg2video", "avi", MPEG2["no B"]),
        ("mpeg1video", "matroska", MPEG2["no B"]),
    ):
        assert probe(encode(codec=codec, container=container, options=options)).frames == 40


def test_a_table_that_takes_decoding_is_made_once(monkeypatch):
    made_before, calls = probing.decode_table, []
    monkeypatch.setattr(probing, "decode_table", lambda *args: calls.append(1) or made_before(*args))
    video = encode(container="avi", options={**X264["B"], "crf": "31"})
    assert probe(video).frames == probe(video).frames == 40
    assert len(calls) == 1


def test_key_frames_are_jumped_to_where_the_order_was_decoded(monkeypatch):
    video = encode(40, container="avi", options={"g": "8", "bf": "2"})
    read = []
    plain = pyav._Reader._next
    monkeypatch.setattr(pyav._Reader, "_next", lambda self, wanted: read.append(wanted) or plain(self, wanted))
    decode(video, [34, 2])
    assert len(read) <= 3 + 5  # from the beginning, and from the key frame at 32, before which B-frames are shown


def test_anamorphic_videos_are_shown_in_their_shape():
    """A circle, stored in pixels half as wide as high, is cut out as a circle."""
    file = io.BytesIO()
    y, x = np.mgrid[0:128, 0:128]
    disc = ((y - 64) ** 2 + ((x - 64) * 2) ** 2 < 40**2).astype(np.uint8) * 255  # stored: half as wide
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 128, 128, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for _ in range(4):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.repeat(disc[..., None], 3, 2), format="rgb24")))
        out.mux(stream.encode())
    video = file.getvalue()
    info = probe(video)
    assert (info.pixel_aspect, info.upright_size, info.shown_size) == ((2, 1), (128, 128), (128, 256))
    view = ViewSpec(frames=1, size=128).center("a", info)
    assert view.box == (0, 32, 128, 64)
    frame = decode_view(video, view, info=info)[0, ..., 0] > 127
    rows, columns = np.flatnonzero(frame.any(1)), np.flatnonzero(frame.any(0))
    assert abs(len(rows) - len(columns)) <= 2


def test_transcoding_makes_the_pixels_square():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.height, stream.width, stream.pix_fmt = 144, 180, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(16, 15)
        out.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((144, 180, 3), np.uint8), format="rgb24")))
        out.mux(stream.encode())
    assert probe(file.getvalue()).shown_size == (144, 192)
    info = probe(transcode(file.getvalue(), Normalisation(short_side=72)))
    assert (info.upright_size, info.pixel_aspect) == ((72, 96), (1, 1))


@pytest.mark.parametrize("stated", [(1, 1 << 30), (1 << 30, 1), (9, 1), (1, 9), (0, 0), (7, 0), (0x80000005, 1)])
def test_pixels_that_make_no_sense_are_square(stated, caplog):
    video = with_pixels(*stated)
    info = probe(video)
    assert (info.pixel_aspect, info.shown_size) == ((1, 1), info.upright_size)
    frames = read_through(video)
    assert np.array_equal(decode(video, [1, 3], info=info), frames[[1, 3]])
    view = ViewSpec(frames=2, size=32).center("a", info)
    assert view.box == (0, 32, 64, 64)
    assert probe(transcode(video, Normalisation(short_side=32), info=info)).upright_size == (32, 64)
    line = Entry("a", 0, len(video), 0, replace(info, pixel_aspect=(1, 2))).to_line()  # as older indexes have it
    kept = Entry.from_line(line.replace(b"[1,2]", str(list(stated)).encode())).video
    assert kept is not None
    assert kept.pixel_aspect == (1, 1)


def test_pixels_that_make_no_sense_are_said_once(caplog):
    for _ in range(3):
        probe(with_pixels(1, 12345))
    assert caplog.messages == ["pixels of 1 to 12345 make no sense: they are taken as square"]


@pytest.mark.parametrize("stated", [(8, 1), (1, 8), (64, 45)])
def test_pixels_within_reason_are_kept(stated):
    assert probe(with_pixels(*stated)).pixel_aspect == stated


def with_pixels(wide: int, high: int) -> bytes:
    """An mp4 of 128 x 64 whose header states this shape of a pixel."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libvpx-vp9", rate=25)  # which has no place for it
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        for index in range(5):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(index), format="rgb24")))
        out.mux(stream.encode())
    video = file.getvalue()
    at = video.index(b"pasp") + 4
    return video[:at] + wide.to_bytes(4, "big") + high.to_bytes(4, "big") + video[at + 8 :]


def test_a_wrong_size_of_the_form_hides_nothing():
    avi = encode(codec="mpeg4", container="avi")
    for size in (len(avi), 0xFFFFFFFF, 0):
        assert probe(avi[:4] + size.to_bytes(4, "little") + avi[8:]).frames == 40
    for tail in (bytes(3), b"\0" * 100, b"TAGsomebody was here", b"\xff" * 64):
        for video in (avi, encode(), encode(container="matroska")):
            assert probe(video + tail).frames == 40
            verify(video + tail, probe(video + tail))


def test_a_fragmented_file_that_is_cut_is_named_so():
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"movflags": "empty_moov+frag_keyframe"}) as out:
        stream = out.add_stream("libx264", rate=25, options={"g": "8"})
        stream.height, stream.width, stream.pix_fmt = 64, 128, "yuv420p"
        for i in range(24):
            out.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(i), format="rgb24")))
        out.mux(stream.encode())
    video = file.getvalue()
    assert probe(video).frames == 24
    last = video.rindex(b"moof") - 4
    for cut in (last + 20, last + 100, video.rindex(b"mdat") + 40):
        with pytest.raises(DecodeError, match="truncated"):
            probe(video[:cut])


def test_an_mkv_without_its_index_is_whole():
    times = [40 * i + (200 if i > 20 else 0) for i in range(40)]
    video = encode(container="matroska", times=times)
    cues = video.rindex(b"\x1c\x53\xbb\x6b")
    assert probe(video[: cues + 6]).frames == 40
    with pytest.raises(DecodeError, match="truncated"):
        probe(video[: cues - 10])


def test_a_picture_that_gives_no_frame_is_not_counted():
    """MPEG-4's "not coded", here with a header in front of it."""
    source = encode(codec="mpeg4", container="avi", options={"g": "12"})
    file = io.BytesIO()
    with av.open(io.BytesIO(source)) as original, av.open(file, "w", format="avi") as out:
        stream = original.streams.video[0]
        copy = out.add_stream_from_template(stream)
        payloads = [(bytes(packet), packet.is_keyframe) for packet in original.demux(stream) if packet.size]
        payloads[5:5] = [(b"\x00\x00\x01\xb2some encoder's name" + NOT_CODED, False)]
        for number, (payload, key) in enumerate(payloads):
            packet = av.Packet(payload)
            packet.stream, packet.pts, packet.dts, packet.time_base = copy, number, number, copy.time_base
            packet.is_keyframe = key
            out.mux(packet)
    video = file.getvalue()
    assert probe(video).frames == 40
    assert [number_of(frame) for frame in decode(video, [39, 4, 5, 6])] == [39, 4, 5, 6]


SHARED = Path(__file__).resolve().parents[3] / "shared" / "videos"


@pytest.mark.skipif(not SHARED.is_dir(), reason="no sample videos beside the repository")
def test_real_avi_files_decode_at_every_place():
    for path in SHARED.glob("*.avi"):
        data = path.read_bytes()
        info, frames = probe(data), read_through(data)
        assert info.frames == len(frames)
        indices = random.Random(0).sample(range(info.frames), 8)
        assert np.array_equal(decode(data, indices, info=info), frames[indices])
