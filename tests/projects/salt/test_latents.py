"""SALT students that are taught by a latent cache."""

import dataclasses
import json
import re

import pytest
import torch

from fastvid.cache.__main__ import main as make_cache
from fastvid.data import Quarantine, open_source
from fastvid.data.demo.files import cached_demo
from fastvid.latents import LatentCache, LatentLoader
from fastvid.models import EncoderTeacher, VideoViT, VideoViTConfig, load_teacher, save_encoder
from fastvid.nn import Predictor, PredictorConfig
from fastvid.projects.salt.cached_targets import CachedTargets, open_latents, token_subset
from fastvid.projects.salt.config import LossConfig
from fastvid.projects.salt.data import SaltData
from fastvid.projects.salt.health import HealthCheck
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.projects.salt.presets import PRESETS, demo
from fastvid.projects.salt.targets import TeacherTargets
from fastvid.train.config import parse
from fastvid.train.distributed import World
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.train.conftest import TINY, assert_same, records, stop

# Views that differ: a cache of others would be found out.
VIEWS = "--data.sampling span --data.scale 0.4 1.0 --data.ratio 0.8 1.25 --data.flip 0.5".split()  # noqa: SIM905
ENCODER = VideoViTConfig(name="vit_tiny_patch16_224", frames=16, size=32, width=32, depth=1, heads=2, init="mimetic")


@pytest.fixture(scope="module")
def videos(environment):
    """The training part of the tests' demo data."""
    size = demo().demo
    size = dataclasses.replace(size, train=24, test=16, spec=dataclasses.replace(size.spec, size=32, frames=16))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FASTVID_CACHE", environment["FASTVID_CACHE"])
        return cached_demo(size) / "train"


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    save_encoder(VideoViT(ENCODER), folder)
    return f"checkpoint:{folder}"


@pytest.fixture(scope="module")
def caches(videos, teacher, tmp_path_factory):
    """Makes a cache once for each set of options."""
    made = {}

    def make(*options):
        if options not in made:
            made[options] = tmp_path_factory.mktemp("caches") / "latents"
            paths = ["--teacher", teacher, "--data.path", str(videos), "--out", str(made[options])]
            assert make_cache([*paths, *VIEWS, *options]) == 0
        return made[options]

    return make


def resolved(*options):
    """The configuration of a test's run."""
    return parse("salt", PRESETS, "demo", [*TINY, *VIEWS, *map(str, options)])[0]


def data_of(config, videos) -> SaltData:
    names = ("frames", "size", "sampling", "stride", "fps", "scale", "ratio", "flip")
    views = ViewSpec(**{name: getattr(config.data, name) for name in names})
    return SaltData(str(videos), open_source(videos), open_source(videos), None, [], views)


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        (("--data.flip", "0.25"), ["views.flip: 0.5 in the cache, 0.25 in this run"]),
        (("--data.scale", "0.5", "1"), ["views.scale: [0.4, 1.0] in the cache, [0.5, 1.0] in this run"]),
        (("--data.ratio", "1", "1"), ["views.ratio: [0.8, 1.25] in the cache, [1.0, 1.0] in this run"]),
        (
            ("--data.sampling", "stride"),
            [
                "views.sampling: span in the cache, stride in this run",
                "views.stride: not used in the cache, 4 in this run",
            ],
        ),
        (("--data.frames", "8"), ["views.frames: 16 in the cache, 8 in this run", "grid: [8, 2, 2] in the cache, [4"]),
        (("--data.size", "48"), ["views.size: 32 in the cache, 48 in this run"]),
    ],
)
def test_a_cache_of_other_views_is_refused_by_field(caches, videos, options, lines):
    config = resolved("--latents", caches(), *options)
    student = VideoViT(dataclasses.replace(ENCODER, frames=config.data.frames, size=config.data.size))
    with pytest.raises(ValueError, match="this cache") as refusal:
        open_latents(config, data_of(config, videos), student, None)
    for line in lines:
        assert line in str(refusal.value)
    assert str(refusal.value).count(" in the cache, ") == len(lines) + ("--data.size" in options)


def test_a_cache_of_other_videos_or_another_teacher_is_refused(caches, videos, teacher):
    config = resolved("--latents", caches())
    student = VideoViT(ENCODER)
    assert open_latents(config, data_of(config, videos), student, load_teacher(teacher, frames=16, size=32))
    with pytest.raises(ValueError, match=r"dataset: dataset.json \w+ in the cache, dataset.json \w+ in this run"):
        open_latents(config, data_of(config, videos.parent / "test"), student, None)
    torch.manual_seed(4)
    with pytest.raises(ValueError, match=r"weights: \w+ in the cache, \w+ in this run") as refusal:
        open_latents(config, data_of(config, videos), student, EncoderTeacher(VideoViT(ENCODER)))
    assert "teacher: " not in str(refusal.value)
    deeper = EncoderTeacher(VideoViT(dataclasses.replace(ENCODER, heads=4)))
    with pytest.raises(ValueError, match=r"teacher: vit_tiny_patch16_224 \w+ in the cache"):
        open_latents(config, data_of(config, videos), student, deeper)


def test_a_dense_predictor_cannot_predict_a_token_twice(caches, videos):
    config = resolved("--latents", caches("--tokens", "0.5"), "--predictor.layout", "dense")
    with pytest.raises(ValueError, match="use concat or cross"):
        open_latents(config, data_of(config, videos), VideoViT(ENCODER), None)


