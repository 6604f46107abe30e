import json

import pytest
import torch
from torch.nn.functional import interpolate
from transformers import Dinov2Config, Dinov2Model, VideoMAEConfig, VideoMAEModel, VJEPA2Config, VJEPA2Model

from fastvid.models import VideoViT, VideoViTConfig, load_teacher, save_encoder
from fastvid.models.fingerprint import teacher_fingerprint
from fastvid.models.teachers import DeepTeacher, EncoderTeacher, ImageTeacher, check_grids
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD

STUDENT = VideoViTConfig(name="vit_tiny_patch16_224", frames=8, size=64, width=48, depth=1, heads=3)


@pytest.fixture(scope="module")
def videomae(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videomae")
    config = VideoMAEConfig(
        image_size=64, num_frames=8, hidden_size=36, num_hidden_layers=2, num_attention_heads=3, intermediate_size=72
    )
    VideoMAEModel(config).save_pretrained(folder)
    statistics = {"image_processor_type": "VideoMAEImageProcessor", "image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(statistics))
    return folder


@pytest.fixture(scope="module")
def vjepa2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vjepa2")
    config = VJEPA2Config(
        crop_size=64, frames_per_clip=16, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        pred_hidden_size=48, pred_num_attention_heads=4, pred_num_hidden_layers=1,
    )  # fmt: skip
    VJEPA2Model(config).save_pretrained(folder)
    return folder


def clips(size=64):
    return torch.randint(256, (2, 8, size, size, 3), dtype=torch.uint8)


def test_videomae_from_a_local_folder(videomae):
    teacher = load_teacher(f"hf:{videomae}", frames=8, size=64)
    assert (teacher.grid, teacher.dim) == ((4, 4, 4), 36)
    check_grids(teacher, VideoViT(STUDENT))
    clip = clips()
    model = VideoMAEModel.from_pretrained(videomae).eval()
    pixels = ((clip / 255 - 0.5) / 0.25).permute(0, 1, 4, 2, 3)  # its own statistics
    with torch.no_grad():
        expected = model(pixel_values=pixels).last_hidden_state
    torch.testing.assert_close(teacher(clip), expected, rtol=1e-4, atol=1e-4)


def test_vjepa2_from_a_local_folder(vjepa2):
    teacher = load_teacher(f"hf:{vjepa2}", frames=8, size=64)  # rotary positions: shorter clips are fine
    assert (teacher.grid, teacher.dim) == ((4, 4, 4), 48)
    latents = teacher(clips())
    assert latents.shape == (2, 64, 48)
    assert not latents.requires_grad


@pytest.mark.parametrize("family", ["videomae", "vjepa2", "dinov2"])
def test_the_layers_of_a_transformers_teacher_are_what_its_blocks_give(family, request):
    teacher = load_teacher(f"hf:{request.getfixturevalue(family)}", frames=8, size=64)
    seen = []
    blocks = next(m for m in teacher.model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == 2)
    blocks[0].register_forward_hook(lambda module, inputs, out: seen.append(out[0] if isinstance(out, tuple) else out))
    clip = clips()
    last = teacher(clip)
    (first,) = seen
    if family == "dinov2":  # of every frame, behind the class token
        first = first[:, 1:].unflatten(0, (2, 4, 2)).mean(2).flatten(1, 2)
    rows = DeepTeacher(teacher, (1, 2))(clip)
    torch.testing.assert_close(rows[:, ::2], first)
    torch.testing.assert_close(rows[:, 1::2], last)
    assert teacher_fingerprint(DeepTeacher(teacher, (1, 2))) == teacher_fingerprint(teacher)


@pytest.fixture(scope="module")
def dinov2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    config = Dinov2Config(
        image_size=56, patch_size=14, hidden_size=24, num_hidden_layers=2, num_attention_heads=2, use_mask_token=False
    )
    Dinov2Model(config).save_pretrained(folder)
    return folder


def test_an_encoder_of_images_teaches_the_mean_over_the_frames_of_each_token(dinov2):
    teacher = load_teacher(f"hf:{dinov2}", frames=8, size=64, patch=16, tubelet=4)
    assert isinstance(teacher, ImageTeacher)
    assert (teacher.grid, teacher.dim) == ((2, 4, 4), 24)
    clip = clips()
    model = Dinov2Model.from_pretrained(dinov2).eval()
    pixels = (clip / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    latents = teacher(clip)
    with torch.no_grad():
        for token in range(2):
            frames = pixels[1, 4 * token : 4 * token + 4].permute(0, 3, 1, 2)
            frames = interpolate(frames, (56, 56), mode="bilinear", antialias=True)  # 4 x 4 patches of 14
            expected = model(pixel_values=frames).last_hidden_state[:, 1:].mean(0)
            torch.testing.assert_close(latents[1, 16 * token : 16 * token + 16], expected, rtol=1e-4, atol=1e-4)


def test_an_encoder_of_images_that_no_grid_fits_is_refused(dinov2):
    with pytest.raises(ValueError, match=r"8 frames of 64 x 64 pixels .* 2 frames of 24 x 24"):
        load_teacher(f"hf:{dinov2}", frames=8, size=64, patch=24)


def test_caches_of_image_teachers_for_other_tokens_are_told_apart(dinov2):
    teachers = [load_teacher(f"hf:{dinov2}", frames=8, size=64, patch=16, tubelet=tubelet) for tubelet in (2, 4)]
    first, second = map(teacher_fingerprint, teachers)
    assert first["weights"] == second["weights"]
    assert first["teacher"] != second["teacher"]


def test_a_teacher_stays_frozen(videomae):
    teacher = load_teacher(f"hf:{videomae}", frames=8, size=64)
    teacher.train()
    torch.nn.Sequential(teacher).train()
    assert not any(module.training for module in teacher.modules())
    assert not any(p.requires_grad for p in teacher.parameters())
    own = EncoderTeacher(VideoViT(STUDENT))
    own.train()
    assert not any(module.training for module in own.modules())
    assert not own(clips()).requires_grad


def test_a_checkpoint_as_teacher(tmp_path):
    encoder = VideoViT(STUDENT)
    save_encoder(encoder, tmp_path / "student")
    clip = clips()
    for path in (tmp_path, tmp_path / "student"):
        teacher = load_teacher(f"checkpoint:{path}", frames=8, size=64)
        assert torch.equal(teacher(clip), encoder.eval()(clip))
    with pytest.raises(ValueError, match=r"8 frames of 64 pixels.* 16 of 64"):
        load_teacher(f"checkpoint:{tmp_path}", frames=16, size=64)
    with pytest.raises(FileNotFoundError, match="no encoder in"):
        load_teacher(f"checkpoint:{tmp_path}/nothing", frames=8, size=64)


def test_teachers_for_other_clips_are_refused(videomae, vjepa2):
    with pytest.raises(ValueError, match=r"8 frames of 64 x 64 pixels.* 16"):
        load_teacher(f"hf:{videomae}", frames=16, size=64)
    with pytest.raises(ValueError, match=r"set --data\.frames and --data\.size"):
        load_teacher(f"hf:{vjepa2}", frames=8, size=96)
    import dataclasses

    coarse = VideoViT(dataclasses.replace(STUDENT, patch=32))
    with pytest.raises(ValueError, match=r"\(4, 4, 4\).*\(4, 2, 2\)"):
        check_grids(load_teacher(f"hf:{videomae}", frames=8, size=64), coarse)


@pytest.mark.parametrize("source", ["pixels", "hf:", "checkpoint", "https://x"])
def test_unknown_sources_are_refused(source):
    with pytest.raises(ValueError, match="use pixel, checkpoint:PATH or hf:NAME_OR_DIR"):
        load_teacher(source, frames=8, size=64)


def test_other_model_families_are_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(ValueError, match=r"vit model.*VideoMAE and V-JEPA 2"):
        load_teacher(f"hf:{tmp_path}", frames=8, size=64)
