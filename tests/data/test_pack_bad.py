import io
import random
from dataclasses import replace
from pathlib import Path

import pytest

from fastvid.data import open_source
from fastvid.data.__main__ import main
from fastvid.data.pack.item import Item
from fastvid.data.pack.prepare import PackTask, Prepared, Reject, Treatment, prepare
from fastvid.data.shards.entry import Entry
from fastvid.video import probe
from fastvid.video.transcode import Normalisation
from tests.data.packs import make, rejects_of
from tests.video.clips import encode, sound_alone


def bomb():
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="matroska") as out:
        stream = out.add_stream("mjpeg", rate=25)
        stream.width = stream.height = 8192
        stream.pix_fmt = "yuvj420p"
        frame = av.VideoFrame(8192, 8192, "yuvj420p")
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return file.getvalue()


def no_frames():
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as out:
        stream = out.add_stream("libx264", rate=25)
        stream.width = stream.height = 64
        out.start_encoding()
    return file.getvalue()


def test_bad_videos_become_rejects_with_reasons(tmp_path, capsys):
    src = tmp_path / "src"
    make(src, 6)
    good = encode(60, options={"g": "12"})
    middle = good.find(b"mdat") + 200
    bad = {
        "empty.mp4": (b"", "container"),
        "playlist.mp4": (b"#EXTM3U\n#EXT-X-VERSION:3\n#EXTINF:1,\n/etc/passwd\n", "container"),
        "stream.ts": (encode(5, "libx264", "mpegts"), "container"),
        "renamed.mp4": (encode(5, "libx264", "mpegts"), "container"),
        "cut.mp4": (good[:-200], "truncated"),
        "bomb.mkv": (bomb(), "limit"),
        "sound.mp4": (sound_alone(), "no_video"),
        "zero.mp4": (no_frames(), "no_video"),
        "rotten.mp4": (good[:middle] + bytes(len(good[middle:-1500])) + good[-1500:], "corrupt"),
    }
    assert len(bad["bomb.mkv"][0]) < 2_000_000  # for 200 MB of pixels
    for name, (data, _) in bad.items():
        (src / name).write_bytes(data)
    arguments = ["pack", str(src), "--out", str(tmp_path / "out"), "--jobs", "2"]
    assert main(arguments) == 1
    rejects = {line["path"]: line for line in rejects_of(tmp_path / "out")}
    assert {name: line["reason"] for name, line in rejects.items()} == {
        name: reason for name, (_, reason) in bad.items()
    }
    assert "the limit is" in rejects["bomb.mkv"]["detail"]
    assert all(line["key"] + Path(name).suffix == name for name, line in rejects.items())
    assert len(open_source(tmp_path / "out").samples) == 6  # the good ones are kept
    printed = capsys.readouterr()
    assert "9 of 15 videos rejected (4 container, 1 corrupt" in printed.out
    assert "that is more than 5.0%" in printed.err
    assert main([*arguments, "--max-rejects", "0.6"]) == 0


@pytest.mark.parametrize("nonsense", [{"width": 0}, {"fps": float("nan")}, {"time_base": 0.0}, {"duration": 1e300}])
def test_a_header_that_makes_no_sense_is_a_reject_and_no_broken_index(nonsense, monkeypatch):
    """FFmpeg reports frames of no width for some damaged files; a line of an index that says so cannot be read."""
    monkeypatch.setattr("fastvid.data.shards.entry.probe", lambda data: replace(probe(data), **nonsense))
    data = encode(3)
    found = prepare(PackTask(Item("k", "k.mp4", len(data)), Path(), data), Treatment(verify=False))
    assert isinstance(found, Reject)
    assert found.reason == "corrupt"
    assert "its header makes no sense" in found.detail


def test_random_changes_to_videos_make_rejects_or_good_entries():
    rng = random.Random(3)
    videos = [encode(6), encode(5, "libvpx-vp9", "webm"), encode(5, "mpeg4", "avi"), encode(4, times=[0, 5, 9, 40])]
    treatments = [Treatment(), Treatment(verify=False), Treatment(normal=Normalisation(short_side=32))]
    outcomes = set()
    for _ in range(600):
        data = bytearray(rng.choice(videos))
        for _ in range(rng.randint(1, 6)):
            at = rng.randrange(len(data))
            data[at : at + 4] = rng.choice([b"\xff" * 4, bytes(4), b"\x7f\xff\xff\xff", bytes([rng.randrange(256)])])
        found = prepare(PackTask(Item("k", "k.mp4", len(data)), Path(), bytes(data)), rng.choice(treatments))
        if isinstance(found, Prepared):
            Entry.from_line(Entry("k", 0, 1, 0, found.info).to_line())
        outcomes.add(found.reason if isinstance(found, Reject) else "good")
    assert {"good", "truncated", "container", "corrupt"} <= outcomes


def test_one_reject_of_a_few_is_no_failure(tmp_path):
    make(tmp_path / "src", 3)
    (tmp_path / "src/bad.mp4").write_bytes(b"")
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "0"]) == 0
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "o"), "--jobs", "0", "--max-rejects", "0"]) == 1


def test_nothing_usable_is_said(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/bad.mp4").write_bytes(b"")
    assert main(["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--jobs", "0"]) == 2
    assert "none of the videos can be used" in capsys.readouterr().err
    assert rejects_of(tmp_path / "out")[0]["path"] == "bad.mp4"
    assert main(["pack", str(tmp_path / "nowhere"), "--out", str(tmp_path / "o")]) == 2
    assert "there is nothing at" in capsys.readouterr().err
