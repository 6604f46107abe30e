"""Which files are whole: all pictures that the container announces are there, and nothing else is asked."""

import re
import struct

import pytest

from fastvid.video import DecodeError, decode, probe
from fastvid.video.verify import verify
from tests.video.clips import encode
from tests.video.containers import without_boxes
from tests.video.cut_files import copied, last_bytes, opendml, with_sound

CLUSTER, SEGMENT = b"\x1f\x43\xb6\x75", b"\x18\x53\x80\x67"
# With its size of eight bytes: the two of its name alone also come up in the random number that names a file.
DURATION = b"\x44\x89\x88"
MPEG4 = {"g": "10", "bf": "0"}
UNKNOWN = b"\x01" + b"\xff" * 7
KEYS = {"g": "10", "bf": "0", "sc_threshold": "0"}
SMALL_CLUSTERS = {"cluster_time_limit": "390"}  # milliseconds


def truncated(video: bytes, words: str = "") -> bool:
    with pytest.raises(DecodeError, match=f"^truncated: .*{words}"):
        probe(video)
    return True


def whole(video: bytes, frames: int = 40) -> bool:
    info = probe(video)
    assert info.frames == frames
    verify(video, info)
    return True


def with_open_sizes(mkv: bytes, clusters: bool = False) -> bytes:
    """A Matroska file whose Segment, and perhaps Clusters, do not say how long they are."""
    at = mkv.index(SEGMENT) + 4
    assert mkv[at] == 1  # a size of eight bytes
    mkv = mkv[:at] + UNKNOWN + mkv[at + 8 :]
    for found in re.finditer(re.escape(CLUSTER), mkv) if clusters else ():
        at = found.end()
        length = 9 - mkv[at].bit_length()
        mkv = mkv[:at] + ((1 << (7 * length + 1)) - 1).to_bytes(length, "big") + mkv[at + length :]
    return mkv


def with_duration(mkv: bytes, milliseconds: float) -> bytes:
    at = mkv.index(DURATION) + len(DURATION)
    return mkv[:at] + struct.pack(">d", milliseconds) + mkv[at + 8 :]


def clusters_of(mkv: bytes) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(CLUSTER), mkv)]


@pytest.fixture(scope="module")
def plain():
    return encode(40, options=KEYS)


@pytest.fixture(scope="module")
def mkv(plain):
    return copied(plain, "matroska", options=SMALL_CLUSTERS)


@pytest.mark.parametrize("clusters", [False, True])
def test_a_live_recording_is_whole_where_it_says_no_duration(plain, clusters):
    live = with_open_sizes(copied(plain, "matroska", options=SMALL_CLUSTERS, pipe=True), clusters)
    starts = clusters_of(live)
    assert whole(live)
    assert len(starts) > 3
    assert live.find(DURATION, 0, starts[0]) < 0
    assert whole(live[: starts[2]], 20)  # ended between two clusters: nothing says that more was to come
    assert truncated(live[: starts[2] + 150], "bytes")  # the cluster, or the block in it, says that more was to come


@pytest.mark.parametrize("clusters", [False, True])
def test_a_live_recording_far_shorter_than_its_duration_is_cut(mkv, clusters):
    live = with_open_sizes(mkv, clusters)
    starts = clusters_of(live)
    assert whole(live)
    assert truncated(live[: starts[2]], r"the header announces 1\.6 seconds and 0\.8 are there")
    # A duration that was never filled in announces nothing.
    assert whole(with_duration(live, 0.0)[: starts[2]], 20)
    # One that is a little off is no proof.
    assert whole(with_duration(live, 1700.0))


def test_of_a_file_with_sizes_a_wrong_duration_is_no_loss(mkv):
    assert whole(with_duration(mkv, 9000.0))


@pytest.mark.parametrize("index", [True, False])
def test_an_avi_that_ends_with_its_first_part_is_cut(index):
    video, ends = opendml(40, index=index)
    assert whole(video)
    words = "bytes and .* are missing" if index else "the header announces 40 frames and 20 are there"
    assert truncated(video[: ends[0]], words)
    video, ends = opendml(40, parts=3, index=index)
    assert whole(video)
    assert truncated(video[: ends[1]])


@pytest.mark.parametrize("stated", [0, 41, 20, 1 << 30, 0xFFFFFFFF])
def test_a_number_of_frames_that_is_made_up_or_a_little_off_is_no_loss(stated):
    assert whole(opendml(40, index=False, stated=stated)[0])


