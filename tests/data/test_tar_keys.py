"""Tar members whose names have more than one dot: one sample up to the first dot, as WebDataset reads them."""

import pytest
from clips import encode
from test_sources import write_tar

from fastvid.data import open_source
from fastvid.data.index import IndexCommand, run
from fastvid.data.pack.webdataset import webdataset

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
    words = rf"x\.tar: the sample '0' has 2 videos \({names[0]}, {names[1]}; .* --video {names[0][2:]}`"
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
        assert "x.tar: 1 samples have videos, and none that is named KEY.webm: passed over" in capsys.readouterr().out


def test_a_tar_without_videos_says_what_a_video_is(tmp_path):
    write_tar(tmp_path / "x.tar", {"0.jpg": b"-"})
    with pytest.raises(ValueError, match=r"no videos in the tar files of .*: a video is a member named like KEY\.mp4"):
        open_source(tmp_path)


def test_refused_members_of_a_tar_that_is_opened_are_in_the_log(tmp_path, caplog):
    write_tar(tmp_path / "x.tar", {"../0.mp4": LEFT, "1.mp4": LEFT})
    assert len(open_source(tmp_path).samples) == 1
    assert "'../0.mp4' is no plain relative name: passed over" in caplog.text
