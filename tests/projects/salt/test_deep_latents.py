"""Latent caches of several of a teacher's blocks."""

import dataclasses
from functools import partial

import pytest
import torch

from fastvid.cache.__main__ import main as make_cache
from fastvid.data import open_source
from fastvid.latents import LatentCache, LatentLoader
from fastvid.latents.config import CacheConfig, CacheData
from fastvid.models import VideoViT, load_teacher, save_encoder
from fastvid.models.block_numbers import parse_blocks
from fastvid.models.teachers import with_layers
from fastvid.projects.salt.cached_targets import CachedTargets, open_latents, token_subset
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.recipe import given_teacher, with_predictor
from fastvid.projects.salt.targets import TeacherTargets
from fastvid.projects.salt.window_targets import WindowTargets, check_window
from fastvid.train.distributed import World
from tests.data.loading import train_loader
from tests.projects.salt.test_latents import ENCODER, VIEWS, caches, data_of, resolved, videos  # noqa: F401

DEEP = dataclasses.replace(ENCODER, depth=3)
WORLD = World(0, 1, torch.device("cpu"))
FP16 = ("--layers", "1,3", "--form", "fp16")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    folder = tmp_path_factory.mktemp("teacher")
    torch.manual_seed(3)
    save_encoder(VideoViT(DEEP), folder)
    return f"checkpoint:{folder}"


def stage(config, targets, masks, subset=None):
    torch.manual_seed(1)
    module = with_predictor(VideoViT(DEEP), targets, masks, config.predictor, config.loss, config.model).eval()
    return partial(StageLoss(config.loss, masks, targets, WORLD, subset, draws=10), module)


@pytest.mark.parametrize(("form", "bound"), [("fp16", 1e-3), ("int8", 5e-3)])
def test_the_loss_is_the_online_loss_of_all_blocks(caches, videos, teacher, form, bound):  # noqa: F811
    config = resolved("--teacher.layers", "1,3", "--loss.context", "0.5", "--loss.context-warmup", "0", "0")
    cache = LatentCache(caches("--layers", "1,3", "--form", form))
    m = cache.manifest
    assert (m.layer, m.layers, m.tokens, m.rows, m.dim) == ("1,3", 2, 32, 64, 32)
    assert m.view_bytes == 64 * (34 if form == "int8" else 64)
    online = TeacherTargets(with_layers(load_teacher(teacher, frames=16, size=32), (1, 3)), WORLD.device)
    masks = MaskSampler(config.mask, m.grid, None, 0, "salt")
    losses = [stage(config, targets, masks) for targets in (online, CachedTargets(cache, 0, WORLD.device))]
    loader = train_loader(open_source(videos), cache.views, batch=8, seed=5, view_seed=m.view_seed, views=1)
    with LatentLoader(loader, cache) as batches, torch.no_grad():
        batch = next(batches)
        expected, got = (float(loss(batch, 2)[0]) for loss in losses)
    assert got == pytest.approx(expected, rel=bound)
    assert expected > 0.1


def test_some_tokens_of_all_blocks(caches, videos, teacher):  # noqa: F811
    """Rows of a token stay together."""
    config = resolved("--teacher.layers", "1,3")
    cache = LatentCache(caches("--layers", "1,3", "--tokens", "0.5"))
    m = cache.manifest
    loader = train_loader(open_source(videos), cache.views, batch=4, seed=5, view_seed=m.view_seed, views=1)
    masks = MaskSampler(config.mask, m.grid, None, 0, "salt")
    loss = stage(config, CachedTargets(cache, 0, WORLD.device), masks, token_subset(cache, masks, None, 0))
    deep = with_layers(load_teacher(teacher, frames=16, size=32), (1, 3))
    with LatentLoader(loader, cache) as batches, torch.no_grad():
        batch = next(batches)
        whole = deep(batch.clips).unflatten(1, (32, 2))
        tokens = batch.latents.tokens
        picked = whole.gather(1, tokens.view(4, 16, 1, 1).expand(-1, -1, 2, 32)).flatten(1, 2)
        torch.testing.assert_close(batch.latents.float(), picked, rtol=2e-3, atol=2e-3)
        assert loss(batch, 0)[0].isfinite()


def test_other_blocks_are_refused(caches, videos):  # noqa: F811
    for wanted, said in (("1,2", "layer: 1,3 in the cache, 1,2 in this run"), ("last", "1,3 in the cache, last in")):
        config = resolved("--latents", caches(*FP16), "--teacher.layers", wanted)
        with pytest.raises(ValueError, match=said):
            open_latents(config, data_of(config, videos), VideoViT(DEEP), None)
    config = resolved("--latents", caches(*FP16), "--teacher.layers", "1,3")
    assert open_latents(config, data_of(config, videos), VideoViT(DEEP), None).manifest.layers == 2


def test_a_cache_of_several_blocks_can_be_verified(caches, videos, teacher, capsys):  # noqa: F811
    folder = caches("--layers", "1,3", "--tokens", "0.5")
    assert make_cache(["verify", str(folder), "--teacher", teacher, "--data.path", str(videos), "--sample", "0.1"]) == 0


def test_the_window_keeps_all_blocks(videos, teacher, tmp_path):  # noqa: F811
    config = resolved("--teacher.layers", "1,2,3", "--teacher.source", teacher, "--latent-window.echo", "2")
    data = data_of(config, videos)
    check_window(config, tmp_path, data, 32, 32)
    tight = dataclasses.replace(config, latent_window=dataclasses.replace(config.latent_window, gb=3e-4))
    with pytest.raises(ValueError, match="two windows of 16 shards take up to"):
        check_window(tight, tmp_path, data, 32, 32)
    deep = given_teacher(config, VideoViT(DEEP))
    targets = WindowTargets(deep, tmp_path, config, data, "float32", WORLD.device)
    loader = partial(train_loader, data.train, data.views, batch=4, seed=0)
    with targets.batches(loader) as batches:
        batch = next(batches)
        latents = targets.prepare(batch)
        torch.testing.assert_close(latents.float(), deep(batch.clips), rtol=2e-3, atol=2e-3)
    assert targets.layers == 3


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--teacher.layers", "3,one"), "not a list of block numbers such as 3,6,9,12"),
        (("--teacher.layers", "0,1"), "--teacher.layers must be at least 1; got 0"),
    ],
)
def test_wrong_block_numbers_are_refused(option, words, capsys):
    with pytest.raises((SystemExit, Exception)) as caught:
        resolved(*option)
    assert words in " ".join((str(caught.value) + capsys.readouterr().err).replace("│", " ").split())


def test_a_projection_is_of_one_block():
    assert parse_blocks("3,6,9,12") == (3, 6, 9, 12)
    with pytest.raises(ValueError, match="layers and projection exclude each other"):
        CacheConfig("checkpoint:x", CacheData("y"), "z", layers=(1, 2), projection="pca:8")
