"""SALT students that are taught by a sliding-window cache."""

import json
from functools import partial
from types import SimpleNamespace

import pytest
import torch

from fastvid.data import Quarantine, open_source
from fastvid.models import EncoderTeacher, VideoViT, VideoViTConfig
from fastvid.projects.salt.data import SaltData
from fastvid.projects.salt.presets import PRESETS
from fastvid.projects.salt.window_targets import WindowTargets
from fastvid.train.config import parse
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.data.test_sources import write_tar
from tests.train.conftest import TINY, assert_same, records, stop
from tests.video.clips import encode

ECHO = ("--latent-window.echo", "3", "--data.scale", "0.4", "1.0")


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_the_teacher_is_asked_once_for_a_view_and_its_answer_is_the_same_each_time(tmp_path, form):
    for shard in range(4):
        write_tar(tmp_path / f"{shard}.tar", {f"{shard}{i}.mp4": encode(12) for i in range(5)})
    source, views = open_source(tmp_path), ViewSpec(frames=4, size=32, scale=(0.3, 0.9))
    data = SaltData(str(tmp_path), source, source, None, [], views)
    options = ("--data.window", "2", "--latent-window.echo", "3", "--latent-window.form", form)
    config = parse("salt", PRESETS, "demo", [*TINY, *options])[0]
    torch.manual_seed(0)
    encoder = VideoViTConfig(name="vit_tiny_patch16_224", frames=4, size=32, width=32, depth=1, heads=2)
    teacher = EncoderTeacher(VideoViT(encoder))
    calls = SimpleNamespace(count=0)
    teacher.register_forward_hook(lambda *_: setattr(calls, "count", calls.count + 1))
    targets = WindowTargets(teacher, tmp_path / "w", config, data, "float32", torch.device("cpu"))
    make_loader = partial(train_loader, source, views, batch=4, seed=0, window=2)
    answers: dict[tuple[str, int], torch.Tensor] = {}
    asked = 0
    with targets.batches(make_loader) as batches:
        for _ in range(30):  # two epochs: windows of 10 clips, three times each, straddled by batches
            batch = next(batches)
            before = calls.count
            latents = targets.prepare(batch).float()
            asked += calls.count > before
            online = teacher(batch.clips)
            calls.count -= 1
            assert (latents - online).abs().max() <= online.abs().max() * (1e-3 if form == "fp16" else 5e-3)
            for place, found in zip(zip(batch.keys, batch.view_hashes.tolist(), strict=True), latents, strict=True):
                assert torch.equal(answers.setdefault(place, found), found)
    assert len(answers) == 40
    assert calls.count == asked <= 4 * 3  # for three batches of each window: the third has views shown again
    examples = targets.examples(data, 6, Quarantine())
    assert len(examples.clips) == len(examples.ids) == len(examples.targets.values) == 6


@pytest.mark.slow
def test_a_run_shows_views_again_and_resumes_bit_for_bit(salt, tmp_path):
    done = salt(tmp_path / "whole", *ECHO)
    assert done.returncode == 0, done.stderr
    whole = records(tmp_path / "whole")
    salted = [r for r in whole if r["stage"] == "salt" and "loss" in r]
    # 30 steps of 8 clips: the 24 videos three times are an epoch
    assert [r["epoch"] for r in salted] == [step * 8 // 72 for step in range(3, 31, 3)]
    assert all(r["health_teacher_rank"] > 1 for r in whole if r["stage"] == "salt" and "health_rank" in r)
    assert json.loads((tmp_path / "whole" / "probe.json").read_text())["rows"]

    directory = tmp_path / "stopped"
    assert not (tmp_path / "whole" / "latent-window").exists()
    process = salt(directory, *ECHO, "--probe.enabled", "False", wait=False)
    stop(process, directory, lambda metrics: metrics.count('"salt"') >= 4)
    assert list((directory / "latent-window").glob("*.safetensors"))
    assert salt(directory, resume=True).returncode == 0
    assert_same(directory, tmp_path / "whole")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--latent-window.gb", "0.0004"),
            "two windows of 16 shards take up to 426 kB as fp16, and --latent-window.gb allows 0.0004: give "
            "--latent-window.gb 0.01, or --latent-window.form int8",
        ),
        (("--latents", "somewhere"), "exclude each other"),
        (("--latent-window.echo", "0"), "--latent-window.echo must be at least 1; got 0"),
    ],
)
def test_a_window_that_cannot_be_is_one_message_before_anything_is_trained(salt, tmp_path, options, words):
    done = salt(tmp_path / "r", *ECHO, *options)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "r" / "checkpoints").exists()
