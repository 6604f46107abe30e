import dataclasses
import json
import os
import shutil

import pytest
import torch

from fastvid.data import open_source
from fastvid.data.source import read_video
from fastvid.latents import LatentCache, LatentManifest
from fastvid.latents.config import CacheData
from fastvid.latents.stores import bad_list, read_bad
from fastvid.models.teachers import load_teacher
from fastvid.ops import gather_tokens
from fastvid.train.config import DataConfig
from fastvid.video import DecodeError, Limits, ViewSpec, decode_view
from tests.latents.conftest import FRAMES, SIZE
from tests.video.clips import encode


def online(source, teacher: str, key: str, draw: int, seed: int = 0, spec: ViewSpec | None = None):
    """The hash of a view and the teacher's latents of it [1, N, D], as training would compute them."""
    spec = spec or CacheData(path="").views(teacher)
    index = next(i for i, sample in enumerate(source.samples) if sample.key == key)
    data, info = read_video(source, index, Limits())
    view = spec.draw(key, seed, draw, info)
    clip = torch.from_numpy(decode_view(data, view, info=info))
    return view.hash, load_teacher(teacher, frames=FRAMES, size=SIZE)(clip[None])


def test_the_options_not_given_are_those_of_training(teacher):
    defaults = DataConfig()
    spec = CacheData(path="").views("hf:somewhere")
    for name in ("frames", "size", "sampling", "stride", "fps", "scale", "ratio", "flip"):
        assert getattr(spec, name) == getattr(defaults, name), name
    assert (CacheData(path="").views(teacher).frames, CacheData(path="").views(teacher).size) == (FRAMES, SIZE)


def test_the_views_of_a_run_are_those_of_its_teacher(tmp_path, teacher):
    shutil.copytree(teacher.removeprefix("checkpoint:"), tmp_path / "run" / "teacher")
    data = dataclasses.asdict(DataConfig(frames=FRAMES, size=SIZE, sampling="span", scale=(0.5, 1.0), flip=0.0))
    (tmp_path / "run" / "config.json").write_text(json.dumps({"data": data}))
    for folder in ("run", "run/teacher"):
        spec = CacheData(path="").views(f"checkpoint:{tmp_path / folder}")
        assert spec == ViewSpec(frames=FRAMES, size=SIZE, sampling="span", scale=(0.5, 1.0), flip=0.0)
    assert CacheData(path="", flip=0.25).views(f"checkpoint:{tmp_path / 'run'}").flip == 0.25


# Half a step of the last digit, relative; for int8 in steps, and a little more because the scale is rounded too.
BOUNDS = {"fp16": 2.0**-11, "bf16": 2.0**-8, "int8": 0.57}


@pytest.mark.parametrize("form", BOUNDS)
@pytest.mark.parametrize("extra", [(), ("--projection", "pca:8"), ("--projection", "random:8"), ("--tokens", "0.25")])
def test_what_is_read_is_what_the_teacher_says_within_the_form(cache, shards, teacher, form, extra):
    from fastvid.latents.projection import restore

    code, folder, said = cache("--form", form, "--views", "2", *extra)
    assert code == 0, said
    stored = LatentCache(folder)
    assert len(stored) == 12
    source = open_source(shards)
    for key in (source.samples[k].key for k in (0, 5, 11)):
        for draw in range(2):
            view_hash, exact = online(source, teacher, key, draw)
            latents = stored.read([key], [view_hash])
            if "--projection" in extra:
                exact = restore(folder)[0](exact)
            if "--tokens" in extra:
                assert latents.tokens.shape == (1, 8)
                assert (latents.tokens.diff() > 0).all()
                exact = gather_tokens(exact, latents.tokens)
            else:
                assert latents.tokens is None
            unit = exact.abs() if latents.scale is None else latents.scale.float().unsqueeze(-1)
            error = (latents.float() - exact).abs()
            # 1e-5: clips went through the teacher three at a time, here alone
            assert (error <= BOUNDS[form] * unit + 1e-5).all()
            assert exact.std() > 0.1


def test_views_and_tokens_differ_between_clips_and_draws(cache):
    _, folder, _ = cache("--views", "2", "--tokens", "0.25")
    clips = list(LatentCache(folder).clips())
    assert len({h for _, hashes in clips for h in hashes}) == 24
    read = LatentCache(folder).read([key for key, _ in clips for _ in range(2)], [h for _, hs in clips for h in hs])
    assert len({tuple(row) for row in read.tokens.tolist()}) > 20


def test_a_pca_keeps_more_than_a_random_projection_and_says_how_much(cache, tmp_path):
    kept = {}
    for kind in ("pca", "random"):
        _, folder, _ = cache("--projection", f"{kind}:8", out=tmp_path / kind)
        kept[kind] = LatentManifest.load(folder).notes["projection"]
    assert kept["random"]["explained_variance"] < kept["pca"]["explained_variance"] < 1
    assert kept["random"]["round_trip_cosine"] < kept["pca"]["round_trip_cosine"] <= 1


def test_the_files_are_safetensors(cache):
    from safetensors.torch import load_file

    _, folder, _ = cache("--form", "int8")
    tensors = load_file(folder / "s1-000000.safetensors")
    assert tensors["latents"].shape == (4, 1, 32, 32)
    assert tensors["latents"].dtype == torch.int8
    assert tensors["scale"].shape == (4, 1, 32)
    assert json.loads(bytes(tensors["keys"].tolist()))[0] == "s1-000000/v04"


