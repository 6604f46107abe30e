"""Which videos a SALT run trains on, and which its probes are tested on."""

import pytest

from fastvid.data.demo.files import DemoSize
from fastvid.projects.salt import data as salt_data
from fastvid.projects.salt.data import open_data
from fastvid.train.config import DataConfig
from fastvid.train.session import UserError
from tests.data.robots import make_2_1


def make(root, names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"opened, and not decoded")


def found(source):
    return [sample.key for sample in source.samples]


def test_the_users_own_split_is_kept(tmp_path, caplog):
    caplog.set_level("INFO")
    names = [f"{part}/{label}/{i}.mp4" for part in ("test", "train", "val") for label in "ab" for i in range(5)]
    make(tmp_path, names)
    data = open_data(DataConfig(path=str(tmp_path)), DemoSize())
    assert found(data.train) == [key for key in names if key.startswith("train")]
    assert found(data.test) == [key for key in names if key.startswith("test")]
    assert found(data.whole) == names  # what a latent cache is made for
    assert data.classes == ["a", "b"]
    assert "split: protocol folders, since there are folders named test, train, val" in caplog.text


def test_without_a_split_no_video_is_looked_at_before_training(tmp_path, monkeypatch):
    names = [f"{part}/{label}/{i}.mp4" for part in ("test", "train") for label in "ab" for i in range(5)]
    make(tmp_path, names)
    monkeypatch.setattr(salt_data, "hold_out", None)  # it goes through all videos
    data = open_data(DataConfig(path=str(tmp_path)), DemoSize(), split="none")
    assert found(data.train) == names
    assert (data.test, data.classes) == (None, [])


def test_a_split_without_labels_trains_on_its_training_part(tmp_path):
    make(tmp_path, [f"{part}/{i}.mp4" for part in ("train", "val") for i in range(5)])
    data = open_data(DataConfig(path=str(tmp_path)), DemoSize())
    assert found(data.train) == [f"train/{i}.mp4" for i in range(5)]
    assert (data.test, data.classes) == (None, [])


def test_without_a_split_a_share_is_held_out_and_without_classes_nothing(tmp_path, caplog):
    caplog.set_level("INFO")
    make(tmp_path / "two", [f"{label}/{i}.mp4" for label in "ab" for i in range(50)])
    data = open_data(DataConfig(path=str(tmp_path / "two")), DemoSize())
    assert len(data.train.samples) + len(data.test.samples) == 100
    held = len(data.test.samples)
    assert f"split: protocol hash, since the data set shows none: {held} of 100 videos are held out" in caplog.text
    make(tmp_path / "one", [f"a/{i}.mp4" for i in range(50)])
    data = open_data(DataConfig(path=str(tmp_path / "one")), DemoSize())
    assert (len(data.train.samples), data.test) == (50, None)
    assert "split: none, since the data set shows none and all labelled videos are of 'a'" in caplog.text
    make(tmp_path / "none", [f"{i}.mp4" for i in range(5)])
    data = open_data(DataConfig(path=str(tmp_path / "none")), DemoSize())
    assert (len(data.train.samples), data.test) == (5, None)
    assert "split: none, since the data set shows none and no video has a label" in caplog.text


def test_a_table_that_does_not_fit_is_one_sentence(tmp_path):
    make(tmp_path, ["a/0.mp4", "b/1.mp4"])
    (tmp_path / "labels.csv").write_text("path,label\na/0.mp4,run\na/0.mp4,walk\n")
    with pytest.raises(UserError, match=r"labels\.csv, lines 2 and 3: 'a/0.mp4' .*'run' and 'walk'"):
        open_data(DataConfig(path=str(tmp_path), labels=str(tmp_path / "labels.csv")), DemoSize())


def test_a_robot_s_episodes_are_videos(tmp_path):
    make_2_1(tmp_path / "robot")
    data = open_data(DataConfig(path=str(tmp_path / "robot"), cameras=("top",), holdout=0.5), DemoSize())
    assert data.classes == ["fold the towel", "open the drawer"]
    assert {key.partition("/")[2] for key in found(data.whole)} == {"observation.images.top"}
    assert found(data.train) + found(data.test) == sorted(found(data.whole), key=lambda key: key in found(data.test))
    with pytest.raises(UserError, match="has no camera 'front'"):
        open_data(DataConfig(path=str(tmp_path / "robot"), cameras=("front",)), DemoSize())
