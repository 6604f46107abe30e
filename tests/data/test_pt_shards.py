"""Shards of ``torch.save``: packed with bounded memory, and their latents given with the frames that are used."""

import io
import json

import numpy as np
import pytest
import torch

from fastvid.data import (
    BadSamplePolicy,
    DecodeOptions,
    EpochSampler,
    PaddedDraws,
    PaddedEvaluation,
    Quarantine,
    TextChoice,
    TextCollator,
    TooManyBadSamples,
    TrainLoader,
    eval_batches,
    join,
    open_described,
    open_source,
    subset,
)  # fmt: skip
from fastvid.data.__main__ import main
from fastvid.data.loader.clip_latents import clip_latents
from fastvid.data.pack import pt_shards
from fastvid.data.source import latents_of
from fastvid.video import DecodeError, ViewSpec, decode
from tests.data.talks import CHAT

WITH_LATENTS = TextCollator(CHAT, TextChoice(latents=True))
SPEC = ViewSpec(frames=4, size=16, scale=(1, 1), ratio=(1, 1), flip=0.0)


def samples(count: int, frames: int = 6) -> list[dict]:
    """Return samples whose frames are of one colour each, and whose latents are the number of the frame."""
    made: list[dict] = []
    for number in range(count):
        pixels = torch.arange(frames, dtype=torch.uint8)[:, None, None, None] * 10 + number
        latents = torch.arange(frames, dtype=torch.bfloat16)[:, None, None, None] + 10 * number
        made.append({"frames": pixels.expand(-1, 3, 16, 16).contiguous(), "caption": f"a {number}"})
        made[-1] |= {"latents": latents.expand(-1, 4, 2, 2).contiguous(), "video_id": f"v{number}"}
    return made


def pack(src, out, *options) -> int:
    return main(["pack", str(src), "--out", str(out), "--format", "pt", "--jobs", "0", *options])


@pytest.fixture
def packed(tmp_path):
    made = samples(5)
    (tmp_path / "src").mkdir()
    torch.save({"samples": made[:3], "count": 3}, tmp_path / "src" / "shard_0000.pt")
    torch.save({"samples": made[3:], "count": 2}, tmp_path / "src" / "shard_0001.pt")
    assert pack(tmp_path / "src", tmp_path / "out", "--picture", "png") == 0
    return tmp_path / "out"


def numbers(source) -> dict[str, int]:
    return {source.fields(index)["video_id"]: index for index in range(len(source.samples))}


def test_frames_captions_and_latents_are_those_of_the_samples(packed):
    assert main(["check", str(packed)]) == 0
    source = open_described(packed)
    found = numbers(source)
    for number, sample in enumerate(samples(5)):
        index = found[f"v{number}"]
        assert source.samples[index].caption == sample["caption"]
        pixels = decode(source.read(index), range(6), info=source.samples[index].video)
        assert np.array_equal(pixels, sample["frames"].permute(0, 2, 3, 1).numpy())
        latents = np.load(io.BytesIO(latents_of(source, index)))
        assert latents.dtype == np.float16
        assert np.array_equal(latents, sample["latents"].half().numpy())


def test_batches_have_the_latents_of_the_used_frames(packed):
    whole = open_described(packed)
    source = join({"a": subset(whole, [True] * len(whole.samples))})
    with TrainLoader(
        source, PaddedDraws(SPEC, 0), EpochSampler(source.shard_sizes, batch=5, seed=0),
        options=DecodeOptions(threads=2), text=WITH_LATENTS,
    ) as loader:  # fmt: skip
        batch = next(loader)
    latents = batch.extra["latents"]
    assert (latents.dtype, tuple(latents.shape)) == (torch.float16, (5, 4, 4, 2, 2))
    for clip, text in enumerate(batch.text):
        number = int(text.conversations[0].turns[0].answer.split()[1])
        assert latents[clip, :, 0, 0, 0].tolist() == [10 * number + frame for frame in text.frames]
        assert batch.clips[clip, :, 0, 0, 0].tolist() == [10 * frame + number for frame in text.frames]


def test_a_test_has_the_latents_of_the_used_frames(packed):
    source = open_described(packed)
    (batch,) = eval_batches(
        source, range(5), PaddedEvaluation(SPEC), batch=5, quarantine=Quarantine(), text=WITH_LATENTS
    )  # fmt: skip
    assert tuple(batch.extra["latents"].shape) == (5, 4, 4, 2, 2)
    for clip, text in enumerate(batch.text):
        number = int(text.conversations[0].turns[0].answer.split()[1])
        assert batch.extra["latents"][clip, :, 0, 0, 0].tolist() == [10 * number + frame for frame in text.frames]


def test_jpg_takes_less_and_is_near(tmp_path):
    torch.manual_seed(0)
    smooth = torch.nn.functional.interpolate(torch.rand(6, 3, 4, 4), size=(64, 64), mode="bilinear")
    made = [{"frames": (smooth * 255).byte(), "caption": "a"}]
    torch.save({"samples": made}, tmp_path / "a.pt")
    assert pack(tmp_path / "a.pt", tmp_path / "out") == 0
    source = open_source(tmp_path / "out")
    pixels = decode(source.read(0), range(6)).astype(int)
    assert np.abs(pixels - made[0]["frames"].permute(0, 2, 3, 1).numpy()).max() <= 12
    assert latents_of(source, 0) is None