def test_a_bad_video_in_the_middle_shifts_nothing(videos, teacher, cache, tmp_path):
    damaged = [*videos[:5], b"rubbish", *videos[6:]]
    folder = tmp_path / "videos"
    folder.mkdir()
    for k, data in enumerate(damaged):
        (folder / f"{k:02d}.mp4").write_bytes(data)
    code, latents, said = cache(data=folder)
    assert code == 0
    assert "files-000000: 11 of 12 clips, 1 bad views" in said
    (record,) = read_bad(bad_list(latents / "files-000000.safetensors"))
    assert (record["key"], record["reason"]) == ("05.mp4", "container")
    source, stored = open_source(folder), LatentCache(latents)
    for k in (0, 4, 6, 7, 11):
        view_hash, exact = online(source, teacher, f"{k:02d}.mp4", 0)
        assert (stored.read([f"{k:02d}.mp4"], [view_hash]).float() - exact).abs().max() < 1e-2
    with pytest.raises(KeyError, match=r"05\.mp4 has no latents .*\(container: .*--retry-bad"):
        stored.read(["05.mp4"], [1])
    first, second = (dict(stored.clips())[f"{k:02d}.mp4"][0] for k in (6, 7))
    with pytest.raises(ValueError, match=rf"07\.mp4: the view about to be used has hash {first}, .* have {second}\."):
        stored.read(["07.mp4"], [first])


def test_a_view_that_fails_leaves_the_others(cache, shards, teacher, monkeypatch):
    from fastvid.data.loader import decode_ahead

    decode, source = decode_ahead.decode_clips, open_source(shards)
    victim, _ = online(source, teacher, "s0-000000/v02", 1)

    def fails(data, views, **options):
        if any(view.hash == victim for view in views):
            raise DecodeError("corrupt", "as the test wants it")
        return decode(data, views, **options)

    monkeypatch.setattr(decode_ahead, "decode_clips", fails)
    code, folder, _ = cache("--views", "2")
    assert code == 0
    before = dict(LatentCache(folder).clips())
    assert before["s0-000000/v02"][1] == -1
    with pytest.raises(ValueError, match=r"v02: the view about to be used .* could not be decoded.*--retry-bad"):
        LatentCache(folder).read(["s0-000000/v02"], [victim])
    untouched = (folder / "s1-000000.safetensors").stat().st_mtime_ns
    monkeypatch.setattr(decode_ahead, "decode_clips", decode)
    assert "nothing to be done" in cache("--views", "2")[2]
    code, _, said = cache("--views", "2", "--retry-bad")
    assert code == 0
    assert "4 clips in" in said
    after = dict(LatentCache(folder).clips())
    assert {key for key in after if after[key] != before[key]} == {"s0-000000/v02"}
    assert after["s0-000000/v02"][1] == victim
    _, exact = online(source, teacher, "s0-000000/v02", 1)
    assert (LatentCache(folder).read(["s0-000000/v02"], [victim]).float() - exact).abs().max() < 1e-2
    assert not list(folder.glob("*.bad.jsonl"))
    assert (folder / "s1-000000.safetensors").stat().st_mtime_ns == untouched


def test_a_shard_that_cannot_be_read_is_not_done(cache, monkeypatch):
    from fastvid.data.shards.reader import LocalShards

    read = LocalShards.read

    def fails(self, shard, offset, size):
        if shard == 1:
            raise OSError(5, "Input/output error")
        return read(self, shard, offset, size)

    monkeypatch.setattr(LocalShards, "read", fails)
    code, folder, said = cache()
    assert code == 2
    assert "s1-000000: none of its clips can be read, the last is s1-000000.tar: Input/output error; not done" in said
    assert [path.stem for path in folder.glob("*.safetensors")] == ["s0-000000"]
    monkeypatch.setattr(LocalShards, "read", read)
    assert cache()[0] == 0
    assert len(LatentCache(folder)) == 12


def test_a_folder_of_loose_videos(teacher, cache, tmp_path):
    (tmp_path / "v").mkdir()
    for k in range(3):
        (tmp_path / "v" / f"{k}.mp4").write_bytes(encode(10 + k))
    code, folder, _ = cache(data=tmp_path / "v")
    assert code == 0
    assert [path.name for path in sorted(folder.glob("*.safetensors"))] == ["files-000000.safetensors"]
    (tmp_path / "v" / "0.mp4").write_bytes(encode(30))
    assert "dataset: keys and sizes" in cache(data=tmp_path / "v")[2]
    assert os.listdir(folder)


@pytest.mark.parametrize("torch_threads", [1, 2])
def test_all_clips_come_in_order_whether_or_not_decoding_overlaps_the_forward_pass(shards, torch_threads):
    from fastvid.data import ViewDraws
    from fastvid.data.loader.decode_ahead import decode_ahead

    source, before = open_source(shards), torch.get_num_threads()
    rows, device = range(1, len(source.samples)), torch.device("cpu")
    torch.set_num_threads(torch_threads)
    try:
        draws = ViewDraws(ViewSpec(frames=2, size=32), 0, 1)
        clips = list(decode_ahead(source, rows, draws, threads=2, group=3, device=device))
    finally:
        torch.set_num_threads(before)
    assert [clip.sample.key for clip in clips] == [source.samples[row].key for row in rows]
