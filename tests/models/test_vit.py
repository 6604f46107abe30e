import dataclasses

import pytest
import timm
import torch
import torch.nn.functional as F
from transformers import VideoMAEConfig, VideoMAEModel

from fastvid.models import VideoViT, VideoViTConfig, load_encoder, save_encoder
from fastvid.nn import Predictor, PredictorConfig, VisiblePatchEmbed, sincos_positions, sinusoid_positions
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD, multiblock_mask

TINY = VideoViTConfig(name="vit_tiny_patch16_224", frames=4, size=64, width=48, depth=2, heads=3)


def clips(batch=2, frames=4, size=64):
    return torch.randint(256, (batch, frames, size, size, 3), dtype=torch.uint8)


def masks(batch=2, masked=20, visible=12, grid=(2, 4, 4)):
    return multiblock_mask(torch.arange(batch), grid, masked=masked, visible=visible, seed=0, draw=0)


def test_a_conv3d_checkpoint_loads_unchanged():
    conv = torch.nn.Conv3d(3, 24, (2, 16, 16), (2, 16, 16))
    embed = VisiblePatchEmbed(24)
    embed.load_state_dict({f"proj.{name}": value for name, value in conv.state_dict().items()})
    clip = clips()
    pixels = ((clip / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 4, 1, 2, 3)
    expected = conv(pixels).flatten(2).mT
    torch.testing.assert_close(embed(clip), expected, rtol=1e-4, atol=1e-4)
    visible, _ = masks()
    torch.testing.assert_close(embed(clip, visible), torch.take_along_dim(embed(clip), visible[..., None], 1))
    embed(clip, visible).sum().backward()
    assert embed.proj.weight.grad is not None


def test_autocast_writes_pixels_in_its_own_dtype():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert VisiblePatchEmbed(8)(clips()).dtype == torch.bfloat16


def test_hidden_tokens_have_no_influence():
    torch.manual_seed(0)
    encoder = VideoViT(TINY).eval()
    visible, masked = masks()
    clip = clips()
    seen = encoder(clip, visible)
    assert seen.shape == (2, 12, 48)
    changed = clip.clone()
    cells = changed.unflatten(3, (4, 16)).unflatten(2, (4, 16)).unflatten(1, (2, 2))
    for b in range(2):
        t, h, w = masked[b] // 16, masked[b] // 4 % 4, masked[b] % 4
        cells[b, t, :, h, :, w] = 0
    assert not torch.equal(changed, clip)
    assert torch.equal(encoder(changed, visible), seen)


def test_the_order_of_tokens_does_not_matter():
    encoder = VideoViT(TINY).eval()
    visible, _ = masks()
    clip, order = clips(), torch.randperm(12)
    torch.testing.assert_close(encoder(clip, visible[:, order]), encoder(clip, visible)[:, order], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["vit_tiny", "vit_small", "vit_base", "vit_large"])
def test_timm_names_become_video_models(name):
    with torch.device("meta"):
        encoder = VideoViT(VideoViTConfig(name=f"{name}_patch16_224"))
    dims = {"vit_tiny": (192, 12), "vit_small": (384, 12), "vit_base": (768, 12), "vit_large": (1024, 24)}
    assert (encoder.dim, len(encoder.blocks)) == dims[name]
    assert encoder.grid == (8, 14, 14)
    assert encoder.patch_embed.proj.weight.shape == (encoder.dim, 3, 2, 16, 16)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (VideoViTConfig(name="vit_nano_patch16_224"), "timm has no model 'vit_nano_patch16_224'; similar names: vit_"),
        (VideoViTConfig(name="resnet18"), "resnet18 is a ResNet; a timm VisionTransformer is needed"),
        (
            VideoViTConfig(name="resnet18", width=48, depth=2),
            "resnet18 is a ResNet; a timm VisionTransformer is needed",
        ),
        (
            VideoViTConfig(name="swin_tiny_patch4_window7_224", width=48, depth=2, heads=3),
            "is a SwinTransformer; a timm",
        ),
        (VideoViTConfig(name="hiera_tiny_224", depth=2, heads=3), "hiera_tiny_224 is a Hiera; a timm"),
        (VideoViTConfig(name="vit_small_patch16_dinov3"), "is a Eva; a timm"),
        (VideoViTConfig(name="samvit_base_patch16"), "is a VisionTransformerSAM; a timm"),
        (VideoViTConfig(name="naflexvit_base_patch16_gap"), "is a NaFlexVit; a timm"),
        (VideoViTConfig(name="vit_relpos_small_patch16_224"), "is a VisionTransformerRelPos; a timm"),
        (VideoViTConfig(name="swin_tiny_patch4_window7_224", pretrained=True), "is a SwinTransformer; a timm"),
        (VideoViTConfig(name="vit_small_r26_s32_224"), "embeds its patches by a HybridEmbed, which does not cut"),
        (VideoViTConfig(name="vit_base_patch16_clip_224"), "normalises its tokens before the first block"),
        (VideoViTConfig(name="vit_tiny_patch16_224", width=100), "width 100 is not divisible by 3 heads"),
        (VideoViTConfig(name="vit_tiny_patch16_224", depth=-1), "depth and heads must be at least 1; got .*-1"),
        (VideoViTConfig(name="vit_tiny_patch16_224", heads=0), "depth and heads must be at least 1; got .*0"),
        (
            VideoViTConfig(name="test_vit", pretrained=True, heads=4),
            "for its own width 64, depth 6 and 2 heads: leave out",
        ),
        (
            VideoViTConfig(name="test_vit", pretrained=True, depth=2),
            "for its own width 64, depth 6 and 2 heads: leave out",
        ),
        (
            VideoViTConfig(name="test_vit", pretrained=True, patch=8),
            r"with patches of \(16, 16\), not 8: leave out patch",
        ),
        (VideoViTConfig(name="vit_tiny_patch16_224.nobody", pretrained=True), "timm has no model .*nobody"),
        (VideoViTConfig(name="vit_wee_patch16_reg1_gap_256", pretrained=True, width=48), "leave out width, depth"),
        (VideoViTConfig(name="vit_tiny_patch16_224", frames=15), "15 frames of 224 x 224 do not divide into tubelets"),
        (VideoViTConfig(name="vit_tiny_patch16_224", size=100), "16 frames of 100 x 100 do not divide"),
        (VideoViTConfig(name="vit_tiny_patch16_224", width=100, heads=3), "width 100 is not divisible by 3 heads"),
    ],
)
def test_models_that_cannot_be_built_say_why(config, words):
    with pytest.raises(ValueError, match=words):
        VideoViT(config)


