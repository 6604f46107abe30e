import random

import pytest
from clips import encode
from test_sources import VIDEO, make_folder

from fastvid.data import (
    Sample,
    ShardWriter,
    TrainLoader,
    join,
    mirror_changes,
    open_parts,
    open_source,
    relabel,
    split_labelled,
    subset,
    training_view,
)
from fastvid.data.ntu_names import TRAINING_PERFORMERS_60, TRAINING_PERFORMERS_120, parse_ntu
from fastvid.data.source import origin_of
from fastvid.video import DecodeError, ViewSpec, probe

PARTS = ("train", "val", "test")


class Memory:
    """Videos that are just bytes, by key; a key's label is the folder it is in."""

    def __init__(self, keys, labels=None, content=None):
        labels = labels or {}
        self.samples = [Sample(k, labels[k] if k in labels else k.rpartition("/")[0] or None) for k in keys]
        self.shard_sizes = [len(self.samples)]
        self.description = f"{len(self.samples)} videos in memory"
        self._content = content or {}
        self.reads = 0

    def classes(self):
        return sorted({s.label for s in self.samples if s.label is not None})

    def stage(self, now, then):
        pass

    def size(self, index):
        return len(self._content.get(self.samples[index].key, self.samples[index].key))

    def read(self, index):
        self.reads += 1
        key = self.samples[index].key
        return self._content.get(key, key.encode())


def plain(classes="abc", each=60):
    return [f"{c}/{i:04d}.mp4" for c in classes for i in range(each)]


def ucf(classes=("Archery", "Bowling"), groups=25, clips=4):
    return [f"{c}/v_{c}_g{g:02d}_c{k:02d}" for c in classes for g in range(1, groups + 1) for k in range(1, clips + 1)]


def ntu(performers=range(1, 41), actions=(1, 8, 9, 23, 30, 31), cameras=(1, 2, 3)):
    return [f"S001C{c:03d}P{p:03d}R001A{a:03d}_rgb" for p in performers for a in actions for c in cameras]


def keys(source):
    return [sample.key for sample in source.samples]


def parts_of(splits):
    return {key: part for part in PARTS for key in keys(getattr(splits, part))}


def check_whole(splits, wanted):
    """The parts hold each wanted video once, with its label among the classes, in the source's order."""
    together = [key for part in PARTS for key in keys(getattr(splits, part))]
    assert sorted(together) == sorted(wanted)
    for part in PARTS:
        source = getattr(splits, part)
        assert source.classes() == splits.classes
        assert all(sample.label in splits.classes for sample in source.samples)
        assert sum(source.shard_sizes) == len(source.samples)
        mine = set(keys(source))
        assert keys(source) == [key for key in wanted if key in mine]


@pytest.mark.parametrize(
    ("protocol", "names"),
    [("hash", plain()), ("random", plain()), ("hash-group", ucf()), ("ntu-subject", ntu()), ("ntu-view", ntu())],
)
def test_parts_are_whole_and_disjoint_and_say_their_classes(protocol, names):
    splits = split_labelled(Memory(names), protocol=protocol)
    check_whole(splits, names)
    assert splits.classes == sorted(splits.classes)
    assert splits.ids == {name: k for k, name in enumerate(splits.classes)}
    counts = splits.counts()
    assert list(counts) == splits.classes
    for part in PARTS:
        assert sum(row[part] for row in counts.values()) == len(getattr(splits, part).samples) > 0


def test_hash_has_the_shares_asked_for_and_no_seed():
    names = plain(each=1000)
    splits = split_labelled(Memory(names), shares=(0.6, 0.1, 0.3))
    for share, part in zip((0.6, 0.1, 0.3), PARTS, strict=True):
        assert abs(len(getattr(splits, part).samples) / 3000 - share) < 0.03
    assert parts_of(splits) == parts_of(split_labelled(Memory(names), shares=(0.6, 0.1, 0.3), seed=9))


