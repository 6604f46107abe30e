"""Caches of latents that do not fit what is asked for, or cannot be made: one sentence, and nothing is lost."""

import dataclasses
import re
import shutil
from collections import namedtuple

import pytest

from fastvid.cache.__main__ import main
from fastvid.latents import LatentCache, LatentManifest
from tests.latents.conftest import save_teacher, write_shards
from tests.latents.test_cache import BOUNDS


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
