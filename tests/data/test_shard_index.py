import json

import numpy as np
import pytest

from fastvid.data import ShardWriter, open_source
from fastvid.data.shards.dataset_json import NAME, Dataset, ShardInfo
from fastvid.data.shards.entry import Entry
from fastvid.data.shards.index import index_path
from fastvid.video import decode, probe
from tests.video.clips import encode

VIDEOS = {
    "constant rate": encode(8),
    "b-frames": encode(30, options={"bf": "2", "g": "12"}),
    "variable rate": encode(8, times=[0, 10, 30, 60, 70, 80, 200, 210]),
    "intra only": encode(6, options={"g": "1"}),
    "one frame": encode(1),
    "vp9": encode(8, "libvpx-vp9", "webm"),
    "no times": encode(8, "mpeg4", "avi"),
}


@pytest.mark.parametrize("name", VIDEOS)
def test_the_index_keeps_what_the_probe_found(name):
    info = probe(VIDEOS[name])
    entry = Entry.from_line(Entry("a/b", 512, 99, 7, info, "label", "a caption\nin two lines").to_line())
    assert (entry.key, entry.offset, entry.size, entry.crc32) == ("a/b", 512, 99, 7)
    assert (entry.label, entry.caption) == ("label", "a caption\nin two lines")
    for field in ("codec", "width", "height", "rotation", "frames", "fps", "duration", "time_base", "colours"):
        assert getattr(entry.video, field) == getattr(info, field)
    assert np.array_equal(entry.video.keyframes, info.keyframes)
    assert (entry.video.pts is None) == (info.pts is None)
    assert np.array_equal(entry.video.times, info.times)
    wanted = range(0, info.frames, 3)
    assert np.array_equal(decode(VIDEOS[name], wanted, info=entry.video), decode(VIDEOS[name], wanted))


def test_a_constant_rate_takes_few_numbers():
    assert len(Entry("k", 0, 1, 0, probe(encode(200))).to_line()) < 400


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("offset", -1), ("offset", 1.5), ("offset", True), ("size", 2**63), ("crc32", 2**32), ("key", ""), ("key", 3),
        ("label", 4), ("video", None), ("video", []),
    ],
)  # fmt: skip
def test_a_line_with_a_wrong_field_is_refused(field, value):
    line = json.loads(Entry("k", 0, 1, 0, probe(VIDEOS["vp9"])).to_line())
    with pytest.raises(ValueError, match="index"):
        Entry.from_line(json.dumps({**line, field: value}).encode())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("frames", 9), ("frames", 10**12), ("pts", [0, [40, 10**15]]), ("pts", [0, [-1, 7]]), ("pts", []),
        ("width", 0), ("fps", 0), ("fps", float("nan")), ("keyframes", [[0]]), ("rotation", 4), ("codec", None),
    ],
)  # fmt: skip
def test_a_line_with_a_wrong_frame_table_is_refused_before_it_is_built(field, value):
    line = json.loads(Entry("k", 0, 1, 0, probe(VIDEOS["vp9"])).to_line())
    line["video"][field] = value
    with pytest.raises(ValueError, match="index"):
        Entry.from_line(json.dumps(line).encode())


def test_every_flipped_byte_of_an_index_is_noticed(tmp_path):
    with ShardWriter(tmp_path, "s") as writer:
        writer.add("a", ".mp4", VIDEOS["constant rate"])
    path = index_path(writer.shards[0])
    good, sentences = path.read_bytes(), set()
    for at in range(0, len(good), 7):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        try:
            video = open_source(tmp_path).samples[0].video
        except ValueError as error:
            sentences.add(str(error))
        else:  # the name or the size in the header changed: the index was built anew
            assert video.frames == 8
            assert path.read_bytes() == good
    assert len(sentences) >= 1
    assert all("s-000000.index.jsonl is damaged" in s and "`python -m fastvid.data index`" in s for s in sentences)


def facts(**changes):
    shard = ShardInfo("a-000000.tar", 3, 1000, "0" * 64, 10, "1" * 64)
    return Dataset(**{"shards": (shard,), "labels": {"x": 3}, "codecs": {"h264": 3}, "frames": 9, **changes})


def test_dataset_json_round_trip():
    dataset = facts()
    assert Dataset.from_bytes(dataset.to_bytes(), "here") == dataset
    assert dataset.samples == 3
    assert dataset.hash != facts(shards=()).hash


def test_every_flipped_byte_of_dataset_json_is_noticed():
    good = facts().to_bytes().rstrip()
    for at in range(0, len(good), 5):
        changed = good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :]
        if json.loads(good) == _loaded(changed):
            continue  # white space
        with pytest.raises(ValueError, match=r"dataset\.json is damaged"):
            Dataset.from_bytes(changed, NAME)


def _loaded(data):
    try:
        return json.loads(data)
    except ValueError:
        return None


@pytest.mark.parametrize("name", ["../a.tar", "/a.tar", "a.mp4", ".a.tar", "b/a.tar"])
def test_dataset_json_cannot_name_files_elsewhere(name):
    shard = ShardInfo(name, 3, 1000, "0" * 64, 10, "1" * 64)
    with pytest.raises(ValueError, match="damaged"):
        Dataset.from_bytes(facts(shards=(shard,)).to_bytes(), NAME)