def test_clips_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"takes clips of 4 x 64 x 64; got \(2, 4, 32, 32, 3\)"):
        VideoViT(TINY)(clips(size=32))


def test_image_weights_give_a_still_clip_the_tokens_of_the_image():
    encoder = VideoViT(TINY)
    conv = torch.nn.Conv2d(3, 48, 16, 16)
    encoder._load_image_patches(conv, 16)
    image = torch.randint(256, (2, 1, 64, 64, 3), dtype=torch.uint8)
    pixels = ((image[:, 0] / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 3, 1, 2)
    expected = conv(pixels).flatten(2).mT
    tokens = encoder.patch_embed(image.expand(-1, 4, -1, -1, -1))
    torch.testing.assert_close(tokens[:, :16], expected, rtol=1e-4, atol=1e-4)


# One timm model of each kind that is supported: where its norms stand, its tokens beside the patches, its blocks.
FAMILIES = [
    "vit_tiny_patch16_224", "vit_small_patch14_dinov2", "vit_small_patch14_reg4_dinov2", "vit_base_patch16_siglip_224",
    "vit_medium_patch16_gap_240", "vit_wee_patch16_reg1_gap_256", "vit_pwee_patch16_reg1_gap_256",
    "vit_dpwee_patch16_reg1_gap_256", "vit_small_patch16_18x2_224", "vit_base_patch16_rpn_224", "flexivit_small",
    "beit3_base_patch16_224", "eva_large_patch14_196", "aimv2_large_patch14_224", "vit_base_patch16_radio_v3",
    "vit_intern300m_patch14_448", "deit_tiny_patch16_224", "deit3_small_patch16_224", "vit_base_patch8_224",
]  # fmt: skip


@pytest.mark.parametrize("tubelet", [1, 2])
@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_a_still_clip_has_the_features_that_timm_gives_the_image(name, tubelet):
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    torch.manual_seed(0)
    small = {"depth": 2, "embed_dim": 48, "num_heads": 3}
    patch = timm.create_model(name, num_classes=0, **small).patch_embed.patch_size[0]
    size = 2 * patch
    alone = {"class_token": False, "reg_tokens": 0, "global_pool": "avg"}  # a video ViT has patches only
    image_model = timm.create_model(name, num_classes=0, img_size=size, **small, **alone).eval()
    for parameter in image_model.parameters():  # norms that are not the identity
        parameter += 0.1 * torch.randn_like(parameter)
    encoder = VideoViT(
        VideoViTConfig(name, frames=tubelet, size=size, tubelet=tubelet, width=48, depth=2, heads=3)
    ).eval()
    encoder.blocks.load_state_dict(image_model.blocks.state_dict())
    encoder.patch_norm.load_state_dict(image_model.patch_embed.norm.state_dict())
    last = image_model.norm if not isinstance(image_model.norm, torch.nn.Identity) else image_model.fc_norm
    encoder.norm.load_state_dict(last.state_dict())
    encoder._load_image_patches(image_model.patch_embed.proj, patch)
    encoder.positions = image_model.pos_embed[0]
    image = torch.randint(256, (2, 1, size, size, 3), dtype=torch.uint8)
    pixels = ((image[:, 0] / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)).permute(0, 3, 1, 2)
    expected = image_model.fc_norm(image_model.forward_features(pixels))
    torch.testing.assert_close(encoder(image.expand(-1, tubelet, -1, -1, -1)), expected, rtol=1e-3, atol=1e-3)


def test_the_norm_of_a_patch_embedding_is_saved_and_loaded(tmp_path):
    torch.manual_seed(0)
    encoder = VideoViT(VideoViTConfig("aimv2_large_patch14_224", frames=4, size=28, width=48, depth=1, heads=3)).eval()
    encoder.patch_norm.weight.data += torch.randn(48)
    save_encoder(encoder, tmp_path)
    clip = clips(size=28)
    assert torch.equal(load_encoder(tmp_path).eval()(clip), encoder(clip))


def test_learned_positions_and_checkpointing():
    import dataclasses

    encoder = VideoViT(dataclasses.replace(TINY, positions="learned"))
    assert encoder.positions.requires_grad
    clip = clips()
    encoder.train()
    encoder(clip).sum().backward()
    plain = [p.grad.clone() for p in encoder.parameters()]
    encoder.zero_grad()
    encoder.checkpointing = True
    encoder(clip).sum().backward()
    for a, b in zip(plain, encoder.parameters(), strict=True):
        torch.testing.assert_close(a, b.grad)


def test_positions_are_those_of_vjepa():
    """uniform_power: a third each for time, height and width; sines then cosines."""
    table = sincos_positions((2, 3, 4), 12)
    assert table.shape == (24, 12)
    t, h, w = 1, 2, 3
    row = table[t * 12 + h * 4 + w]
    for third, position in zip(row.split(4), (t, h, w), strict=True):
        angles = torch.tensor([position, position / 100.0])
        torch.testing.assert_close(third, torch.cat([angles.sin(), angles.cos()]))
    assert sincos_positions((2, 2, 2), 64).shape == (8, 64)
    with pytest.raises(ValueError, match="even width; got 7"):
        sincos_positions((2, 2, 2), 7)


def test_sinusoid_positions_are_those_of_videomae():
    sizes = {"image_size": 112, "num_frames": 16, "hidden_size": 192, "intermediate_size": 8}
    model = VideoMAEModel(VideoMAEConfig(**sizes, num_hidden_layers=1, num_attention_heads=3))
    table = model.embeddings.position_embeddings[0]
    assert torch.equal(sinusoid_positions(8 * 7 * 7, 192), table)
    encoder = VideoViT(VideoViTConfig("vit_tiny_patch16_224", size=112, depth=1, positions="sinusoid"))
    assert torch.equal(encoder.positions, table)
    assert not encoder.positions.requires_grad


def test_the_dense_layout_is_the_same_computation():
    torch.manual_seed(0)
    visible, masked = masks()
    z = torch.randn(2, 12, 24)
    predictor = Predictor(24, 10, (2, 4, 4), PredictorConfig(width=16, depth=2, heads=2), mask_tokens=2)
    concat = predictor(z, visible, masked, which=1)
    predictor.layout = "dense"
    torch.testing.assert_close(predictor(z, visible, masked, which=1), concat, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(predictor(z, visible, masked, which=0), concat)


def test_visible_tokens_are_predicted_behind_the_masked_ones():
    torch.manual_seed(0)
    visible, masked = masks()
    z = torch.randn(2, 12, 24)
    predictor = Predictor(24, 10, (2, 4, 4), PredictorConfig(width=16, depth=2, heads=2), context=True)
    both = predictor(z, visible, masked)
    assert both.shape == (2, 20 + 12, 10)
    predictor.layout = "dense"
    torch.testing.assert_close(predictor(z, visible, masked), both, rtol=1e-4, atol=1e-5)
    predictor.layout = "concat"
    with torch.no_grad():  # by heads of their own
        predictor.context_head.weight.zero_()
    assert torch.equal(predictor(z, visible, masked)[:, :20], both[:, :20])
    assert predictor(z, visible, masked)[:, 20:].count_nonzero() == 0
    predictor.context_head = None
    assert torch.equal(predictor(z, visible, masked), both[:, :20])


def test_predictor_checks_its_sizes():
    with pytest.raises(ValueError, match=r"30 .* 4 heads"):
        Predictor(24, 10, (2, 4, 4), PredictorConfig(width=30, heads=4))
    with pytest.raises(ValueError, match="concat, dense or cross"):
        Predictor(24, 10, (2, 4, 4), PredictorConfig(width=32, heads=4, layout="sparse"))


def test_an_encoder_is_saved_and_loaded(tmp_path):
    encoder = VideoViT(TINY).eval()
    save_encoder(encoder, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["encoder.json", "encoder.safetensors"]
    clip = clips()
    assert torch.equal(load_encoder(tmp_path).eval()(clip), encoder(clip))
    with pytest.raises(FileNotFoundError, match="no encoder in"):
        load_encoder(tmp_path / "elsewhere")
    config = tmp_path / "encoder.json"
    config.write_text(config.read_text().replace('"depth": 2', '"depth": 3'))
    with pytest.raises(ValueError, match=r"12 missing \(blocks\.2\.attn.*encoder\.json"):
        load_encoder(tmp_path)
    config.write_text(config.read_text().replace('"depth"', '"height"'))
    with pytest.raises(ValueError, match="fields this version does not know: height"):
        load_encoder(tmp_path)


def test_under_autocast_everything_is_finite_and_close():
    encoder = VideoViT(TINY).eval()
    clip = clips()
    with torch.no_grad():
        plain = encoder(clip)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            narrow = encoder(clip)
    assert F.cosine_similarity(plain.flatten(1), narrow.float().flatten(1)).min() > 0.999


def test_mimetic_initialisation_ties_query_and_key_of_encoder_and_predictor():
    encoder = VideoViT(dataclasses.replace(TINY, init="mimetic"))
    predictor = Predictor(48, 10, encoder.grid, PredictorConfig(width=32, depth=1, heads=2), init="mimetic")
    for block in (*encoder.blocks, *predictor.blocks):
        query, key, value = block.attn.qkv.weight.chunk(3)
        assert torch.equal(query, key)
        assert not torch.equal(key, value)
    query, key, _ = VideoViT(TINY).blocks[0].attn.qkv.weight.chunk(3)
    assert not torch.equal(query, key)
    with pytest.raises(ValueError, match="init must be xavier or mimetic; got 'zeros'"):
        Predictor(48, 10, encoder.grid, PredictorConfig(width=32, depth=1, heads=2), init="zeros")
