"""HMDB-51's official lists."""

import pytest

from fastvid.data import hold_out, open_source, split_labelled
from fastvid.data.splits.official import official_splits
from tests.data.labelled_videos import ucf
from tests.data.test_labelled_official import write_lists
from tests.data.test_sources import make_folder

CLASSES = ("brush_hair", "wave")
NAMES = [f"{name}/#437_How_To_(1)_{name}_u_nm_np{i}_ri_goo_{i}" for name in CLASSES for i in range(6)]


def write_hmdb(folder, *, splits=(1, 2, 3), extra=()):
    """Split s: of the six videos of a class, those whose number is s - 1 or s + 2 are tested, number 5 is left out."""
    folder.mkdir(parents=True, exist_ok=True)
    for split in splits:
        for name in CLASSES:
            lines = []
            for path in [*NAMES, *extra]:
                if path.startswith(name):
                    number = int(path[-1])
                    part = 0 if number == 5 else 2 if number % 3 == split - 1 else 1
                    lines.append(f"{path.partition('/')[2]}.avi {part} ")
            (folder / f"{name}_test_split{split}.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("where", ["videos/lists", "testTrainMulti_7030_splits", "given/far"])
def test_three_official_splits(tmp_path, where):
    make_folder(tmp_path / "videos", [f"{name}.avi" for name in [*NAMES, "wave/other"]])
    write_hmdb(tmp_path / where, extra=["wave/gone_1"])
    lists = tmp_path / where if where.startswith("given") else None
    found = official_splits(open_source(tmp_path / "videos"), "hmdb51", lists)
    assert {sample.key for sample in found.source.samples} == {f"{name}.avi" for name in NAMES if name[-1] != "5"}
    for split, (train, test) in enumerate(zip(found.train, found.test, strict=True)):
        assert {int(key[-5]) % 3 for key in test} == {split}
        assert not train & test
        assert len(train | test) == 10
    assert found.source.classes() == list(CLASSES)
    assert "split 1: 1 of 11 videos on the official lists are not there" in found.notes
    assert any("split 1: 3 videos are on no official list or left out by it" in note for note in found.notes)


def test_one_of_them_is_a_protocol(tmp_path):
    make_folder(tmp_path / "videos", [f"{name}.avi" for name in NAMES])
    write_hmdb(tmp_path / "lists")
    splits = split_labelled(open_source(tmp_path / "videos"), protocol="hmdb51-2")
    assert {sample.key[-5] for sample in splits.test.samples} == {"1", "4"}
    with pytest.raises(ValueError, match=r"there is no CLASS_test_split1.txt in or beside"):
        split_labelled(open_source(tmp_path / "videos"), protocol="hmdb51-1", lists=tmp_path / "videos")


def test_lists_beside_the_videos_are_a_visible_split(tmp_path):
    make_folder(tmp_path / "videos", [f"{name}.avi" for name in NAMES])
    write_hmdb(tmp_path / "lists")
    _, test, notes = hold_out(open_source(tmp_path / "videos"), 0.3)
    assert {sample.key[-5] for sample in test.samples} == {"0", "3"}
    assert "protocol hmdb51-1, since the lists of HMDB-51" in notes[0]
    make_folder(tmp_path / "others", ["run/1.avi", "wave/2.avi", "run/2.avi"])
    _, _, notes = hold_out(open_source(tmp_path / "others"), 0.3)  # not all of its classes are theirs
    assert "protocol hash" in notes[0]


def test_damaged_lists_are_refused(tmp_path):
    make_folder(tmp_path / "videos", [f"{name}.avi" for name in NAMES])
    write_hmdb(tmp_path / "lists")
    with (tmp_path / "lists" / "wave_test_split1.txt").open("a") as file:
        file.write("x.avi 3\n")
    with pytest.raises(
        ValueError, match=r"wave_test_split1.txt, line 7: not a video and 0, 1 or 2; it reads 'x.avi 3'"
    ):
        official_splits(open_source(tmp_path / "videos"), "hmdb51")
    write_hmdb(tmp_path / "whole")
    make_folder(tmp_path / "wrong", ["run/1.avi", "walk/2.avi"])
    with pytest.raises(ValueError, match="name none of the videos"):
        official_splits(open_source(tmp_path / "wrong"), "hmdb51", tmp_path / "whole")


def test_the_three_splits_of_ucf101(tmp_path):
    names = ucf(groups=25, clips=1)
    make_folder(tmp_path / "videos", [f"{name}.avi" for name in names])
    for split, tested in ((1, range(1, 8)), (2, range(8, 15)), (3, range(15, 22))):
        write_lists(tmp_path / "ucfTrainTestlist", names, split, tested)
    found = official_splits(open_source(tmp_path / "videos"), "ucf101")
    assert len(found.source.samples) == len(names)
    assert [{int(key[-10:-8]) for key in test} for test in found.test] == [
        set(range(1, 8)), set(range(8, 15)), set(range(15, 22))
    ]  # fmt: skip
    assert not set.intersection(*found.test)
    assert all(len(train | test) == len(names) for train, test in zip(found.train, found.test, strict=True))