def losses(cache: LatentCache, videos, teacher: str, kind: str, normalize: bool):
    """(loss with the teacher online, loss with the cache) of the same predictions of the same views."""
    source, m = open_source(videos), cache.manifest
    online = load_teacher(teacher, frames=16, size=32)
    masks = MaskSampler(resolved().mask, m.grid, None, 0, "salt")
    torch.manual_seed(1)
    encoder = VideoViT(ENCODER)
    module = MaskedPrediction(encoder, Predictor(32, m.dim, m.grid, PredictorConfig(width=32, depth=1, heads=2))).eval()
    world, loss = World(0, 1, torch.device("cpu")), LossConfig(kind=kind, normalize_target=normalize)
    plain = train_loader(source, cache.views, batch=12, seed=5, view_seed=m.view_seed, views=m.views_per_clip)
    with LatentLoader(plain, cache) as batches, torch.no_grad():
        for draw in range(3):
            batch = next(batches)
            yield tuple(
                float(StageLoss(loss, masks, targets, world)(module, batch, draw)[0])
                for targets in (TeacherTargets(online, world.device), CachedTargets(cache, 0, world.device))
            )


@pytest.mark.parametrize(("form", "bound"), [("fp16", 1e-4), ("bf16", 1e-3), ("int8", 2e-3)])
@pytest.mark.parametrize(("kind", "normalize"), [("mse", True), ("l1", True), ("mse", False), ("cosine", False)])
def test_the_loss_is_the_online_loss_within_the_form(caches, videos, teacher, form, bound, kind, normalize):
    cache = LatentCache(caches("--form", form, "--views", "2"))
    for online, cached in losses(cache, videos, teacher, kind, normalize):
        assert cached == pytest.approx(online, rel=bound)
        assert online > 0.1


def test_latents_of_another_view_give_another_loss(caches, videos, teacher):
    """The trap the cache is built against: the check of hashes is what stands between these two."""
    cache = LatentCache(caches("--form", "fp16", "--views", "2"))
    read = cache.read
    of_key = dict(cache.clips())

    def other_view(keys, hashes):
        return read(keys, [next(h for h in of_key[key] if h != used) for key, used in zip(keys, hashes, strict=True)])

    right = list(losses(cache, videos, teacher, "mse", True))
    cache.read = other_view
    for (online, cached), (_, locked) in zip(losses(cache, videos, teacher, "mse", True), right, strict=True):
        assert abs(cached - online) > 10 * abs(locked - online)


@pytest.mark.parametrize("options", [(), ("--form", "int8", "--projection", "pca:8", "--tokens", "0.5")])
def test_health_is_measured_on_cached_clips(caches, videos, options):
    cache = LatentCache(caches(*options))
    config, m = resolved(), cache.manifest
    data = data_of(config, videos)
    masks = MaskSampler(config.mask, m.grid, None, 0, "salt")
    encoder = VideoViT(ENCODER)
    module = MaskedPrediction(encoder, Predictor(32, m.dim, m.grid, PredictorConfig(width=32, depth=1, heads=2)))
    world = World(0, 1, torch.device("cpu"))
    targets = CachedTargets(cache, 0, world.device)
    loss = StageLoss(config.loss, masks, targets, world, subset=token_subset(cache, masks, None, 0))
    check = HealthCheck("salt", module, loss, data, 8, Quarantine(), world.device)
    values = check(1)
    assert 1 < values["health_teacher_rank"] <= m.dim
    assert values["health_probe_loss"] > 0
    assert values["health_mean_predictor_loss"] > 0
    assert check(2) == values


@pytest.mark.slow
def test_a_run_on_latents_resumes_bit_for_bit(salt, caches, tmp_path):
    latents = caches("--form", "int8", "--views", "2", "--tokens", "0.5")
    options = ("--latents", latents, *VIEWS, "--probe.attentive-epochs", "1")
    done = salt(tmp_path / "whole", *options)
    assert done.returncode == 0, done.stderr
    assert "24 clips x 2 views, int8, 16 tokens of 32 elements, by checkpoint:" in done.stderr
    whole = records(tmp_path / "whole")
    assert {r["stage"] for r in whole} == {"salt"}
    assert all(0 <= r["repeated_targets"] < 0.2 for r in whole if "loss" in r)
    probe = json.loads((tmp_path / "whole" / "probe.json").read_text())
    assert [row["encoder"] for row in probe["rows"]] == ["student", "random initialisation", "student, single frame"]
    assert "single frame" in (tmp_path / "whole" / "report.html").read_text()

    directory = tmp_path / "stopped"
    process = salt(directory, *options, "--probe.enabled", "False", wait=False)
    stop(process, directory, lambda metrics: metrics.count("\n") >= 2)
    assert salt(directory, resume=True).returncode == 0
    assert_same(directory, tmp_path / "whole")


def test_a_wrong_cache_is_one_message_before_anything_is_trained(salt, caches, tmp_path):
    done = salt(tmp_path / "r", "--latents", caches(), *VIEWS, "--data.flip", "0.25")
    assert done.returncode == 2
    assert "views.flip: 0.5 in the cache, 0.25 in this run" in done.stderr
    assert not re.search("Traceback", done.stderr)
    assert not (tmp_path / "r" / "checkpoints").exists()
