"""What the headers in a packet prove of its picture: certain, or nothing."""

import io

import av
import pytest

from fastvid.video.pictures import picture_kind
from tests.video.clips import encode
from tests.video.containers import NOT_CODED

MPEG = {"bf": "2", "g": "6", "q:v": "3", "sc_threshold": "1000000000"}


def packets_of(codec, container="matroska", **options):
    """(FFmpeg's name of the codec, extradata, packets)."""
    with av.open(io.BytesIO(encode(12, codec, container, options=options))) as file:
        stream = file.streams.video[0]
        data = [bytes(packet) for packet in file.demux(stream) if packet.size]
        return stream.codec_context.codec.canonical_name, bytes(stream.codec_context.extradata or b""), data


@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video", "mpeg4"])
def test_b_frames_are_not_shown_in_turn(codec):
    name, extradata, packets = packets_of(codec, **MPEG)
    kinds = [picture_kind(name, extradata, packet) for packet in packets]
    assert kinds[:4] == ["intra", "forward", None, None]
    assert {"intra", "forward", None} == set(kinds)


@pytest.mark.parametrize("container", ["matroska", "avi"])  # units with their lengths, and between start codes
@pytest.mark.parametrize("slices", ["1", "3"])
def test_h264_proves_its_idr_pictures_alone(container, slices):
    name, extradata, packets = packets_of("libx264", container, g="4", bf="0", sc_threshold="0", slices=slices)
    kinds = [picture_kind(name, extradata, packet) for packet in packets]
    assert kinds == ["intra", None, None, None] * 3
    assert picture_kind(name, extradata, packets[0] + packets[4]) is None  # two pictures
    assert picture_kind(name, extradata, packets[0] + packets[1]) is None


def test_hevc_proves_its_idr_pictures_alone():
    options = {"x265-params": "log-level=none:keyint=4:min-keyint=4:bframes=0:open-gop=0:scenecut=0"}
    name, extradata, packets = packets_of("libx265", **options)
    assert [picture_kind(name, extradata, packet) for packet in packets] == ["intra", None, None, None] * 3


@pytest.mark.parametrize("codec", ["libvpx", "libvpx-vp9"])
def test_vp8_and_vp9_prove_their_key_frames_alone(codec):
    name, extradata, packets = packets_of(codec, "webm", **{"g": "4", "auto-alt-ref": "0", "lag-in-frames": "0"})
    assert [picture_kind(name, extradata, packet) for packet in packets] == ["intra", None, None, None] * 3


def test_fields_and_pictures_without_content_prove_nothing():
    name, extradata, packets = packets_of("mpeg2video", **MPEG)
    at = packets[0].index(b"\0\0\1\xb5", packets[0].index(b"\0\0\1\0")) + 6  # picture coding extension
    field = packets[0][:at] + bytes([packets[0][at] & ~3 | 1]) + packets[0][at + 1 :]
    assert picture_kind(name, extradata, field) is None
    assert picture_kind(name, extradata, packets[0] + packets[1]) is None
    assert picture_kind("mpeg4", b"", NOT_CODED) is None
    for codec in ("h264", "hevc", "mpeg1video", "mpeg2video", "mpeg4", "vp8", "vp9", "vc1", "av1"):
        for rest in (b"", b"\0", b"\0\0\1", b"\0\0\1\xb6", b"\0\0\1\0\0", b"\0\0\0\1\x65", b"\0\0\0\2\x65"):
            assert picture_kind(codec, b"", rest) is None
