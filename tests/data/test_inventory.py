"""What changed in a data set since its inventory was written."""

import shutil

import pytest

from fastvid.data import ShardWriter, join, open_source
from fastvid.data.commands.index import index
from fastvid.data.demo.files import encode_h264
from fastvid.data.demo.render import DemoSpec, demo_frames
from fastvid.data.inventory import FILE, Inventory
from fastvid.data.shards.dataset_json import NAME

CLIPS = [encode_h264(demo_frames(0, index, DemoSpec(size=16, frames=2)), 8) for index in range(4)]


@pytest.fixture
def folder(tmp_path):
    """Six loose videos of two classes."""
    for number in range(6):
        path = tmp_path / "videos" / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CLIPS[0])
    return tmp_path / "videos"


def shards(folder, counts, described=True, clip=0, label="a"):
    """Writes a shard for each count of videos."""
    for shard, count in enumerate(counts):
        with ShardWriter(folder, f"s{shard}") as writer:
            for number in range(count):
                writer.add(f"{shard}{number}", ".mp4", CLIPS[clip], label=label)
    if described:
        index(folder, accept_changed=True)
    return folder


def changes(before, path, **options):
    return before.changes(Inventory.from_source(open_source(path, **options)))


def test_nothing_changed(folder, tmp_path):
    before = Inventory.from_source(open_source(folder))
    assert before.videos == 6
    before.save(tmp_path)
    assert Inventory.load(tmp_path) == before
    assert changes(before, folder) == []
    moved = shutil.move(folder, tmp_path / "elsewhere")
    assert changes(before, moved) == []


def test_files_that_were_added_removed_and_changed_are_named(folder):
    before = Inventory.from_source(open_source(folder))
    (folder / "a" / "new.mp4").write_bytes(CLIPS[1])
    assert changes(before, folder) == ["1 file added (a/new.mp4)"]
    (folder / "a" / "0.mp4").unlink()
    (folder / "b" / "1.mp4").write_bytes(CLIPS[0] + b"more")
    assert changes(before, folder) == [
        "1 file added (a/new.mp4)", "1 file removed (a/0.mp4)", "1 file changed (b/1.mp4)",
    ]  # fmt: skip
    shutil.rmtree(folder / "b")
    assert changes(before, folder)[1] == "4 files removed (a/0.mp4, b/1.mp4, b/3.mp4, ...)"


def test_other_labels_are_a_change(folder, tmp_path):
    before = Inventory.from_source(open_source(folder))
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\n" + "".join(f"{'ab'[n % 2]}/{n}.mp4,{'ab'[n % 2]}\n" for n in range(5)))
    assert changes(before, folder, labels=labels) == ["1 file changed (b/5.mp4)"]


@pytest.mark.parametrize("described", [True, False])
def test_shards_are_compared_without_looking_at_a_sample(tmp_path, monkeypatch, described):
    where = shards(tmp_path / "s", [2, 3], described)
    assert (where / NAME).exists() == described
    Inventory.from_source(open_source(where))  # which indexes those that are not indexed
    monkeypatch.setattr(type(open_source(where).samples), "entry", lambda *_: pytest.fail("looked at a sample"))
    before = Inventory.from_source(open_source(where))
    assert (before.videos, len(before.items)) == (5, 2)
    monkeypatch.undo()
    shards(where, [2, 3, 4], described)
    assert changes(before, where) == ["1 shard of 4 videos added (s2-000000.tar)"]
    shards(where, [2, 3, 4], described, label="b")
    assert changes(before, where)[1] == "2 shards of 5 videos changed (s0-000000.tar, s1-000000.tar)"


def test_joined_sources_are_told_apart(tmp_path, folder):
    where = shards(tmp_path / "s", [2])
    both = Inventory.from_source(join({"train": open_source(where), "val": open_source(folder)}))
    assert both.videos == 8
    assert [item.name for item in both.items[:2]] == ["train/s0-000000.tar", "val/a/0.mp4"]
    assert both.changes(Inventory.from_source(join({"val": open_source(folder), "train": open_source(where)}))) == [
        "the same videos in another order"
    ]


def test_of_very_many_files_only_the_fingerprint_is_kept(folder, monkeypatch, tmp_path):
    monkeypatch.setattr("fastvid.data.inventory._MOST_LISTED", 5)
    before = Inventory.from_source(open_source(folder))
    before.save(tmp_path)
    assert Inventory.load(tmp_path).items is None
    (folder / "a" / "0.mp4").unlink()
    assert changes(before, folder) == ["6 videos then and 5 now, too many to be listed"]


@pytest.mark.parametrize("content", [b"", b"no gzip", b'{"format": "other"}'])
def test_a_damaged_inventory_is_named(tmp_path, content):
    assert Inventory.load(tmp_path) is None
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{FILE} is damaged"):
        Inventory.load(tmp_path)
