"""The split that a data set shows by itself is taken, and said."""

import json
import shutil

import pytest

from fastvid.data import ShardWriter, classes_of, hold_out, open_parts, open_source, split_labelled
from fastvid.data.labels.part_folders import find_part_folders, part_of_folder, part_of_shard
from fastvid.data.pack.folder import folder
from tests.data.labelled_videos import Memory, keys, ntu, parts_of, plain, ucf
from tests.data.test_sources import VIDEO, make_folder


def tree(*parts, each=6, layout="{part}/{label}/{i}.mp4"):
    return [layout.format(part=part, label=label, i=i) for part in parts for label in "ab" for i in range(each)]


def split_note(splits):
    (note,) = (note for note in splits.notes if note.startswith("split: "))
    return note


@pytest.mark.parametrize(
    ("parts", "layout"),
    [
        (("train", "val", "test"), "{part}/{label}/{i}.mp4"),
        (("Training", "dev", "TEST"), "{part}/{label}/{i}.mp4"),
        (("train", "valid", "testing"), "data/k400/{part}/{label}/{i}.mp4"),
        (("videos_train", "videos_val", "test_256"), "{part}/{label}/day{i}/x.mp4"),
        (("train", "validation", "test"), "{label}/{part}/{i}.mp4"),
    ],
)
def test_folders_named_train_val_and_test_are_the_parts(tmp_path, parts, layout):
    names = tree(*parts, layout=layout)
    make_folder(tmp_path, names)
    splits = split_labelled(open_source(tmp_path))
    assert splits.protocol == "folders"
    for part, name in zip(parts, ("train", "val", "test"), strict=True):
        assert keys(getattr(splits, name)) == sorted(key for key in names if part in key)
    assert splits.classes == ["a", "b"]
    assert f"split: protocol folders, since there are folders named {', '.join(sorted(parts))}" == split_note(splits)


def test_train_and_test_alone_and_train_and_val_alone(tmp_path):
    for other in ("test", "val"):
        names = tree("train", other, each=40)
        splits = split_labelled(Memory(names, {key: key.split("/")[1] for key in names}))
        assert keys(splits.test) == [key for key in names if key.startswith(other)]
        assert splits.val.samples
        assert len(splits.train.samples) + len(splits.val.samples) == 80


def test_classes_that_are_named_like_parts_are_classes():
    names = [f"{label}/{i}.mp4" for label in ("train", "bus", "car") for i in range(40)]
    splits = split_labelled(Memory(names))
    assert (splits.protocol, splits.classes) == ("hash", ["bus", "car", "train"])
    assert "the videos show no split of their own" in split_note(splits)
    assert find_part_folders([("train", "a"), ("train", "b")]) is None


def test_flat_parts_have_no_classes_and_are_refused_until_a_table_names_them(tmp_path):
    names = [f"{part}/{i}.mp4" for part in ("train", "val", "test") for i in range(4)]
    make_folder(tmp_path, names)
    source = open_source(tmp_path)
    assert classes_of(source) == []
    assert {item.label for item in folder(tmp_path)[""].items} == {None}
    with pytest.raises(ValueError, match=r"12 videos without a label") as caught:
        split_labelled(source)
    assert "\n" not in str(caught.value)
    (tmp_path / "labels.csv").write_text("".join(f"{key},{'ab'[int(key[-5]) % 2]}\n" for key in names))
    splits = split_labelled(open_source(tmp_path, tmp_path / "labels.csv"))
    assert (splits.protocol, splits.classes) == ("folders", ["a", "b"])
    assert keys(splits.val) == [key for key in names if key.startswith("val")]
    train, test, _ = hold_out(source, 0.3)
    assert ([s.label for s in train.samples], test) == ([None] * 4, None)


def test_a_column_split_comes_before_folders(tmp_path):
    names = tree("train", "test")
    make_folder(tmp_path, names)
    rows = [f"{key},{key.split('/')[1]},{('train', 'val', 'test')[int(key[-5]) % 3]}" for key in names[:-1]]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label,split", *rows]))
    splits = split_labelled(open_source(tmp_path, tmp_path / "labels.csv"))
    assert splits.protocol == "table"
    assert keys(splits.val) == sorted(key for key in names[:-1] if key[-5] in "14")
    assert "labels.csv says the part of each video, which comes before what is visible too: there are folders" in (
        split_note(splits)
    )
    assert any(f"1 of 24 videos are not listed in {tmp_path}/labels.csv and are left out" in n for n in splits.notes)
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *(row.rpartition(",")[0] for row in rows)]))
    with pytest.raises(ValueError, match=r"protocol table: .* 23 of 23 videos"):
        split_labelled(open_source(tmp_path, tmp_path / "labels.csv"), protocol="table")


def write_shards(root, name, names):
    with ShardWriter(root, name) as writer:
        for key in names:
            writer.add(key, ".mp4", VIDEO, label=key[0])


def test_shards_named_train_and_test_are_the_parts(tmp_path):
    write_shards(tmp_path, "k-train", [f"{c}/{i}" for c in "ab" for i in range(30)])
    write_shards(tmp_path, "k-test", [f"{c}/x{i}" for c in "ab" for i in range(3)])
    splits = split_labelled(open_parts(tmp_path))
    assert {key.partition("/")[0] for key in keys(splits.test)} == {"k-test-000000"}
    assert len(splits.test.samples) == 6
    assert "shards named k-test-000000, k-train-000000" in split_note(splits)
    train, test, notes = hold_out(open_parts(tmp_path), 0.3)
    assert (len(train.samples), len(test.samples)) == (60, 6)
    assert notes[0].startswith("split: protocol folders")