def test_packing_anew_keeps_latents(packed, tmp_path):
    out = tmp_path / "again"
    assert main(["pack", str(packed), "--out", str(out), "--format", "webdataset", "--jobs", "0"]) == 0
    before, after = open_source(packed), open_source(out)
    found = numbers(after)
    for name, index in numbers(before).items():
        assert latents_of(before, index) == latents_of(after, found[name])


def test_samples_and_shards_that_cannot_be_used_are_rejects(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    good = samples(1)[0]
    wrong = [
        {**good, "frames": good["frames"].float()}, {**good, "frames": None}, {**good, "latents": good["latents"][:3]},
        {**good, "latents": good["latents"] * 1e6}, "text", good,
    ]  # fmt: skip
    torch.save({"samples": wrong}, src / "a.pt")
    torch.save({"count": 1}, src / "b.pt")
    (src / "c.pt").write_bytes(b"no shard")
    torch.save([good], src / "d.pt", _use_new_zipfile_serialization=False)
    assert pack(src, tmp_path / "out", "--max-rejects", "0.9") == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "rejects.jsonl").read_text().splitlines()]
    said = {line["key"]: line["detail"] for line in lines}
    assert set(said) == {"a/000000", "a/000001", "a/000002", "a/000003", "a/000004", "b", "c", "d"}
    assert "its frames are float32 [6, 3, 16, 16]: a shard is {'samples'" in said["a/000000"]
    assert "it has no tensor of frames" in said["a/000001"]
    assert "its latents are float32 [3, 4, 2, 2] of 6 frames" in said["a/000002"]
    assert "values that float16 does not hold" in said["a/000003"]
    assert "no list of samples" in said["b"]
    assert "not a shard that can be read" in said["c"]
    assert "not a shard that can be read" in said["d"]
    assert len(open_source(tmp_path / "out").samples) == 1


def test_latents_that_do_not_fit_make_a_bad_sample(packed, tmp_path):
    torch.save([{**samples(1)[0], "latents": None}], tmp_path / "a.pt")
    assert pack(tmp_path / "a.pt", tmp_path / "bare") == 0
    source = join({"a": open_described(packed), "b": open_described(tmp_path / "bare")})
    quarantine = Quarantine(policy=BadSamplePolicy(files=9))
    with TrainLoader(
        source, PaddedDraws(SPEC, 0), EpochSampler(source.shard_sizes, batch=6, seed=0),
        text=WITH_LATENTS, quarantine=quarantine,
    ) as loader:  # fmt: skip
        next(loader)
    ((key, bad),) = quarantine.bad.items()
    assert key.startswith("b/")
    assert bad["detail"] == "no latents are stored beside it: they were asked for"
    cropped = ViewSpec(frames=4, size=8, scale=(0.2, 0.3), ratio=(1, 1), flip=0.0)
    with TrainLoader(
        open_described(packed), PaddedDraws(cropped, 0), EpochSampler([5], batch=1, seed=0),
        text=WITH_LATENTS,
    ) as loader, pytest.raises(TooManyBadSamples, match="none of the 5 videos"):  # fmt: skip
        next(loader)


def test_latents_of_another_number_of_frames_are_refused(packed):
    source = open_described(packed)
    whole = latents_of(source, 0)
    values = np.load(io.BytesIO(whole))
    with pytest.raises(DecodeError, match=r"its latents are float16 \[6, 4, 2, 2\] of 7 frames"):
        clip_latents(source, 0, [0, 1], 7, True)
    assert np.array_equal(clip_latents(source, 0, [5, 5], 6, True), values[[5, 5]])


def test_a_shard_is_never_read_whole(tmp_path):
    """It is mapped, and after some samples let go and mapped anew, so that its pages leave the memory."""
    made = samples(40)
    torch.save({"samples": made, "count": 40}, tmp_path / "a.pt")
    opened = []
    real = torch.load

    def load(*args, **options):
        opened.append(options["mmap"])
        return real(*args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "load", load)
        pt_shards._opened.cache_clear()
        for number in range(40):
            pt_shards.read_pt_sample(tmp_path / "a.pt", str(number), "jpg")
    assert opened == [True, True]  # anew after 32 samples
    with pytest.raises(DecodeError, match="there is no sample 40 among 40"):
        pt_shards.read_pt_sample(tmp_path / "a.pt", "40", "jpg")


def test_memory_does_not_grow_with_the_shard(tmp_path):
    """A scaled-down shard of 57 MB; benchmarks/loading/picture_shards.py has one of the published size."""
    frames = torch.zeros(24, 3, 128, 128, dtype=torch.uint8)
    torch.save({"samples": [{"frames": frames + number, "caption": "a"} for number in range(48)]}, tmp_path / "a.pt")
    del frames
    before, most = anonymous_bytes(), 0
    for number in range(48):
        pt_shards.read_pt_sample(tmp_path / "a.pt", str(number), "jpg")
        most = max(most, anonymous_bytes())
    assert most - before < 20e6


def anonymous_bytes() -> int:
    """Return the memory of this process that is not of mapped files."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon:"))