@pytest.mark.parametrize(("protocol", "make"), [("hash", plain), ("hash-group", ucf)])
def test_adding_files_moves_no_video(protocol, make):
    names, rng = make(), random.Random(0)
    whole = parts_of(split_labelled(Memory(names), protocol=protocol))
    for _ in range(10):
        some = sorted(rng.sample(names, len(names) * 3 // 4))
        rng.shuffle(some)
        before = parts_of(split_labelled(Memory(some), protocol=protocol))
        assert before == {key: whole[key] for key in some}


def test_videos_are_in_the_same_part_loose_and_packed_in_any_way(tmp_path):
    names = [name.removesuffix(".mp4") for name in plain("ab", 12)]
    make_folder(tmp_path / "loose", [f"{name}.mp4" for name in names])
    loose = split_labelled(open_source(tmp_path / "loose"), shares=(0.4, 0.3, 0.3))
    wanted = {key.removesuffix(".mp4"): part for key, part in parts_of(loose).items()}
    for shard_bytes, order in ((1 << 20, names), (6 * len(VIDEO), names[::-1])):
        folder = tmp_path / str(shard_bytes)
        with ShardWriter(folder, "s", shard_bytes) as writer:
            for name in order:
                writer.add(name, ".mp4", VIDEO, label=name[0])
        packed = split_labelled(open_source(folder), shares=(0.4, 0.3, 0.3))
        assert {key.partition("/")[2]: part for key, part in parts_of(packed).items()} == wanted
    assert len(writer.shards) > 1


@pytest.mark.parametrize("names", [ucf(), ntu()])
def test_groups_are_on_one_side(names):
    splits = split_labelled(Memory(names, dict.fromkeys(names[::2], "x") | dict.fromkeys(names[1::2], "y")))
    assert any("share" in leak for leak in splits.leaks)  # by video they are not
    splits = split_labelled(
        Memory(names, dict.fromkeys(names[::2], "x") | dict.fromkeys(names[1::2], "y")), protocol="hash-group"
    )
    seen = {}
    for key, part in parts_of(splits).items():
        name = parse_ntu(key)
        group = name.performer if name else key.rpartition("_")[0]
        assert seen.setdefault(group, part) == part
    assert splits.leaks == []


def test_groups_of_the_users_own():
    names = [f"{c}/subject{s:02d}_take{t}.mp4" for c in "ab" for s in range(30) for t in range(3)]
    splits = split_labelled(Memory(names), protocol="hash-group", groups=r"(subject\d+)")
    sides = {}
    for key, part in parts_of(splits).items():
        assert sides.setdefault(key[2:11], part) == part
    assert set(sides.values()) == set(PARTS)
    with pytest.raises(ValueError, match=r"protocol hash-group: the names of 180 of 180 .*'a/subject00_take0.mp4'"):
        split_labelled(Memory(names), protocol="hash-group")
    with pytest.raises(ValueError, match="has 2 groups in parentheses: exactly one"):
        split_labelled(Memory(names), groups=r"(subject)(\d+)")
    with pytest.raises(ValueError, match="is no regular expression"):
        split_labelled(Memory(names), groups="(")
    with pytest.raises(ValueError, match=r"groups '\(subject0.\)': the names of 120 of 180"):
        split_labelled(Memory(names), groups=r"(subject0.)")


def test_random_cuts_each_class_exactly_by_seed():
    names = plain("abc", 100) + plain("d", 3) + plain("e", 2)
    splits = split_labelled(Memory(names), protocol="random", seed=1)
    counts = splits.counts()
    assert all(list(counts[c].values()) == [70, 15, 15] for c in "abc")
    assert list(counts["d"].values()) == [1, 1, 1]
    assert list(counts["e"].values()) == [1, 0, 1]
    assert "1 of 5 classes have no video in val, such as 'e' (2 videos in all)" in splits.notes
    shuffled = random.Random(0).sample(names, len(names))
    assert parts_of(split_labelled(Memory(shuffled), protocol="random", seed=1)) == parts_of(splits)
    assert parts_of(split_labelled(Memory(names), protocol="random", seed=2)) != parts_of(splits)


def test_random_says_which_groups_cross():
    splits = split_labelled(Memory(ucf()), protocol="random")
    test = {key.rpartition("_")[0] for key in keys(splits.test)}
    both = test & {key.rpartition("_")[0] for key in keys(splits.train)}
    videos = sum(key.rpartition("_")[0] in both for key in keys(splits.test))
    leak = next(leak for leak in splits.leaks if leak.startswith("train and test share"))
    assert f"{len(both)} of the {len(test)} groups" in leak
    assert f"{videos} of the {len(splits.test.samples)} videos" in leak
    assert "hash-group" in leak


def test_folders_are_parts():
    names = [
        f"{p}/{c}/{i:02d}.avi" for p, n in (("train", 30), ("val", 3), ("test", 8)) for c in "ab" for i in range(n)
    ]
    splits = split_labelled(Memory(names, {k: k.split("/")[1] for k in names}), protocol="folders")
    check_whole(splits, names)
    assert all(key.startswith(part) for key, part in parts_of(splits).items())
    assert splits.classes == ["a", "b"]
    deeper = [f"{p}/{c}/day{i % 2}/{i:02d}.avi" for p in PARTS for c in "ab" for i in range(4)]
    found = split_labelled(Memory(deeper, {k: k.split("/")[2] for k in deeper}), protocol="folders")
    assert found.classes == ["a", "b"]  # not day0 and day1
    given = split_labelled(Memory(deeper, {k: "xy"[k[-5] in "02"] for k in deeper}), protocol="folders")
    assert given.classes == ["x", "y"]  # a table's labels stay


@pytest.mark.parametrize("val", ["valid", "validation", "Val"])
def test_folders_by_their_other_names_and_what_is_beside_them(val):
    names = [f"{p}/{c}/{i}.avi" for p in ("training", val, "test") for c in "ab" for i in range(3)]
    labels = {k: k.split("/")[1] for k in names} | {"extra/a/0.avi": "a"}
    splits = split_labelled(Memory([*names, "extra/a/0.avi"], labels), protocol="folders")
    assert [len(getattr(splits, part).samples) for part in PARTS] == [6, 6, 6]
    assert "1 videos outside train, val and test are left out, such as 'extra/a/0.avi'" in splits.notes


def test_folders_without_val_cut_it_from_train():
    names = [f"{p}/{c}/{i:03d}.avi" for p in ("train", "test") for c in "ab" for i in range(50)]
    splits = split_labelled(Memory(names, {k: k.split("/")[1] for k in names}), protocol="folders")
    check_whole(splits, names)
    assert keys(splits.test) == names[100:]
    assert 5 < len(splits.val.samples) < 35
    assert any("validation is cut from the training part: videos by a hash" in note for note in splits.notes)


def test_folders_without_a_labelled_test_part_test_val():
    names = [f"{p}/{i:03d}" for p in ("train", "validation", "test") for i in range(40)]
    labels = {k: None if k.startswith("test") else "ab"[int(k[-1]) % 2] for k in names}
    splits = split_labelled(Memory(names, labels), protocol="folders")
    assert keys(splits.test) == names[40:80]
    assert set(keys(splits.val)) | set(keys(splits.train)) == set(names[:40])
    assert any("videos in test have no labels: val is the test part" in note for note in splits.notes)


def test_folders_that_are_not_there():
    with pytest.raises(ValueError, match=r"protocol folders: there is no folder train above .*; there is a, b, c"):
        split_labelled(Memory(plain()), protocol="folders")
    with pytest.raises(ValueError, match="neither a folder test nor a folder val"):
        split_labelled(Memory([f"train/{k}" for k in plain()]), protocol="folders")


def write_shards(folder, names, label):
    with ShardWriter(folder, folder.name) as writer:
        for name in names:
            writer.add(name, ".mp4", VIDEO, label=label(name))


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
        def stage(self, now, then):
            self.staged = (list(now), list(then))

    one, two = Staged(plain("a", 4)), Staged(plain("b", 4))
    one.shard_sizes, two.shard_sizes = [2, 2], [1, 1, 2]
    join({"x": one, "y": two}).stage([0, 2, 4], [1, 3])
    assert (one.staged, two.staged) == (([0], [1]), ([0, 2], [1]))
    with pytest.raises(ValueError, match="no sources"):
        join({})


def write_lists(folder, names, split, tested):
    folder.mkdir(parents=True, exist_ok=True)
    lists = {"train": [], "test": []}
    for name in names:
        group = int(name[-6:-4])
        lists["test" if group in tested else "train"].append(f"{name}.avi")
    (folder / f"trainlist{split:02d}.txt").write_text("".join(f"{name} 1\r\n" for name in lists["train"]))
    (folder / f"testlist{split:02d}.txt").write_text("\n".join(lists["test"]))


@pytest.mark.parametrize("where", ["videos/lists", "ucfTrainTestlist", "given"])
def test_official_lists_of_ucf101(tmp_path, where):
    names = ucf(groups=25, clips=2)
    make_folder(tmp_path / "videos", [f"UCF-101/{name}.avi" for name in [*names, "Archery/v_Archery_g99_c01"]])
    write_lists(
        tmp_path / "far" / where if where == "given" else tmp_path / where, [*names, "B/v_B_g01_c01"], 2, range(8, 15)
    )
    lists = tmp_path / "far/given" if where == "given" else None
    splits = split_labelled(open_source(tmp_path / "videos"), protocol="ucf101-2", lists=lists)
    groups = {part: {int(key[-10:-8]) for key in keys(getattr(splits, part))} for part in PARTS}
    assert groups["test"] == set(range(8, 15))
    sides = {}
    for key, part in parts_of(splits).items():
        assert sides.setdefault(key.rpartition("_")[0], part) == part  # validation by group
    assert len(parts_of(splits)) == len(names)
    assert any("1 videos are on neither official list" in note for note in splits.notes)
    assert any("1 of 101 videos on the official lists are not there" in note for note in splits.notes)
    with pytest.raises(ValueError, match=r"there is no trainlist01.txt with testlist01.txt in or beside .*put the"):
        split_labelled(open_source(tmp_path / "videos"), protocol="ucf101-1", lists=lists)


def test_packed_parts_of_ucf101_are_of_one_split_only():
    names = [f"{'test' if int(n[-6:-4]) <= 7 else 'train'}/{n}" for n in ucf()]
    source = Memory(names, {name: name.split("/")[1] for name in names})
    splits = split_labelled(source, protocol="ucf101-1")
    assert {int(key[-6:-4]) for key in keys(splits.test)} == set(range(1, 8))
    with pytest.raises(ValueError, match="protocol ucf101-2: the videos were packed by another split"):
        split_labelled(source, protocol="ucf101-2")


@pytest.mark.parametrize(("last", "training"), [(60, TRAINING_PERFORMERS_60), (61, TRAINING_PERFORMERS_120)])
def test_cross_subject(last, training):
    names = ntu(range(1, 107), (8, 9, last), (1,))
    splits = split_labelled(Memory(names), protocol="ntu-subject")
    found = {part: {parse_ntu(key).performer for key in keys(getattr(splits, part))} for part in PARTS}
    assert found["test"] == set(range(1, 107)) - training
    assert found["train"] | found["val"] == training
    assert not found["train"] & found["val"]
    assert splits.leaks == []
    assert splits.classes == ["A008", "A009", f"A{last:03d}"]
    assert (len(TRAINING_PERFORMERS_60), len(TRAINING_PERFORMERS_120)) == (20, 53)


def test_cross_view():
    splits = split_labelled(Memory(ntu()), protocol="ntu-view")
    assert {parse_ntu(key).camera for key in keys(splits.test)} == {1}
    assert {parse_ntu(key).camera for key in keys(splits.train)} == {2, 3}
    train, val = ({parse_ntu(key).performer for key in keys(part)} for part in (splits.train, splits.val))
    assert not train & val
    assert any("it tests new cameras" in leak for leak in splits.leaks)


def test_validation_of_one_performer_is_cut_by_video():
    splits = split_labelled(Memory(ntu([1, 3], range(1, 31), (1,))), protocol="ntu-subject", groups=None, classes={
        f"A{a:03d}": "ab"[a % 2] for a in range(1, 31)
    })  # fmt: skip
    assert len(splits.val.samples) > 0
    assert any("train and val share 1 of the 1 groups" in leak for leak in splits.leaks)


def test_names_that_are_not_ntus():
    with pytest.raises(ValueError, match=r"protocol ntu-view: 2 of 722 names are not like .*'x/y.avi'"):
        split_labelled(Memory([*ntu(), "x/y.avi", "x/z.avi"], dict.fromkeys(ntu(), "w")), protocol="ntu-view")


def test_the_four_classes_of_ntu():
    names = ntu(range(1, 41), (1, 2, 8, 9, 23, 30), (1, 2))
    splits = split_labelled(Memory(names), protocol="ntu-subject", classes="ntu-4")
    assert splits.classes == ["other", "sitting down", "standing up", "waving"]
    for part in PARTS:
        named = [row[part] for name, row in splits.counts().items() if name != "other"]
        assert splits.counts()["other"][part] == round(sum(named) / 3)
    for sample in splits.train.samples:
        wanted = {8: "sitting down", 9: "standing up", 23: "waving"}
        assert sample.label == wanted.get(parse_ntu(sample.key).action, "other")
    assert any("'other' keeps as many videos" in note for note in splits.notes)
    by_name = Memory(names, {k: f"x{parse_ntu(k).action}" for k in names})  # labels of the user's own: names count
    assert split_labelled(by_name, protocol="ntu-subject", classes="ntu-4").counts() == splits.counts()


def test_classes_are_renamed_put_together_and_left_out():
    splits = split_labelled(Memory(plain("abcd")), classes={"a": "x", "b": "x", "c": "y"})
    assert splits.classes == ["x", "y"]
    check_whole(splits, plain("abc"))
    assert all(s.label == ("y" if s.key[0] == "c" else "x") for s in splits.train.samples)
    assert "60 of 240 videos are of classes that are not wanted" in splits.notes
    with pytest.raises(
        ValueError, match="classes name the label 'z', which no video has; among the labels are 'a', 'b'"
    ):
        split_labelled(Memory(plain()), classes={"a": "x", "z": "y", "*": "w"})
    with pytest.raises(ValueError, match="no preset of classes is named 'ntu-5': there is ntu-4"):
        split_labelled(Memory(plain()), classes="ntu-5")
    with pytest.raises(ValueError, match=r"1 of 181 videos have no label, such as 'top.mp4'"):
        split_labelled(Memory([*plain(), "top.mp4"]), classes={"a": "x", "*": "w"})
    with pytest.raises(ValueError, match="classes must map labels"):
        split_labelled(Memory(plain()), classes={})


def test_fewer_videos_are_among_more_and_the_other_parts_stay():
    names = plain(each=200)
    whole = split_labelled(Memory(names), seed=3)
    before = set()
    for count in (1, 10, 50, 100):
        splits = split_labelled(Memory(names), videos_per_class=count, seed=3)
        chosen = set(keys(splits.train))
        assert [row["train"] for row in splits.counts().values()] == [count] * 3
        assert before < chosen <= set(keys(whole.train))
        assert keys(splits.val) == keys(whole.val)
        assert keys(splits.test) == keys(whole.test)
        before = chosen
    other = split_labelled(Memory(names), videos_per_class=100, seed=4)
    assert set(keys(other.train)) != before


def test_too_few_videos_for_what_is_asked():
    names = plain("ab", 200) + plain("c", 20)
    there = split_labelled(Memory(names)).counts()["c"]["train"]
    with pytest.raises(
        ValueError, match=f"videos_per_class is 50, and of training videos 'c' has {there}: ask for at most {there}"
    ):
        split_labelled(Memory(names), videos_per_class=50)
    with pytest.raises(ValueError, match="videos_per_class must be at least 1; got 0"):
        split_labelled(Memory(names), videos_per_class=0)


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


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path):
    def refused(match, names, **options):
        with pytest.raises(ValueError, match=match) as caught:
            split_labelled(names if isinstance(names, Memory) else Memory(names), **options)
        assert "\n" not in str(caught.value)

    refused(
        "unknown protocol 'kfold': the protocols are hash, hash-group, folders, ucf101-1", plain(), protocol="kfold"
    )
    refused(r"sum to 1; got 0.7, 0.2, 0.2 \(sum 1.1\)", plain(), shares=(0.7, 0.2, 0.2))
    refused("three positive numbers", plain(), shares=(0.8, 0.2))
    refused("three positive numbers", plain(), shares=(0.8, 0.2, 0.0))
    refused("all 60 videos are of the class 'a': a classifier needs at least two", plain("a"))
    refused("the class 'd' has one video: a class needs", [*plain(), "d/0.mp4"])
    refused("the class 'd' has one video, and so it is with 1 more", [*plain(), "d/0.mp4", "e/0.mp4"])
    refused("2 of 182 videos have no label, such as '0.mp4': put .* CSV", [*plain(), "0.mp4", "1.mp4"])
    refused("puts none of the 4 videos into val: add", plain("ab", 2), protocol="random")
    make_folder(tmp_path, ["x.mp4", "y.mp4", "z.mp4"])
    (tmp_path / "labels.csv").write_text("path,label\nx.mp4,a\ny.mp4,b\n")
    with pytest.raises(ValueError, match=r"1 of 3 videos have no label, such as 'z.mp4'"):
        split_labelled(open_source(tmp_path, tmp_path / "labels.csv"))


def test_a_class_without_training_videos_is_refused_and_others_are_noted():
    parts = parts_of(split_labelled(Memory(plain("ab", 200))))
    tested = [key for key in plain("a", 200) if parts[key] == "test"][:3]
    with pytest.raises(ValueError, match="protocol hash puts none of the 3 videos of the class 'a' into train: add"):
        split_labelled(Memory([*plain("b", 200), *tested]))
    trained = [key for key in plain("a", 200) if parts[key] == "train"][:3]
    splits = split_labelled(Memory([*trained, *plain("b", 200)]))
    assert "1 of 2 classes have no video in test, such as 'a' (3 videos in all)" in splits.notes
    assert splits.test.classes() == ["a", "b"]  # ids mean the same in every part


def test_relabelling():
    source = Memory(plain("ab", 2))
    new = relabel(subset(source, [True, False, True, True]), ["x", "y", "x"], ["x", "y", "z"])
    assert [(s.key, s.label) for s in new.samples] == [("a/0000.mp4", "x"), ("b/0000.mp4", "y"), ("b/0001.mp4", "x")]
    assert [s.label for s in new.samples[1:]] == ["y", "x"]
    assert new.classes() == ["x", "y", "z"]
    assert new.read(1) == b"b/0000.mp4"
    with pytest.raises(ValueError, match="2 labels for 4 samples"):
        relabel(source, ["x", "y"], ["x", "y"])


def test_classes_that_a_mirror_changes():
    names = ["Pulling something from left to right", "TurnLeft", "swipe_right", "Swing Clockwise", "counter-clockwise"]
    same = ["bright room", "upright", "leftover food", "waving", "Turning something upside down"]
    assert mirror_changes(names + same) == set(names)
    assert mirror_changes(names + same, also=["waving"]) == {*names, "waving"}
    with pytest.raises(ValueError, match="no class is named 'wave': the classes are a, b"):
        mirror_changes(["b", "a"], also=["wave"])


SPEC = ViewSpec(frames=4, size=16)


def test_a_view_that_is_not_flipped_is_otherwise_the_same():
    info = probe(VIDEO)
    flipped = 0
    for i in range(40):
        sample = Sample(f"k{i}", "left")
        drawn = SPEC.draw(sample.key, 0, 0, info)
        kept = training_view(SPEC, sample, 0, 0, info, {"left"})
        assert (kept.frames, kept.box, kept.flip) == (drawn.frames, drawn.box, False)
        assert (kept.hash == drawn.hash) == (not drawn.flip)
        assert training_view(SPEC, sample, 0, 0, info, {"right"}) == drawn
        flipped += drawn.flip
    assert 5 < flipped < 35


def test_the_loader_flips_no_clip_of_such_a_class(tmp_path):
    make_folder(tmp_path, [f"{label}/{i}.mp4" for label in ("left", "still") for i in range(8)])
    source, info = open_source(tmp_path), probe(VIDEO)
    with TrainLoader(source, SPEC, batch=16, seed=5, no_flip=["left"]) as loader:
        batch = next(loader)
    views = [SPEC.draw(key, 5, 0, info) for key in batch.keys]
    assert {(view.flip, label) for view, label in zip(views, batch.labels, strict=True)} >= {
        (True, "left"),
        (True, "still"),
    }
    wanted = [
        training_view(SPEC, Sample(v.key, k), 5, 0, info, {"left"}) for v, k in zip(views, batch.labels, strict=True)
    ]
    assert batch.view_hashes.tolist() == [view.hash for view in wanted]
    with TrainLoader(source, SPEC, batch=16, seed=5) as loader:
        plain_batch = next(loader)
    for k, (view, label) in enumerate(zip(views, batch.labels, strict=True)):
        pixels = plain_batch.clips[k].flip(2) if view.flip and label == "left" else plain_batch.clips[k]
        assert bool((batch.clips[k] == pixels).all())
