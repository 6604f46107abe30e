"""The lighter second half of a layer: the same tokens and gradients, and less that is kept for the backward pass."""

import pytest
import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.light_layer import GeluLinear, is_plain

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 24}


def encoder(**options):
    torch.manual_seed(0)
    model = Dinov2Model(Dinov2Config(**SIZES, **options))
    for layer in model.encoder.layer:
        for scale in (layer.layer_scale1, layer.layer_scale2):
            nn.init.normal_(scale.lambda1)
    return Dinov2Encoder(model)


def clips():
    return torch.randint(256, (2, 20, 24, 24, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)


def kept(one):
    """Return the keys and values, the gradients and the bytes that are kept for the backward pass."""
    sizes = {}
    known = {p.untyped_storage().data_ptr() for p in one.parameters()}

    def pack(x):
        if x.untyped_storage().data_ptr() not in known:
            sizes[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        keys = [x for layer in one.encode(clips()).layers for x in layer]
    loss = sum((x * torch.arange(x.shape[-1])).sum() for x in keys)
    weights = [p for p in one.parameters() if p.requires_grad]
    return keys, torch.autograd.grad(loss, weights, allow_unused=True), sum(sizes.values())


def test_the_same_is_computed_with_less_memory():
    one = encoder().double()
    light = kept(one)
    one.light = False
    plain = kept(one)
    for ours, theirs in zip(light[0], plain[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for ours, theirs in zip(light[1], plain[1], strict=True):
        assert (ours is None) == (theirs is None)
        if ours is not None:
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-9)
    assert light[2] < 0.8 * plain[2]


def test_gradients_of_gelu_and_linear():
    random = torch.Generator().manual_seed(0)
    parts = [torch.randn(shape, generator=random).double().requires_grad_() for shape in ((2, 3, 5), (4, 5), (4,))]
    torch.autograd.gradcheck(GeluLinear.apply, parts)
    parts[1].requires_grad_(False)  # what is frozen gets no gradient
    parts[2].requires_grad_(False)
    torch.autograd.gradcheck(GeluLinear.apply, parts)


def test_under_autocast_it_is_as_near_as_the_plain_layer():
    one = encoder()
    expected = [x for layer in one.encode(clips()).layers for x in layer]
    errors = {}
    for light in (True, False):
        one.light = light
        with torch.autocast("cpu", dtype=torch.bfloat16):
            found, gradients, _ = kept(one)
        assert all(g.dtype == torch.float32 for g in gradients if g is not None)
        errors[light] = max((x.float() - y).abs().max() for x, y in zip(found, expected, strict=True))
    assert errors[True] < 2 * errors[False]


@pytest.mark.parametrize(
    ("options", "plain"), [({}, True), ({"use_swiglu_ffn": True}, False), ({"hidden_act": "gelu_new"}, False)]
)
def test_other_hidden_layers_stay_as_they_are(options, plain):
    one = encoder(**options)
    assert one.light == plain == is_plain(one.model.encoder.layer[0].mlp)
    assert all((block.finish is not None) == plain for block in one.blocks())
