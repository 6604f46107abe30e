"""The same file in two parts."""

from fastvid.data import ShardWriter, open_source, split_labelled
from fastvid.video import DecodeError
from tests.data.labelled_videos import PARTS, Memory, check_whole, keys, parts_of, plain
from tests.data.test_sources import VIDEO
from tests.video.clips import encode


def test_the_same_file_on_two_sides_is_reported():
    names = plain("ab", 40)
    parts = parts_of(split_labelled(Memory(names)))
    train, val, test = (next(key for key in names if parts[key] == part) for part in PARTS)
    source = Memory(
        names, content={k: k.encode() for k in names} | {train: b"same" * 9, test: b"same" * 9, val: b"diff" * 9}
    )
    splits = split_labelled(source)
    assert splits.leaks == [
        f"train and test hold the same files: 1 of the {len(splits.test.samples)} videos in test, such as {test}, "
        f"which is {train}"
    ]


def test_only_files_of_equal_size_are_read_and_not_too_many():
    names = plain("ab", 40)
    source = Memory(names, content={key: bytes(100 + i) for i, key in enumerate(names)})
    assert split_labelled(source).leaks == []
    assert source.reads == 0

    class Large(Memory):
        def size(self, index):
            return 200 << 20

    source = Large(names)
    splits = split_labelled(source)
    assert source.reads == 1
    assert "79 files of the same size as others were not compared: reading them takes long" in splits.notes


def test_files_that_cannot_be_read_are_left_to_training():
    class Broken(Memory):
        def size(self, index):
            if index % 3 == 0:
                raise DecodeError("read", "gone")
            return 5

        def read(self, index):
            if index % 3 == 1:
                raise DecodeError("read", "gone")
            return b"same!"

    names = plain("ab", 60)
    splits = split_labelled(Broken(names))
    check_whole(splits, names)
    shared = sum(names.index(key) % 3 == 2 for key in keys(splits.test))
    assert any(leak.startswith(f"train and test hold the same files: {shared} of") for leak in splits.leaks)


def test_shards_compare_checksums_without_reading(tmp_path, monkeypatch):
    other = encode(9)
    with ShardWriter(tmp_path, "s") as writer:
        for i in range(40):
            writer.add(f"{'ab'[i % 2]}/{i:02d}", ".mp4", VIDEO if i < 2 else other + bytes(i), label="ab"[i % 2])
    source = open_source(tmp_path)
    monkeypatch.setattr(source, "read", None)
    splits = split_labelled(source, shares=(0.4, 0.3, 0.3))
    sides = {parts_of(splits)[f"s-000000/{name}"] for name in ("a/00", "b/01")}
    assert len(splits.leaks) == len(sides) - 1
