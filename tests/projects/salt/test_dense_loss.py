"""The loss on visible tokens (V-JEPA 2.1) and targets of several layers, in one fused loss."""

import copy
import dataclasses
import functools

import pytest
import torch
import torch.nn.functional as F

from fastvid.data import Batch, Latents
from fastvid.models import EncoderTeacher, VideoViT, VideoViTConfig
from fastvid.models.teachers import DeepTeacher
from fastvid.ops import quantize_tokens
from fastvid.projects.salt.config import LossConfig, MaskConfig, ModelConfig, PredictorConfig, SaltConfig
from fastvid.projects.salt.context import context_share, dense_weights
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import MaskedPrediction, spread_layers
from fastvid.projects.salt.recipe import with_predictor
from fastvid.projects.salt.targets import PixelTargets, TeacherTargets, select_latents
from fastvid.projects.salt.token_subset import TokenSubset
from fastvid.train.distributed import World

ENCODER = VideoViTConfig(name="vit_tiny_patch16_224", frames=8, size=48, width=24, depth=4, heads=2)
GRID = (4, 3, 3)
WORLD = World(0, 1, torch.device("cpu"))


@functools.cache
def _made() -> VideoViT:
    torch.manual_seed(1)
    return VideoViT(ENCODER)


def encoder() -> VideoViT:
    return copy.deepcopy(_made())


@pytest.fixture
def batch():
    torch.manual_seed(0)
    clips = torch.randint(256, (3, 8, 48, 48, 3), dtype=torch.uint8)
    return Batch(keys=list("abc"), ids=torch.arange(3), view_hashes=torch.arange(3), clips=clips)


def parts(config: LossConfig, layers: tuple[int, ...] = (), layout="concat", specs=("random",), tokens=None, draws=10):
    """(module, loss) of a student and an untrained teacher."""
    torch.manual_seed(1)
    teacher = EncoderTeacher(encoder())
    targets = TeacherTargets(DeepTeacher(teacher, layers) if layers else teacher, WORLD.device)
    masks = MaskSampler(MaskConfig(specs=specs, ratio=0.5), GRID, tokens, 0, "salt")
    predictor = PredictorConfig(width=16, depth=1, heads=2, layout=layout)
    module = with_predictor(encoder(), targets, masks, predictor, config, ModelConfig())
    return module, StageLoss(config, masks, targets, WORLD, draws=draws)


def brute_distances(visible: torch.Tensor, masked: torch.Tensor) -> torch.Tensor:
    axes = [torch.arange(n) for n in GRID]
    place = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).flatten(0, 2).float()
    return torch.stack([torch.cdist(place[v], place[m]).amin(1) for v, m in zip(visible, masked, strict=True)])


@pytest.mark.parametrize("layout", ["concat", "dense", "cross"])
@pytest.mark.parametrize("layers", [(), (2, 4)])
def test_the_fused_loss_is_the_papers_sum_of_two_means(batch, layout, layers):
    """mean of l over the predicted masked tokens + lambda * mean over the visible ones of l / sqrt(distance)."""
    config = LossConfig(kind="l1", context=0.7, context_warmup=(0.0, 0.0))
    module, loss = parts(config, layers, layout, specs=("random", "tube"), tokens=9)
    value, values = loss(module, batch, 3)
    latents = loss.targets.prepare(batch).values
    width = latents.shape[-1]
    target = F.layer_norm(latents, (width,)).unflatten(1, (36, -1)).flatten(2)  # [B, N, layers * D]
    masks, complete, _ = loss.draw(batch.ids, 3, None)
    expected = []
    for pred, (visible, masked), (_, hidden) in zip(module(batch.clips, masks), masks, complete, strict=True):
        assert masked.shape[1] == 9
        assert pred.shape[1] == 9 + visible.shape[1]
        wanted = torch.cat([masked, visible], dim=1).unsqueeze(-1).expand(-1, -1, target.shape[-1])
        rows = (pred - target.gather(1, wanted)).abs().mean(-1)
        near = brute_distances(visible, hidden).rsqrt()
        expected.append(rows[:, :9].mean() + 0.7 * (near * rows[:, 9:]).mean())
    torch.testing.assert_close(value, torch.stack(expected).mean())
    assert values["context"] == pytest.approx(0.7)
    value.backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_loss_of_a_batch_is_the_mean_of_those_of_its_clips(batch):
    """So accumulation and several processes change nothing."""
    module, loss = parts(LossConfig(context=0.5, context_warmup=(0.0, 0.0)))
    rows = [
        Batch(keys=[batch.keys[i]], ids=batch.ids[i : i + 1], view_hashes=batch.view_hashes[i : i + 1],
              clips=batch.clips[i : i + 1])
        for i in range(3)
    ]  # fmt: skip
    apart = torch.stack([loss(module, row, 1)[0] for row in rows])
    torch.testing.assert_close(loss(module, batch, 1)[0], apart.mean())


