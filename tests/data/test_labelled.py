"""How labelled videos are split into training, validation and test."""

import random

import pytest

from fastvid.data import ShardWriter, open_source, split_labelled
from fastvid.data.ntu_names import parse_ntu
from tests.data.labelled_videos import PARTS, Memory, check_whole, keys, ntu, parts_of, plain, ucf
from tests.data.test_sources import VIDEO, make_folder


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
    labels = dict.fromkeys(names[::2], "x") | dict.fromkeys(names[1::2], "y")
    splits = split_labelled(Memory(names, labels), protocol="hash")
    assert any("share" in leak for leak in splits.leaks)  # by video they are not
    splits = split_labelled(Memory(names, labels), protocol="hash-group")
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
    with pytest.raises(ValueError, match="2 groups"):
        split_labelled(Memory(names), groups=r"(subject)(\d+)")
    with pytest.raises(ValueError, match="regular expression"):
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
    with pytest.raises(ValueError, match=r"protocol folders: .* train .* a, b, c"):
        split_labelled(Memory(plain()), protocol="folders")
    with pytest.raises(ValueError, match=r"test .* val"):
        split_labelled(Memory([f"train/{k}" for k in plain()]), protocol="folders")


@pytest.mark.parametrize("count", range(3, 12))
@pytest.mark.parametrize("shares", [(0.1, 0.45, 0.45), (0.98, 0.01, 0.01), (0.05, 0.05, 0.9)])
def test_random_leaves_no_part_of_a_class_empty(count, shares):
    rows = split_labelled(Memory(plain("ab", count)), protocol="random", shares=shares).counts().values()
    assert all(min(row.values()) >= 1 and sum(row.values()) == count for row in rows)