def test_labels_that_shards_hold_stay_whatever_the_folders_are_called(tmp_path):
    """As packed from a table, of videos in folders of two levels."""
    for part in ("train", "test"):
        with ShardWriter(tmp_path / part, "k") as writer:
            for label, above in (("a", "hmdb"), ("b", "k400"), ("c", "hmdb")):
                for i in range(4):
                    writer.add(f"{above}/{label}/{part}{i}", ".mp4", VIDEO, label=label)
    splits = split_labelled(open_parts(tmp_path))
    assert "protocol folders" in split_note(splits)
    for part in (splits.train, splits.test):
        assert {sample.label for sample in part.samples} == {"a", "b", "c"}


def test_shards_and_folders_in_them_that_disagree_are_refused(tmp_path):
    write_shards(tmp_path, "train", ["train/a/0", "test/a/1", "train/b/2"])
    write_shards(tmp_path, "test", ["test/b/0"])
    with pytest.raises(ValueError, match="train-000000/test/a/1"):
        split_labelled(open_parts(tmp_path))


@pytest.mark.parametrize("where", ["ucfTrainTestlist", "UCF-101/ucfTrainTestlist", "UCF-101"])
def test_the_lists_of_ucf101_beside_the_videos_are_taken(tmp_path, where):
    names = ucf(groups=25, clips=2)
    make_folder(tmp_path / "UCF-101", [f"{name}.avi" for name in names])
    lists = tmp_path / where
    lists.mkdir(exist_ok=True)
    tested = [name for name in names if int(name[-6:-4]) <= 7]
    (lists / "trainlist01.txt").write_text("".join(f"{name}.avi 1\n" for name in names if name not in tested))
    (lists / "testlist01.txt").write_text("".join(f"{name}.avi\n" for name in tested))
    splits = split_labelled(open_source(tmp_path / "UCF-101"))
    assert splits.protocol == "ucf101-1"
    assert [key.removesuffix(".avi") for key in keys(splits.test)] == tested
    assert "the lists of UCF-101 are in or beside the folder" in split_note(splits)
    train, test, _ = hold_out(open_source(tmp_path / "UCF-101"), 0.3)
    assert len(train.samples) == len(names) - len(tested)
    assert keys(test) == keys(splits.test)
    shutil.rmtree(lists) if where == "ucfTrainTestlist" else [p.unlink() for p in lists.glob("*.txt")]
    assert split_labelled(open_source(tmp_path / "UCF-101")).protocol == "hash-group"  # the names say groups


def test_names_of_ntu_are_a_split():
    splits = split_labelled(Memory(ntu()))
    assert splits.protocol == "ntu-subject"
    assert "named as in NTU RGB+D" in split_note(splits)
    assert parts_of(splits) == parts_of(split_labelled(Memory(ntu()), protocol="ntu-subject"))
    assert split_labelled(Memory(ntu()), protocol="hash").protocol == "hash"  # what was asked for is done


@pytest.mark.parametrize("where", [".", "labels", "../labels"])
def test_the_lists_of_something_something_are_labels_and_parts(tmp_path, where):
    root = tmp_path / "ssv2"
    make_folder(root, [f"videos/{i}.webm" for i in range(60)])
    (root / where).mkdir(exist_ok=True)
    for part, numbers in (("train", range(50)), ("validation", range(50, 56)), ("test", range(56, 59))):
        entries = [
            {"id": str(i), "label": "x", "template": "Moving [something] " + ("up", "down")[i % 2]} for i in numbers
        ]
        if part == "test":
            entries = [{"id": entry["id"]} for entry in entries]
        (root / where / f"{part}.json").write_text(json.dumps(entries))
    splits = split_labelled(open_parts(root))
    assert splits.classes == ["Moving something down", "Moving something up"]
    assert (splits.protocol, keys(splits.test)) == ("table", [f"videos/{i}.webm" for i in range(50, 56)])
    train, test, _ = hold_out(open_parts(root), 0.3)
    assert (len(train.samples), len(test.samples)) == (50, 6)


def test_other_files_that_are_named_train_json_are_no_lists(tmp_path):
    make_folder(tmp_path, [f"{c}/{i}.mp4" for c in "ab" for i in range(30)])
    for part in ("train", "validation"):
        (tmp_path / f"{part}.json").write_text("{}")
    assert split_labelled(open_source(tmp_path)).classes == ["a", "b"]


def test_without_a_visible_split_probes_hold_out_by_key():
    source = Memory(plain())
    train, test, notes = hold_out(source, 0.3)
    assert len(notes) == 1
    assert notes[0].startswith("split: protocol hash, since the data set shows none: 52 of 180 videos are held out")
    assert len(train.samples) + len(test.samples) == len(source.samples)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train", 0),
        ("Val", 1),
        ("valid_set", 1),
        ("test-2", 2),
        ("videos_train", 0),
        ("trainer", None),
        ("running", None),
    ],
)
def test_names_of_folders(name, part):
    assert part_of_folder(name) == part


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("train-000000", 0), ("k400_val_03", 1), ("test", 2), ("train-00001-of-00010", 0), ("shard-000000", None),
        ("strain-000001", None), ("train-extra-0", None),
    ],
)  # fmt: skip
def test_names_of_shards(name, part):
    assert part_of_shard(name) == part
