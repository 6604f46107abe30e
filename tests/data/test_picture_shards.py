"""Shards whose videos are single pictures, as WebDataset has them: indexed, packed and read; and their faults."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fastvid.data import (
    BadSamplePolicy,
    DecodeOptions,
    EpochSampler,
    PaddedDraws,
    PaddedEvaluation,
    Quarantine,
    TextCollator,
    TrainLoader,
    by_kind,
    eval_batches,
    join,
    open_described,
    open_source,
    subset,
)
from fastvid.data.__main__ import main
from fastvid.data.text.chat import ChatFormat
from fastvid.video import DecodeError, Limits, ViewSpec, decode, probe
from fastvid.video.picture_archive import picture_number, read_pictures
from tests.data.chatting import tokenizer

SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)


def _frame(number: int, size=(16, 16)) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (*size, 3), np.uint8)


def _png(number: int, size=(16, 16), kind="PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(_frame(number, size)).save(file, kind)
    return file.getvalue()


def _tar(path: Path, members: list[tuple[str, bytes]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def _sample(key: str, numbers, first=0, **fields) -> list[tuple[str, bytes]]:
    pictures = [(f"{key}.{number:03d}.png", _png(100 * first + number)) for number in numbers]
    return [*pictures, (f"{key}.json", json.dumps(fields).encode())] if fields else pictures


def _ask(answer: str) -> dict[str, str]:
    return {"user": "what is this", "assistant": answer}


def _loader(source, quarantine=None, batch=1):
    chat = ChatFormat(tokenizer("what is this a cat dog one two"))
    return TrainLoader(
        source, PaddedDraws(SPEC, 0), EpochSampler(source.shard_sizes, batch=batch, seed=0),
        options=DecodeOptions(threads=2), quarantine=quarantine, text=TextCollator(chat),
    )  # fmt: skip


def test_numbers_of_pictures():
    names = (".000.jpg", ".12.JPEG", ".3.png", ".jpg", ".x.jpg", ".1.gif", ".left.1.jpg", ".1.json")
    assert [picture_number(name) for name in names] == [0, 12, 3, None, None, None, None, None]


def test_a_shard_of_pictures_is_read_like_one_of_videos(tmp_path):
    members = _sample("a", range(12), 1, **_ask("a cat"), frame_count=12, fps=2) + _sample("b/c", range(1, 4), 2)
    long = "d" * 150  # needs an extended header
    members += [(f"{long}.json", json.dumps(_ask("a dog")).encode()), *_sample(long, range(2), 3)]
    _tar(tmp_path / "s-000000.tar", members)
    assert main(["index", str(tmp_path)]) == 0
    assert main(["check", str(tmp_path)]) == 0
    source = open_source(tmp_path)
    infos = [source.samples[index].video for index in range(3)]
    assert [(i.codec, i.frames, i.fps, i.width, i.height) for i in infos] == [
        ("pictures", 12, 2.0, 16, 16), ("pictures", 3, 1.0, 16, 16), ("pictures", 2, 1.0, 16, 16),
    ]  # fmt: skip
    for index, (first, numbers) in enumerate([(1, range(12)), (2, range(1, 4)), (3, range(2))]):
        data = source.read(index)
        info = probe(data)
        assert (info.frames, info.fps) == (infos[index].frames, infos[index].fps)
        pixels = decode(data, range(info.frames), info=info)
        assert np.array_equal(pixels, np.stack([_frame(100 * first + number) for number in numbers]))
    described = open_described(tmp_path)
    assert [sample.key.split("/")[-1][:1] for sample in described.samples] == ["a", "d"]
    with _loader(described) as loader:
        said = {batch.keys[0].split("/")[-1][0]: batch for batch in (next(loader), next(loader))}
    assert said["a"].text[0].conversations[0].turns[0].answer == "a cat"
    assert said["d"].extra["frames"].tolist() == [[True, True, False, False]]
    for key, first in (("a", 1), ("d", 3)):
        shown = said[key].text[0].frames
        assert np.array_equal(said[key].clips[0].numpy(), np.stack([_frame(100 * first + n) for n in shown]))


def test_only_the_frames_that_are_used_are_decoded(tmp_path):
    """Bytes that are no picture do not matter where nobody looks; verification finds them."""
    members = _sample("a", range(4), caption="a cat")
    members[2] = (members[2][0], b"no picture")
    _tar(tmp_path / "s-000000.tar", members)
    source = open_source(tmp_path)
    data, info = source.read(0), source.samples[0].video
    assert np.array_equal(decode(data, [0, 3], info=info), np.stack([_frame(0), _frame(3)]))
    with pytest.raises(DecodeError, match="frame 2 is not a picture"):
        decode(data, [2], info=info)
    assert main(["index", str(tmp_path)]) == 0
    assert main(["check", str(tmp_path)]) == 1


def test_only_the_frames_that_are_used_are_read(tmp_path, monkeypatch):
    """Of a video of many pictures with others beside it, whatever wraps the source."""
    members = _sample("a", range(1, 21), 1, **_ask("a cat")) + _sample("b", range(3), 2, **_ask("a dog"))
    _tar(tmp_path / "src" / "s-000000.tar", members)
    out = tmp_path / "out"
    pack = ["pack", str(tmp_path / "src"), "--out", str(out), "--format", "webdataset", "--order", "sorted"]
    assert main([*pack, "--jobs", "0"]) == 0
    for folder in (tmp_path / "src", out):
        shards = open_described(folder)
        read = []
        real = shards._files.read
        monkeypatch.setattr(
            shards._files, "read", lambda *place, real=real, read=read: read.append(place[2]) or real(*place)
        )
        part, _ = by_kind(join({"x": subset(shards, [True, True])}))
        whole = [part.size(index) for index in range(2)]
        (batch,) = eval_batches(part, [0, 1], PaddedEvaluation(SPEC), batch=2, quarantine=Quarantine())
        for clip, first in ((0, 1), (1, 2)):
            video = part.samples[clip].video
            shown = PaddedEvaluation(SPEC).views(part.samples[clip], video)[0].frames
            frames = [_frame(100 * first + number + (first == 1)) for number in shown]
            assert np.array_equal(batch.clips[clip].numpy(), np.stack(frames))
        assert len(read) == 4 + 3  # none twice, none that is not shown
        assert sum(read) < sum(whole) / 2
    data = bytearray((out / "shard-000000.tar").read_bytes())
    place = open_source(out).samples.entry(0)[1].pictures[0]
    data[place.offset + place.size - 1] ^= 1
    (out / "shard-000000.tar").write_bytes(data)
    with pytest.raises(DecodeError, match="not those that were indexed"):
        open_source(out).frames(0, [0])


@pytest.mark.parametrize(
    ("numbers", "fields", "sentence"),
    [
        ([0, 1, 3, 4], {}, "frame 2 is missing of the 5 from 0 to 4"),
        ([2, 3], {}, "frame 1 is missing of the 3 from 1 to 3"),
        ([0, 1, 2], {"frame_count": 5}, "frame 3, 4 is missing of the 5 from 0 to 4"),
        ([0, 1, 2], {"frame_count": 2}, "3 frames are there and its .json says 2"),
        ([*range(3), *range(20, 23)], {}, r"frame 3, 4, 5, 6, 7, \.\.\. is missing of the 23"),
    ],
)
def test_a_video_that_lacks_a_frame_is_quarantined_by_name_and_rejected_by_pack(tmp_path, numbers, fields, sentence):
    members = _sample("bad", numbers, **_ask("a cat"), **fields) + _sample("good", range(4), **_ask("a cat"))
    _tar(tmp_path / "src" / "s.tar", members)
    source = open_source(tmp_path / "src")
    quarantine = Quarantine(policy=BadSamplePolicy(files=5))
    with _loader(source, quarantine) as loader:
        assert [next(loader).keys for _ in range(2)] == [["s/good"]] * 2
    assert list(quarantine.bad) == ["s/bad"]
    with pytest.raises(DecodeError, match=sentence) as error:
        probe(source.read(0))
    assert error.value.reason == "frame_count"
    pack = ["pack", str(tmp_path / "src"), "--out", str(tmp_path / "out"), "--format", "webdataset", "--jobs", "0"]
    assert main([*pack, "--max-rejects", "0.5"]) == 0
    (line,) = (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()
    assert (json.loads(line)["key"], json.loads(line)["reason"]) == ("s/bad", "frame_count")


def test_packing_keeps_pictures_and_all_that_is_written(tmp_path):
    talk = [[{"from": "human", "value": "what"}, {"from": "gpt", "value": "a cat"}]]
    members = _sample("a", range(3), 1, conversations=talk, frame_count=3, label="x", caption="a cat")
    _tar(tmp_path / "src" / "s.tar", [*members, *_sample("b", range(2), 2)])
    out = tmp_path / "out"
    assert main(["pack", str(tmp_path / "src"), "--out", str(out), "--format", "webdataset", "--jobs", "0"]) == 0
    source = open_source(out)
    found = {sample.key.split("/")[-1]: index for index, sample in enumerate(source.samples)}
    a, b = found["a"], found["b"]
    assert (source.samples[a].label, source.samples[a].caption) == ("x", "a cat")
    assert source.fields(a)["conversations"] == talk
    for index, first in ((a, 1), (b, 2)):
        pixels = decode(source.read(index), range(source.samples[index].video.frames))
        assert np.array_equal(pixels, np.stack([_frame(100 * first + n) for n in range(len(pixels))]))
    with tarfile.open(next(out.glob("*.tar"))) as tar:
        numbered = [f"s/a.00{n}.png" for n in range(3)]
        assert sorted(tar.getnames()) == [*numbered, "s/a.json", "s/b.000.png", "s/b.001.png"]
    assert main(["check", str(out)]) == 0
    transcode = ["pack", str(tmp_path / "src"), "--out", str(tmp_path / "t"), "--format", "webdataset", "--transcode"]
    assert main([*transcode, "--jobs", "0"]) == 2


def test_pictures_that_do_not_lie_together_are_refused(tmp_path, capsys):
    a, b = _sample("a", range(2)), _sample("b", range(2))
    _tar(tmp_path / "s-000000.tar", [a[0], b[0], a[1], b[1]])
    assert main(["index", str(tmp_path)]) == 2
    assert "the pictures of the sample 'a' do not lie together" in capsys.readouterr().err


@pytest.mark.parametrize(
    "fields", [{"caption": "a dog"}, {**_ask("a dog"), "frame_count": 3}, {"user": "<video> what", "assistant": "a"}]
)
def test_a_text_whose_video_is_missing_in_a_shard_is_said(tmp_path, capsys, fields):
    members = [*_sample("a", range(2), **_ask("a cat")), ("b.json", json.dumps(fields).encode())]
    _tar(tmp_path / "s-000000.tar", members)
    assert main(["index", str(tmp_path)]) == 0
    said = capsys.readouterr()
    assert "samples with a .json and neither a video nor pictures are passed over: 1 (b)" in said.out + said.err
    assert len(open_source(tmp_path).samples) == 1


def test_a_video_goes_before_pictures_beside_it(tmp_path):
    from tests.video.clips import encode

    _tar(tmp_path / "s-000000.tar", [("a.mp4", encode(5)), *_sample("a", range(2))])
    (sample,) = open_source(tmp_path).samples
    assert (sample.video.codec, sample.video.frames) == ("h264", 5)


def test_frames_of_several_sizes_and_other_damage(tmp_path):
    members = [("a.0.png", _png(0)), ("a.1.png", _png(1, (16, 20))), ("a.2.jpg", _png(2, kind="JPEG"))]
    path = _tar(tmp_path / "s.tar", members)
    data = path.read_bytes()
    with pytest.raises(DecodeError, match="frame 1 is 20 x 16 in a video of 16 x 16"):
        decode(data, [1])
    assert decode(data, [2]).shape == (1, 16, 16, 3)
    with pytest.raises(DecodeError, match="cut short"):
        probe(data[: 512 + 100])
    with pytest.raises(DecodeError, match="limit"):
        probe(data, Limits(pixels=100))
    with pytest.raises(DecodeError, match="two pictures are number 0"):
        probe(_tar(tmp_path / "t.tar", [("a.0.png", _png(0)), ("a.00.png", _png(1))]).read_bytes())
    with pytest.raises(DecodeError, match="there are 2 of 2"):
        probe(_tar(tmp_path / "u.tar", [("a.0.png", _png(0)), ("b.1.png", _png(1))]).read_bytes())
    assert len(list(read_pictures(data, [0], 16, 16))) == 1