def test_without_context_nothing_changes(batch):
    """No head, no draws for it, and the masked tokens' loss alone."""
    module, loss = parts(LossConfig())
    assert "predictor.context_head.weight" not in module.state_dict()
    value, values = loss(module, batch, 0)
    assert values == {}
    (pred,) = module(batch.clips, loss.masks(batch.ids, 0))
    masked = loss.masks(batch.ids, 0)[0][1]
    assert torch.equal(value, loss.masked_distance(pred, masked, loss.targets.prepare(batch)))


def test_the_weight_warms_up():
    config = LossConfig(context=0.5, context_warmup=(0.1, 0.2))
    got = [context_share(config, draw, 100) for draw in (0, 10, 15, 20, 99)]
    assert got == pytest.approx([0, 0, 0.25, 0.5, 0.5])
    assert context_share(dataclasses.replace(config, context_warmup=(0.0, 0.0)), 0, 100) == 0.5
    with pytest.raises(ValueError, match="context_warmup must begin before it ends"):
        LossConfig(context_warmup=(0.3, 0.2))


def test_before_the_warm_up_visible_tokens_do_not_count(batch):
    module, loss = parts(LossConfig(context=0.5, context_warmup=(0.5, 0.9)))
    value, _ = loss(module, batch, 0)
    value.backward()
    assert module.predictor.context_head.weight.grad.count_nonzero() == 0
    assert module.predictor.head.weight.grad.count_nonzero() > 0


def test_tokens_that_are_not_cached_count_nothing(batch):
    """And the cached ones so much more that the mean over the choice of tokens is the whole loss on visible tokens."""
    visible, masked = MaskSampler(MaskConfig(specs=("random",), ratio=0.5), GRID, None, 0, "s").whole(batch.ids, 0)
    whole = dense_weights((visible, masked), masked, GRID, 0.5)
    total = torch.zeros_like(whole)
    for start in range(3):  # every token is in one of three thirds
        tokens = torch.arange(start, 36, 3).expand(3, -1)
        latents = Latents(torch.zeros(3, 12, 4), None, tokens)
        weight = dense_weights((visible, masked), masked, GRID, 0.5, latents)
        assert (weight[:, 18:] > 0).sum() == torch.isin(visible, tokens[0]).sum()
        total += weight / 3
    torch.testing.assert_close(total, whole)
    torch.testing.assert_close(whole.sum(1)[0], 1 + 0.5 * brute_distances(visible, masked)[0].rsqrt().mean())


def test_a_loss_on_cached_tokens_reads_only_these(batch):
    config = LossConfig(context=0.5, context_warmup=(0.0, 0.0))
    module, loss = parts(config)
    latents = loss.targets.prepare(batch).values
    tokens = torch.arange(0, 36, 2).repeat(3, 1)

    class Cached(TeacherTargets):
        def prepare(self, batch):
            return Latents(latents[:, ::2].contiguous(), None, tokens)

    targets = Cached(loss.targets.teacher, WORLD.device)
    subset = TokenSubset(loss.masks.counts, 36, 18, None, 0)
    cached = StageLoss(config, loss.masks, targets, WORLD, subset, draws=10)
    value, _ = cached(module, batch, 1)
    masks, complete, _ = cached.draw(batch.ids, 1, targets.prepare(batch))
    (visible, masked), (_, hidden) = masks[0], complete[0]
    (pred,) = module(batch.clips, masks)
    target = F.layer_norm(latents, (24,))
    rows = (pred - target.gather(1, torch.cat([masked, visible], 1).unsqueeze(-1).expand_as(pred))).square().mean(-1)
    known = (visible % 2 == 0) * 2 * brute_distances(visible, hidden).rsqrt()
    expected = rows[:, : masked.shape[1]].mean() + 0.5 * (known * rows[:, masked.shape[1] :]).mean()
    torch.testing.assert_close(value, expected)


