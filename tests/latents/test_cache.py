import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import namedtuple

import pytest
import torch

from fastvid.cache.__main__ import main
from fastvid.data import open_source
from fastvid.data.source import read_video
from fastvid.latents import LatentCache, LatentManifest
from fastvid.latents.config import CacheData
from fastvid.latents.stores import bad_list, read_bad
from fastvid.models.teachers import load_teacher
from fastvid.ops import gather_tokens
from fastvid.train.config import DataConfig
from fastvid.video import DecodeError, Limits, ViewSpec, decode_view
from tests.latents.conftest import FRAMES, SIZE, save_teacher, write_shards
from tests.video.clips import encode
from tests.waiting import HANG


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


def test_running_it_again_does_nothing(cache):
    _, folder, first = cache()
    assert "12 clips in" in first
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    code, _, again = cache()
    assert code == 0
    assert "nothing to be done" in again
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == stamps


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("--form", "int8"), "form: fp16 in the cache, int8 in these options"),
        (("--views", "2"), "views_per_clip: 1 in the cache, 2 in these options"),
        (("--seed", "1"), "view_seed: 0 in the cache, 1 in these options"),
        (("--projection", "random:8"), "projection: none in the cache, random:8 in these options"),
        (("--projection", "random:8"), "dim: 32 in the cache, 8 in these options"),
        (("--tokens", "0.5"), "tokens: 32 in the cache, 16 in these options"),
        (("--precision", "bfloat16"), "precision: float32 in the cache, bfloat16 in these options"),
        (("--data.sampling", "span"), "views.sampling: stride in the cache, span in these options"),
        (("--data.sampling", "span"), "views.stride: 4 in the cache, not used in these options"),
        (("--data.flip", "0"), "views.flip: 0.5 in the cache, 0.0 in these options"),
        (("--data.scale", "0.5", "1"), "views.scale: [0.3, 1.0] in the cache, [0.5, 1.0] in these options"),
        (("--data.ratio", "1", "1"), "views.ratio: [0.75, 1.35] in the cache, [1.0, 1.0] in these options"),
    ],
)
def test_a_cache_made_with_other_options_is_refused_by_field(cache, options, line):
    cache()
    code, _, said = cache(*options)
    assert code == 2
    assert line in said
    assert "change the options, or use another folder" in said


def test_another_teacher_or_data_set_is_refused_by_field(cache, videos, tmp_path):
    cache()
    code, _, said = cache(source=save_teacher(tmp_path / "other", seed=1))
    assert code == 2
    assert "weights: " in said
    assert "teacher: " not in said
    (tmp_path / "fewer").mkdir()
    write_shards(tmp_path / "fewer", videos[:8])
    code, _, said = cache(data=tmp_path / "fewer")
    assert code == 2
    assert "dataset: keys and sizes " in said
    assert "clips: 12 in the cache, 8 in these options" in said
    assert re.search(r"since then: \d shards? of \d+ videos? (removed|changed) \(", said)
    assert "weights: " not in said


def test_a_moved_teacher_is_the_same_teacher(cache, teacher, tmp_path):
    cache()
    shutil.copytree(teacher.removeprefix("checkpoint:"), tmp_path / "moved")
    assert cache(source=f"checkpoint:{tmp_path / 'moved'}")[0] == 0


def test_every_field_counts_in_the_fingerprint(cache):
    _, folder, _ = cache()
    manifest = LatentManifest.load(folder)
    for field in dataclasses.fields(manifest):
        value = getattr(manifest, field.name)
        other = {**value, "new": 1} if isinstance(value, dict) else f"{value}x" if isinstance(value, str) else value * 2
        changed = dataclasses.replace(manifest, **{field.name: other})
        assert (changed.fingerprint == manifest.fingerprint) == (field.name == "notes" or other == value), field.name


def test_an_edited_manifest_is_refused(cache):
    _, folder, _ = cache()
    path = folder / "manifest.json"
    path.write_text(path.read_text().replace('"view_seed": 0', '"view_seed": 1'))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        LatentCache(folder)


def test_verify_passes_what_is_right(cache, shards, teacher, capsys):
    for form in BOUNDS:
        _, folder, _ = cache("--form", form, "--projection", "pca:8", "--tokens", "0.5", out=None)
        code = main(["verify", str(folder), "--teacher", teacher, "--data.path", str(shards), "--sample", "0.5"])
        said = capsys.readouterr().out
        assert code == 0, said
        assert f"6 views of {form} latents recomputed in float32" in said
        assert "passed" in said
        shutil.rmtree(folder)


def test_verify_fails_what_is_wrong(cache, shards, teacher, capsys, monkeypatch, tmp_path):
    from fastvid.latents import shards as work

    encoded = work.encoded

    def shifted(job, group):  # the mistake that caches keyed by a counter make
        rows = list(encoded(job, group))
        for (key, hashes, _, bad), (_, _, latents, _) in zip(rows, [*rows[1:], *rows[:1]], strict=True):
            yield key, hashes, latents, bad

    monkeypatch.setattr(work, "encoded", shifted)
    _, folder, _ = cache()
    assert main(["verify", str(folder), "--teacher", teacher, "--data.path", str(shards), "--sample", "1"]) == 1
    assert "FAILED" in capsys.readouterr().out
    other = save_teacher(tmp_path / "other", seed=1)
    assert main(["verify", str(folder), "--teacher", other, "--data.path", str(shards)]) == 2
    assert "weights: " in capsys.readouterr().err


