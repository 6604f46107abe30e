"""A query that passes through an encoder by itself is a token appended to it that no other token sees."""

import pytest
import timm
import torch
from transformers import (
    AttentionInterface,
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
)

from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.dinov3 import Dinov3Encoder
from fastvid.projects.fvlm.timm_vit import TimmEncoder

SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "patch_size": 8, "image_size": 24}


def asymmetric(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """Attention in which no token sees the first one, which itself sees all others."""
    out = torch.nn.functional.scaled_dot_product_attention(query, key[:, :, 1:], value[:, :, 1:], scale=scaling)
    return out.transpose(1, 2).contiguous(), None


AttentionInterface.register("asymmetric", asymmetric)


def drawn(model):
    """The model in float64 with weights that let attention differ among patches."""
    generator = torch.Generator().manual_seed(0)
    for parameter in model.double().eval().parameters():
        parameter.data = 0.5 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return model


def dinov2():
    return Dinov2Encoder(drawn(Dinov2Model(Dinov2Config(**SIZES, use_swiglu_ffn=True))))


def registers():
    return Dinov2Encoder(drawn(Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**SIZES))))


def dinov3():
    return Dinov3Encoder(drawn(DINOv3ViTModel(DINOv3ViTConfig(**SIZES, intermediate_size=32, num_register_tokens=2))))


def timm_vit(**options):
    model = timm.create_model(
        "vit_tiny_patch16_224", num_classes=0, img_size=24, patch_size=8, embed_dim=16, depth=3, num_heads=2,
        init_values=1.0, qk_norm=True, **options,
    )  # fmt: skip
    return TimmEncoder(drawn(model), "vit_tiny_patch16_224")


def clips(count=2, frames=2, size=24):
    return torch.randint(256, (count, frames, size, size, 3), generator=torch.Generator().manual_seed(1)).to(
        torch.uint8
    )


def appended(encoder, pixels, query):
    """The last state of a query that is put in front of the tokens of Hugging Face's own layers."""
    tokens = torch.cat([query, encoder.embed(pixels)[0]], 1)
    model = encoder.model
    if isinstance(encoder, TimmEncoder):
        mask = torch.ones(tokens.shape[1], tokens.shape[1], dtype=torch.bool)
        mask[:, 0] = False
        for block in model.blocks:
            tokens = block(tokens, attn_mask=mask)
        return model.norm(tokens)[:, 0]
    model.set_attn_implementation("asymmetric")
    if isinstance(encoder, Dinov2Encoder):
        return model.layernorm(model.encoder(tokens).last_hidden_state)[:, 0]
    layers = model.layer if hasattr(model, "layer") else model.model.layer
    for layer in layers:
        tokens = layer(tokens, position_embeddings=model.rope_embeddings(pixels))
    return model.norm(tokens)[:, 0]


@pytest.mark.parametrize("make", [dinov2, registers, dinov3, timm_vit])
def test_a_deep_query_is_a_token_that_no_patch_sees(make):
    encoder, shown = make(), clips()
    queries = torch.randn(4, 2, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    seen = encoder.look(queries, encoder.encode(shown)).seen
    pixels = encoder._normalised(shown.flatten(0, 1))
    for number in range(2):
        torch.testing.assert_close(seen[:, number], appended(encoder, pixels, queries[:, number : number + 1]))


@pytest.mark.parametrize("make", [dinov2, registers, dinov3, timm_vit])
def test_a_shallow_query_reads_the_encoders_own_output(make):
    encoder, shown = make(), clips(1, 2)
    encoder.depth = "shallow"
    pixels = encoder._normalised(shown.flatten(0, 1))
    out = encoder.model.forward_features(pixels) if make is timm_vit else encoder.model(pixels).last_hidden_state
    keys = encoder.encode(shown)
    torch.testing.assert_close(keys.layers[0][0][:, 0], out)
    query = out.new_ones(2, 1, 16)
    weights = (query @ out.mT / 4).softmax(-1)
    torch.testing.assert_close(encoder.look(query, keys).seen, weights @ out)


def test_keys_are_computed_without_finishing_the_last_layer():
    encoder = dinov2()
    last = encoder.model.encoder.layer[-1]
    asked = []
    last.mlp.register_forward_hook(lambda *_: asked.append("mlp"))
    keys = encoder.encode(clips())
    assert len(keys.layers) == 3
    assert not asked


def test_the_attention_that_is_returned_is_the_one_that_was_used():
    encoder, shown = dinov2(), clips(1, 2)
    keys = encoder.encode(shown)
    queries = torch.randn(2, 3, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    gaze = encoder.look(queries, keys, attention=True)
    assert len(gaze.attention) == len(gaze.entropy) == 3
    for weights, entropy in zip(gaze.attention, gaze.entropy, strict=True):
        assert weights.shape == (2, 3, 2, 10)  # frames, questions, heads, tokens
        torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 2), rtol=1e-5, atol=1e-5)
        computed = -(weights * weights.clamp(min=1e-30).log()).sum(-1)
        torch.testing.assert_close(computed.double(), entropy.double(), rtol=1e-4, atol=1e-4)


def test_a_uniform_gaze_sees_the_mean_and_an_oracle_the_true_patch():
    encoder = dinov2()
    keys = encoder.encode(clips(1, 2))
    queries = torch.randn(2, 1, 16, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    uniform = encoder.look(queries, keys, uniform=True, attention=True)
    torch.testing.assert_close(uniform.entropy, torch.full_like(uniform.entropy, 10).log())
    oracle = encoder.look(queries, keys, truth=torch.tensor([[4], [-1]]), attention=True)
    assert (oracle.attention[0][0, 0].argmax(-1) == 4 + encoder.prefix).all()
    assert (oracle.entropy[:, 0] == 0).all()
    free = encoder.look(queries, keys)
    torch.testing.assert_close(oracle.seen[1], free.seen[1])  # -1: it looks where it wants to
    assert not torch.allclose(oracle.seen[0], free.seen[0])


def test_pixels_that_fill_no_patch_are_not_seen_as_the_model_itself_does_not_see_them():
    encoder = dinov2()
    whole = clips(size=20)
    keys, cropped = encoder.encode(whole), encoder.encode(whole[:, :, :16, :16])
    for (key, value), (other, same) in zip(keys.layers, cropped.layers, strict=True):
        assert torch.equal(key, other)
        assert torch.equal(value, same)
    pixels = encoder._normalised(whole.flatten(0, 1))
    first = encoder.model(pixels, output_hidden_states=True).hidden_states[0]
    torch.testing.assert_close(encoder.embed(pixels[..., :16, :16])[0], first)


def test_frames_smaller_than_a_patch_are_refused():
    with pytest.raises(ValueError, match="frames of 6 x 6 are smaller than a patch of 8 x 8"):
        dinov2().encode(clips(size=6))


def test_a_timm_model_of_other_layers_is_refused():
    model = timm.create_model("eva02_tiny_patch14_224", num_classes=0)
    with pytest.raises(ValueError, match="eva02_tiny_patch14_224 is no plain vision transformer"):
        TimmEncoder(model, "eva02_tiny_patch14_224")
