"""Which classes and how many videos take part, and what is refused."""

import pytest

from fastvid.data import open_source, relabel, split_labelled, subset
from tests.data.labelled_videos import Memory, check_whole, keys, parts_of, plain
from tests.data.test_sources import make_folder


def test_classes_are_renamed_put_together_and_left_out():
    splits = split_labelled(Memory(plain("abcd")), classes={"a": "x", "b": "x", "c": "y"})
    assert splits.classes == ["x", "y"]
    check_whole(splits, plain("abc"))
    assert all(s.label == ("y" if s.key[0] == "c" else "x") for s in splits.train.samples)
    assert "60 of 240 videos are of classes that are not wanted" in splits.notes
    with pytest.raises(ValueError, match=r"'z'.* 'a', 'b'"):
        split_labelled(Memory(plain()), classes={"a": "x", "z": "y", "*": "w"})
    with pytest.raises(ValueError, match=r"'ntu-5'.* ntu-4"):
        split_labelled(Memory(plain()), classes="ntu-5")
    with pytest.raises(ValueError, match=r"1 of 181 videos .*'top.mp4'"):
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
    with pytest.raises(ValueError, match=f"videos_per_class is 50.* 'c' has {there}"):
        split_labelled(Memory(names), videos_per_class=50)
    with pytest.raises(ValueError, match=r"videos_per_class .* got 0"):
        split_labelled(Memory(names), videos_per_class=0)


def test_what_does_not_fit_is_said_in_one_sentence(tmp_path):
    def refused(match, names, **options):
        with pytest.raises(ValueError, match=match) as caught:
            split_labelled(names if isinstance(names, Memory) else Memory(names), **options)
        assert "\n" not in str(caught.value)

    refused(
        "unknown protocol 'kfold': the protocols are auto, hash, hash-group, folders, table, ucf101-1",
        plain(),
        protocol="kfold",
    )
    refused(r"sum to 1; got 0.7, 0.2, 0.2 \(sum 1.1\)", plain(), shares=(0.7, 0.2, 0.2))
    refused("three positive numbers", plain(), shares=(0.8, 0.2))
    refused("three positive numbers", plain(), shares=(0.8, 0.2, 0.0))
    refused("all 60 videos are of the class 'a': a classifier needs at least two", plain("a"))
    refused("the class 'd' has one video: a class needs", [*plain(), "d/0.mp4"])
    refused("the class 'd' has one video, and so it is with 1 more", [*plain(), "d/0.mp4", "e/0.mp4"])
    refused("2 of 182 videos have no label, such as '0.mp4': put .* --data.labels", [*plain(), "0.mp4", "1.mp4"])
    refused("puts none of the 4 videos into val: add", plain("ab", 2), protocol="random")
    make_folder(tmp_path, ["x.mp4", "y.mp4", "z.mp4"])
    (tmp_path / "labels.csv").write_text("path,label\nx.mp4,a\ny.mp4,b\n")
    with pytest.raises(ValueError, match=r"'a' has one video.* 1 more"):  # z.mp4 is left out
        split_labelled(open_source(tmp_path, tmp_path / "labels.csv"))


def test_a_class_without_training_videos_is_refused_and_others_are_noted():
    parts = parts_of(split_labelled(Memory(plain("ab", 200))))
    tested = [key for key in plain("a", 200) if parts[key] == "test"][:3]
    with pytest.raises(ValueError, match="none of the 3 videos of the class 'a' into train"):
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