def test_what_does_not_fit_is_refused_with_what_would(cache, monkeypatch):
    from fastvid.latents import plan

    monkeypatch.setattr(plan.shutil, "disk_usage", lambda path: namedtuple("Usage", "free")(plan._SPARE + 1000))
    code, folder, said = cache()
    assert code == 2
    assert "12 clips x 2.05 kB (fp16, 32 tokens, 32 wide, 1 view) = 24.6 kB" in said
    assert "clips/s, measured now" in said
    for words in ("online: train without --latents", "--form int8", "--projection pca:16", "--tokens 0.25"):
        assert words in said
    assert "24.6 kB do not fit into the" in said
    assert not folder.exists()
    code, _, said = cache("--yes")
    assert code == 0
    per_clip = LatentManifest.load(folder).view_bytes
    for path in folder.glob("*.safetensors"):
        assert per_clip * 4 < path.stat().st_size < per_clip * 4 + 4096 + 4 * 100


def test_a_plan_writes_nothing(cache):
    code, folder, said = cache("--plan", "--projection", "pca:8")
    assert code == 0
    assert "12 clips x 512 B" in said
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--projection", "pca:64"), "the teacher's latents have only 32 dimensions"),
        (("--projection", "lda:8"), "use none, pca:D or random:D"),
        (("--tokens", "0"), "--tokens must be above 0 and at most 1; got 0.0"),
        (("--data.frames", "8"), "takes clips of 4 frames"),
    ],
)
def test_wrong_options_are_one_sentence_and_make_nothing(cache, tmp_path, options, words):
    try:
        code, _, said = cache(*options)
    except SystemExit as stop:  # tyro found it
        code, said = stop.code, words
    assert code == 2
    assert words in said
    assert not (tmp_path / "latents").exists()


def test_a_fault_of_ours_keeps_its_traceback(cache, monkeypatch):
    monkeypatch.setattr("fastvid.latents.job.teacher_fingerprint", lambda _: [].index(3))
    with pytest.raises(ValueError, match="is not in list"):
        cache()


def test_a_place_that_cannot_be_written_is_named(cache):
    code, _, said = cache(out="/proc/latents")
    assert code == 2
    assert "/proc/latents" in said


def test_latents_too_large_for_float16_are_refused(cache, monkeypatch):
    from fastvid.latents.compute import FrozenEncoder

    encode = FrozenEncoder.__call__
    monkeypatch.setattr(FrozenEncoder, "__call__", lambda self, pixels: encode(self, pixels) * 1e6)
    code, folder, said = cache()
    assert code == 2
    assert "more than fp16 holds: use --form bf16" in said
    assert not list(folder.glob("*.safetensors"))
    assert cache("--form", "bf16", out=folder.with_name("bf16"))[0] == 0


KILLED = """
import os, signal, sys
from fastvid.latents import file as latent_file
add, count = latent_file.LatentFileWriter.add, [0]
def adds(self, *row):
    count[0] += 1
    if count[0] == 7:
        os.kill(os.getpid(), signal.SIGKILL)
    add(self, *row)
latent_file.LatentFileWriter.add = adds
from fastvid.cache.__main__ import main
main(sys.argv[1:])
"""


def test_killed_in_the_middle_of_a_shard_it_goes_on_where_it_was(cache, shards, teacher, tmp_path):
    _, whole, _ = cache(out=tmp_path / "whole")
    folder = tmp_path / "killed"
    options = ["--teacher", teacher, "--data.path", str(shards), "--out", str(folder), "--batch", "3"]
    done = subprocess.run([sys.executable, "-c", KILLED, *options], capture_output=True, check=False, timeout=HANG)
    assert done.returncode == -signal.SIGKILL
    assert sorted(p.name for p in folder.glob("*.safetensors")) == ["s0-000000.safetensors"]
    assert len(list(folder.glob(".s1-000000.safetensors.*.part"))) == 1
    with pytest.raises(ValueError, match=r"1 of 3 shards"):
        LatentCache(folder)
    stamp = (folder / "s0-000000.safetensors").stat().st_mtime_ns
    code, _, said = cache(out=folder)
    assert code == 0
    assert "8 clips in" in said
    assert (folder / "s0-000000.safetensors").stat().st_mtime_ns == stamp
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


def test_two_processes_make_one_cache(cache, shards, teacher, tmp_path):
    _, whole, _ = cache(out=tmp_path / "whole")
    folder = tmp_path / "two"
    options = ["--teacher", teacher, "--data.path", str(shards), "--out", str(folder), "--batch", "3"]
    command = [sys.executable, "-m", "fastvid.cache", *options]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    for process in both:
        _, err = process.communicate(timeout=HANG)
        assert process.returncode == 0, err
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


@pytest.mark.parametrize(
    "variables",
    [
        ("RANK", "WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
    ],
)
def test_processes_share_the_shards(cache, monkeypatch, variables):
    for rank, expected in ((1, {"s1-000000"}), (0, {"s0-000000", "s1-000000", "s2-000000"})):
        monkeypatch.setenv(variables[0], str(rank))
        monkeypatch.setenv(variables[1], "2")
        code, folder, said = cache()
        assert code == 0
        assert {path.stem for path in folder.glob("*.safetensors")} == expected
        assert ("complete:" in said) == (rank == 0)


def test_a_full_disk_keeps_what_is_finished(cache, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        code, folder, said = cache("--yes", out=disk / "latents")
        assert code == 2
        assert "the disk is full" in said
        assert "finished shards are kept" in said
        assert not list(folder.glob(".*.part"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_with_ray(cache, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    _, whole, _ = cache(out=tmp_path / "whole")
    monkeypatch.setenv("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    code, folder, said = cache("--ray", "--ray-workers", "2", out=tmp_path / "ray")
    assert code == 0, said
    assert "12 clips in" in said
    assert not ray.is_initialized()
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {p.name: p.read_bytes() for p in whole.iterdir()}


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
