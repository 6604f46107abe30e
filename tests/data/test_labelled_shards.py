"""Parts that are folders of shards, or shards of one folder."""

import pytest

from fastvid.data import ShardWriter, join, open_parts, open_source, split_labelled
from fastvid.data.source import origin_of
from tests.data.labelled_videos import PARTS, Memory, check_whole, keys, parts_of, plain, write_shards
from tests.data.test_sources import VIDEO, make_folder


def test_shards_in_folders_of_parts_become_one_source(tmp_path):
    for part, count in (("train", 24), ("test", 8)):
        write_shards(tmp_path / part, [f"{part}{i:02d}" for i in range(count)], lambda name: "ab"[int(name[-1]) % 2])
    (tmp_path / "notes").mkdir()
    source = open_parts(tmp_path)
    assert keys(source)[0] == "test/test-000000/test00"
    assert source.samples[-1].key == "train/train-000000/train23"
    assert [s.key for s in source.samples[7:9]] == ["test/test-000000/test07", "train/train-000000/train00"]
    assert source.shard_sizes == [8, 24]
    assert source.read(9) == VIDEO
    assert source.size(9) == len(VIDEO)
    assert origin_of(source, 9).name == "train/train01"
    with pytest.raises(IndexError, match="sample 32 of 32"):
        source.samples[32]
    splits = split_labelled(source, protocol="folders")
    check_whole(splits, sorted(keys(source)))
    assert len(splits.test.samples) == 8
    assert splits.train.read(0) == VIDEO
    with pytest.raises(ValueError, match="carry their own labels"):
        open_parts(tmp_path, tmp_path / "labels.csv")


def test_opening_parts_of_anything_else_opens_it(tmp_path):
    make_folder(tmp_path / "loose", ["train/a/x.mp4", "test/b/y.mp4"])
    assert keys(open_parts(tmp_path / "loose")) == ["test/b/y.mp4", "train/a/x.mp4"]
    write_shards(tmp_path / "train", ["0", "1"], lambda name: "a")
    assert keys(open_parts(tmp_path / "train")) == ["train-000000/0", "train-000000/1"]
    with pytest.raises(FileNotFoundError, match="no data at"):
        open_parts(tmp_path / "nothing")


def test_shards_named_by_parts_are_parts(tmp_path):
    for part in PARTS:
        with ShardWriter(tmp_path, part) as writer:
            for i in range(4):
                writer.add(f"{'ab'[i % 2]}/{part}{i}", ".mp4", VIDEO, label="ab"[i % 2])
    splits = split_labelled(open_source(tmp_path), protocol="folders")
    assert all(key.startswith(part) for key, part in parts_of(splits).items())


def test_a_joined_source_stages_each_of_its_own():
    class Staged(Memory):
        def prefetch(self, current, upcoming):
            self.prefetched = (list(current), list(upcoming))

    one, two = Staged(plain("a", 4)), Staged(plain("b", 4))
    one.shard_sizes, two.shard_sizes = [2, 2], [1, 1, 2]
    join({"x": one, "y": two}).prefetch([0, 2, 4], [1, 3])
    assert (one.prefetched, two.prefetched) == (([0], [1]), ([0, 2], [1]))
    with pytest.raises(ValueError, match="no sources"):
        join({})
