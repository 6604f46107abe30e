"""UCF-101's official lists and NTU RGB+D's protocols."""

import pytest

from fastvid.data import open_source, split_labelled
from fastvid.data.ntu_names import TRAINING_PERFORMERS_60, TRAINING_PERFORMERS_120, parse_ntu
from fastvid.data.pack.ucf101 import ucf101
from tests.data.labelled_videos import PARTS, Memory, keys, ntu, parts_of, ucf
from tests.data.test_sources import VIDEO, make_folder


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
    with pytest.raises(ValueError, match=r"trainlist01.txt .*testlist01.txt"):
        split_labelled(open_source(tmp_path / "videos"), protocol="ucf101-1", lists=lists)


def test_packed_parts_of_ucf101_are_of_one_split_only():
    names = [f"{'test' if int(n[-6:-4]) <= 7 else 'train'}/{n}" for n in ucf()]
    source = Memory(names, {name: name.split("/")[1] for name in names})
    splits = split_labelled(source, protocol="ucf101-1")
    assert {int(key[-6:-4]) for key in keys(splits.test)} == set(range(1, 8))
    with pytest.raises(ValueError, match="protocol ucf101-2"):
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
    with pytest.raises(ValueError, match=r"protocol ntu-view: 2 of 722 .*'x/y.avi'"):
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


@pytest.mark.parametrize("in_list", ["HandstandPushups", "HandStandPushups"])
@pytest.mark.parametrize("in_folder", ["HandstandPushups", "handStandPushups"])
def test_ucf101_spells_one_class_in_two_ways(tmp_path, in_list, in_folder):
    def names(folder, clip):
        return [f"{folder}/v_{clip}_g{g:02d}_c01.avi" for g in range(1, 26)]

    other = names("Archery", "Archery")
    make_folder(tmp_path / "v", [*names(in_folder, "HandStandPushups"), *other])
    listed = [*names(in_list, "HandstandPushups"), *other]
    (tmp_path / "trainlist01.txt").write_text("".join(f"{n} 1\n" for n in listed if int(n[-10:-8]) > 7))
    (tmp_path / "testlist01.txt").write_text("".join(f"{n}\n" for n in listed if int(n[-10:-8]) <= 7))
    splits = split_labelled(open_source(tmp_path / "v"), protocol="ucf101-1")
    assert len(parts_of(splits)) == 50
    assert splits.classes == ["Archery", in_list]
    assert len(splits.test.samples) == 14
    parts = ucf101(tmp_path)
    assert {item.size for part in parts.values() for item in part.items} == {len(VIDEO)}
    assert {item.label for part in parts.values() for item in part.items} == {"Archery", in_list}


def test_lists_that_cannot_be_read_and_videos_of_one_name(tmp_path):
    make_folder(tmp_path, ["A/v_A_g01_c01.avi", "a/v_A_g01_c01.avi", "B/v_B_g01_c01.avi"])
    (tmp_path / "trainlist01.txt").write_text("A/v_A_g01_c01.avi 1\n")
    (tmp_path / "testlist01.txt").write_text("B/v_B_g01_c01.avi\n")
    with pytest.raises(ValueError, match=r"a/v_a_g01_c01"):
        split_labelled(open_source(tmp_path), protocol="ucf101-1")
    (tmp_path / "testlist01.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"testlist01\.txt, line 1: not UTF-16"):
        split_labelled(open_source(tmp_path), protocol="ucf101-1")
