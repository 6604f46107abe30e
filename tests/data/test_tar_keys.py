"""Tar members whose names have more than one dot: one sample up to the first dot, as WebDataset reads them."""

import pytest

from fastvid.data import open_source
from fastvid.data.commands.index import IndexCommand, run
from fastvid.data.pack.webdataset import webdataset
from tests.data.test_sources import write_tar
from tests.video.clips import encode

LEFT, RIGHT = encode(8), encode(6)


def test_the_only_video_of_a_key_is_taken(tmp_path):
    members = {
        "0.left.mp4": LEFT,
        "0.cls": b"7",
        "0.left.jpg": b"a picture",
        "a.b/1.Top.MP4": LEFT,
        "a.b/1.top.cls": b"8",
    }
    write_tar(tmp_path / "x.tar", members)
    source = open_source(tmp_path)
    assert [(s.key, s.label) for s in source.samples] == [("x/0", "7"), ("x/a.b/1", "8")]
    assert source.read(0) == LEFT


@pytest.mark.parametrize("names", [("0.left.mp4", "0.right.mp4"), ("0.mp4", "0.right.mp4"), ("0.mp4", "0.webm")])
def test_of_several_videos_one_has_to_be_chosen(tmp_path, names, capsys):
    write_tar(tmp_path / "x.tar", {names[0]: LEFT, names[1]: RIGHT, "1.mp4": LEFT, "1.right.mp4": RIGHT, "2.jpg": b"-"})
    words = rf"x\.tar: the sample '0' has 2 videos \({names[0]}, {names[1]}; .*"
    for refuse in (open_source, webdataset):
        with pytest.raises(ValueError, match=words):
            refuse(tmp_path)
    wanted = names[1][2:]
    items = webdataset(tmp_path, wanted)[""].items
    assert [item.member for item in items] == [names[1]] + ["1.right.mp4"] * (wanted == "right.mp4")
    assert run(IndexCommand(tmp_path, jobs=0, video=wanted)) == 0
    source = open_source(tmp_path)
    assert source.read(0) == RIGHT
    assert len(source.samples) == len(items)
    if wanted == "webm":
        said = "x.tar: 1 of 2 samples have videos, and none that is named KEY.webm (they have mp4 (1), right.mp4 (1))"
        assert f"{said}: passed over" in capsys.readouterr().out


def test_the_advice_counts_what_each_choice_keeps(tmp_path):
    views = {f"{k}.{view}.mp4": LEFT for k in range(3) for view in ("left", "right", "top")[: 2 + k % 2]}
    write_tar(tmp_path / "x.tar", {**views, "3.right.mp4": RIGHT, "4.jpg": b"-"})
    with pytest.raises(ValueError, match="the sample '0' has 2 videos") as refused:
        open_source(tmp_path)
    said = str(refused.value)
    assert "Of 4 samples, so many have right.mp4 (4), left.mp4 (3), top.mp4 (1). Choose one" in said
    assert "--video right.mp4`, or with --video of pack --format webdataset: this one keeps 4 of 8 videos." in said


def test_dots_that_are_part_of_names_are_advised_to_be_kept_apart(tmp_path):
    """``walk.0001.mp4``, ``walk.0002.mp4`` and so on: to WebDataset they are one sample."""
    write_tar(tmp_path / "x.tar", {f"walk.{k:04d}.mp4": LEFT for k in range(7)})
    for refuse in (open_source, webdataset):
        with pytest.raises(ValueError, match="the sample 'walk' has 7 videos") as refused:
            refuse(tmp_path)
        said = str(refused.value)
        assert "0004.mp4 (1) and 2 other names" in said
        assert "this one keeps 1 of 7 videos" in said
        assert "To keep all of them, as samples of their own, unpack the tar and give the folder to pack" in said


def test_a_tar_without_videos_says_what_a_video_is(tmp_path):
    write_tar(tmp_path / "x.tar", {"0.jpg": b"-"})
    with pytest.raises(ValueError, match=r"no videos in .*KEY\.mp4"):
        open_source(tmp_path)


def test_refused_members_of_a_tar_that_is_opened_are_in_the_log(tmp_path, caplog):
    write_tar(tmp_path / "x.tar", {"../0.mp4": LEFT, "1.mp4": LEFT})
    assert len(open_source(tmp_path).samples) == 1
    assert "'../0.mp4' is not a plain relative name: passed over" in caplog.text