def test_visible_pixels_can_be_painted_too(batch):
    config = LossConfig(context=0.5, context_warmup=(0.0, 0.0))
    _, loss = parts(config)
    student = encoder()
    targets = PixelTargets(student.patch_embed)
    module = with_predictor(student, targets, loss.masks, PredictorConfig(16, 1, 2), config, ModelConfig())
    value, _ = StageLoss(config, loss.masks, targets, WORLD, draws=10)(module, batch, 0)
    assert value.isfinite()
    value.backward()


def test_deep_targets_are_the_blocks_own_tokens(batch):
    vit = encoder().eval()
    seen = {}
    for number, block in enumerate(vit.blocks, 1):
        block.register_forward_hook(lambda module, inputs, out, number=number: seen.__setitem__(number, out))
    last = vit(batch.clips)
    deep = vit(batch.clips, None, (1, 3, 4))
    assert torch.equal(deep, torch.cat([seen[1], seen[3], last], dim=-1))
    assert torch.equal(vit(batch.clips, None, (2,)), seen[2])
    teacher = DeepTeacher(EncoderTeacher(vit), (1, 3, 4))
    rows = teacher(batch.clips)
    assert rows.shape == (3, 36 * 3, 24)
    assert torch.equal(rows[:, 1::3], seen[3])
    assert not rows.requires_grad


@pytest.mark.parametrize("layers", [(4, 2), (2, 2), (5,), (0, 1)])
def test_blocks_that_are_not_there_are_refused(layers):
    with pytest.raises(ValueError, match="has blocks 1 to 4; give some of them in ascending order"):
        DeepTeacher(EncoderTeacher(encoder()), layers)


def test_layers_need_a_normalised_target():
    with pytest.raises(ValueError, match=r"each must be normalised, so leave loss.normalize_target on"):
        SaltConfig(
            teacher=dataclasses.replace(SaltConfig().teacher, layers=(1, 2)), loss=LossConfig(normalize_target=False)
        )


def test_int8_latents_have_a_scale_for_each_layer(batch):
    """The sizes of two layers differ by a thousand: with one scale the smaller would be lost."""
    rows = torch.randn(2, 6, 8) * torch.tensor([1.0, 1000.0]).repeat(3).view(1, 6, 1)
    latents = Latents(*quantize_tokens(rows))
    values, index, scale = select_latents(latents, torch.tensor([[2, 0], [1, 2]]), 2)
    assert index.tolist() == [[4, 5, 0, 1], [2, 3, 4, 5]]
    got = values.float() * scale.float().unsqueeze(-1)
    assert ((got - rows).abs() <= 0.005 * rows.abs().amax(-1, keepdim=True)).all()


def test_a_students_blocks_are_evenly_spaced():
    assert spread_layers(12, 4) == (3, 6, 9, 12)
    assert spread_layers(24, 4) == (6, 12, 18, 24)
    assert spread_layers(40, 4) == (10, 20, 30, 40)
    assert spread_layers(3, 4) == (1, 2, 3)
    assert spread_layers(5, 2) == (2, 5)


def test_the_predictor_gets_all_fused_layers(batch):
    """Every block's tokens reach the prediction on a path of their own."""
    module, loss = parts(LossConfig(), (1, 2, 3, 4))
    assert isinstance(module, MaskedPrediction)
    assert module.layers == (1, 2, 3, 4)
    tokens = torch.randn(2, 5, 4 * 24, requires_grad=True)
    module.fusion(tokens).sum().backward()
    assert all(part.abs().sum() > 0 for part in tokens.grad.chunk(4, dim=-1))
    (pred,) = module(batch.clips, loss.masks(batch.ids, 0))
    assert pred.shape == (3, 18, 4 * 24)