def test_frames_that_an_avi_repeats_are_there():
    """Empty chunks stand for frames that were dropped when it was recorded: they are announced, and are no pictures."""
    video, _ = opendml(40, parts=1, index=False, stated=60)
    at = video.index(b"ix00", video.index(b"movi"))
    dropped = (b"00dc" + bytes(4)) * 20
    size = video.rindex(b"movi") - 4
    grown = int.from_bytes(video[size : size + 4], "little") + len(dropped)
    assert probe(video[:size] + grown.to_bytes(4, "little") + video[size + 4 : at] + dropped + video[at:]).frames == 40


def test_an_avi_written_to_a_pipe_is_read():
    """Its header holds numbers that stand for "not known"."""
    video = copied(encode(40, "mpeg4", "avi", options=MPEG4), "avi", pipe=True)
    assert (1 << 30).to_bytes(4, "little") in video[:400]
    assert whole(video)


@pytest.mark.parametrize("codec", ["mp2", "libmp3lame", "pcm_s16le"])
@pytest.mark.parametrize("seconds", [1.6, 3.0])
def test_an_avi_that_lost_only_sound_is_whole(codec, seconds):
    video = with_sound(encode(40, "mpeg4", "avi", options=MPEG4), "avi", codec, seconds)
    pictures, sound = last_bytes(video, "video"), last_bytes(video, "audio")
    assert whole(video)
    assert sound > pictures
    for end in {sound - 1, sound - 100, (pictures + sound) // 2, pictures + 4}:
        assert whole(video[:end])
    for end in (pictures - 40, pictures // 2):
        assert truncated(video[:end])


@pytest.mark.parametrize("tagged", [True, False])
@pytest.mark.parametrize("seconds", [1.6, 3.0])
def test_an_mkv_with_sound_that_lost_its_index_is_whole(plain, seconds, tagged):
    video = with_sound(plain, "matroska", "libopus", seconds)
    if not tagged:
        video = video.replace(b"DURATION", b"NONSENSE")
    index = video.rindex(b"\x1c\x53\xbb\x6b")
    assert whole(video)
    assert whole(video[:index])
    assert whole(video[: index + 3])
    assert truncated(video[: index // 2])
    last = clusters_of(video)[-1]
    assert truncated(video[:last]) or seconds == 3.0


def test_an_mkv_that_lost_its_last_picture_is_cut_though_its_sound_reaches_the_end(plain):
    video = with_sound(plain, "matroska", "libopus", 1.6)
    assert truncated(video[: last_bytes(video, "video") - 30])
    untagged = video.replace(b"DURATION", b"NONSENSE")
    assert truncated(untagged[: last_bytes(video, "video") - 30])


def test_a_fragmented_mp4_far_shorter_than_its_duration_is_cut(plain):
    video = copied(plain, "mp4", options={"movflags": "empty_moov+frag_keyframe+default_base_moof"})
    assert whole(video)
    starts = [found.start() - 4 for found in re.finditer(b"moof", video)]
    assert whole(video[: starts[2]], 20)  # nothing says that more was to come
    extends = video.index(b"mvex")
    scale = int.from_bytes(video[video.index(b"mvhd") + 16 :][:4], "big")
    stated = struct.pack(">I4sII", 16, b"mehd", 0, round(1.6 * scale))
    longer = video[: extends + 4] + stated + video[extends + 4 :]
    for name in (b"mvex", b"moov"):
        at = longer.index(name) - 4
        longer = longer[:at] + (int.from_bytes(longer[at : at + 4], "big") + 16).to_bytes(4, "big") + longer[at + 4 :]
    assert whole(longer)
    assert truncated(longer[: starts[2] + 16], r"the header announces 1\.6 seconds and 0\.8 are there")


def test_an_mp4_that_lost_only_sound_is_whole(plain):
    video = without_boxes(with_sound(plain, "mp4", "aac", 3.0), b"udta")
    front = copied_to_the_front(video)
    assert whole(front)
    assert whole(front[:-20])


def copied_to_the_front(video: bytes) -> bytes:
    """An mp4 with its index before its pictures, so that a cut leaves it readable."""
    moov = video.rindex(b"moov") - 4
    index = bytearray(video[moov:])
    at = index.find(b"stco")
    while at >= 0:
        for number in range(int.from_bytes(index[at + 8 : at + 12], "big")):
            place = at + 12 + 4 * number
            struct.pack_into(">I", index, place, int.from_bytes(index[place : place + 4], "big") + len(index))
        at = index.find(b"stco", at + 4)
    first = int.from_bytes(video[:4], "big")
    return video[:first] + bytes(index) + video[first:moov]


def test_frames_of_what_is_whole_are_the_same(plain):
    video = with_sound(encode(40, "mpeg4", "avi", options=MPEG4), "avi", "mp2", 3.0)
    cut = video[: last_bytes(video, "video") + 4]
    assert (decode(cut, [0, 17, 39]) == decode(video, [0, 17, 39])).all()
