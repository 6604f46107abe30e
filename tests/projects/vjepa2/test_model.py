"""V-JEPA 2 classifiers: fastvid's are transformers' own function, and files go back and forth unchanged."""

import json
import logging

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import VideoMAEConfig, VJEPA2Config, VJEPA2ForVideoClassification, VJEPA2Model

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.vjepa2.load import load_vjepa2
from fastvid.projects.vjepa2.model import VJepa2Classifier

CLASSES = 40


def tiny(**changes):
    fields = {
        "crop_size": 32, "frames_per_clip": 4, "hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "pred_hidden_size": 24, "pred_num_hidden_layers": 1, "pred_num_attention_heads": 2, "initializer_range": 0.1,
        "num_labels": CLASSES,
    }  # fmt: skip
    return VJEPA2Config(**{**fields, **changes})


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A checkpoint none of whose weights is 0 or 1."""
    torch.manual_seed(1)
    model = VJEPA2ForVideoClassification(tiny())
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("vjepa2")
    model.save_pretrained(path)
    return path


def clips(batch=3, frames=4, size=32):
    return torch.randint(256, (batch, frames, size, size, 3), dtype=torch.uint8)


def normalized(clip, dtype=torch.float32, mean=IMAGENET_MEAN, std=IMAGENET_STD):
    """uint8 [B, T, H, W, 3] -> [B, T, 3, H, W], as video processors do."""
    compute = torch.float64 if dtype == torch.float64 else torch.float32
    mean, std = (torch.tensor(x, dtype=compute) for x in (mean, std))
    return ((clip.to(compute) / 255 - mean) / std).movedim(-1, -3).to(dtype)


def original_logits(folder, clip, dtype):
    model = VJEPA2ForVideoClassification.from_pretrained(folder).eval().to(dtype)
    return model(normalized(clip, dtype)).logits


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@torch.no_grad()
def test_logits_are_no_further_from_the_truth_than_the_originals(folder, dtype):
    clip = clips(batch=8)
    ours = load_vjepa2(str(folder), classes=CLASSES).eval().to(dtype)(clip)
    theirs = original_logits(folder, clip, dtype)
    assert ours.dtype == dtype
    # The truth of the weights as rounded to dtype: errors are those of the arithmetic alone.
    exact = VJEPA2ForVideoClassification.from_pretrained(folder).eval().to(dtype).double()
    truth = exact(normalized(clip, torch.float64)).logits
    error, allowed = ((x.double() - truth).square().mean().sqrt().item() for x in (ours, theirs))
    assert 0 < error <= 2 * allowed
    assert allowed < 0.05 * truth.std()  # and the truth is not lost in rounding


@torch.no_grad()
def test_logits_under_autocast(folder):
    clip = clips(batch=8)
    model = load_vjepa2(str(folder), classes=CLASSES).eval()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours, theirs = model(clip), model.hf(normalized(clip)).logits
    truth = original_logits(folder, clip, torch.float64)
    error, allowed = ((x.double() - truth).square().mean().sqrt().item() for x in (ours, theirs))
    assert 0 < error <= 2 * allowed


def test_every_gradient_is_the_originals(folder):
    clip = clips()
    model = load_vjepa2(str(folder), classes=CLASSES).train()
    model(clip).square().sum().backward()
    original = VJEPA2ForVideoClassification.from_pretrained(folder).train()
    original(normalized(clip)).logits.square().sum().backward()
    expected = dict(original.named_parameters())
    assert dict(model.hf.named_parameters()).keys() == expected.keys()
    for name, parameter in model.hf.named_parameters():
        if name.startswith("vjepa2.predictor"):
            assert parameter.grad is None
            continue
        if name.endswith(".k_proj.bias"):  # one number for all scores of a query: the gradient is rounding
            assert parameter.grad.abs().max() < 1e-5 * model.hf.pooler.query_tokens.grad.abs().max()
            continue
        wanted = expected[name].grad
        torch.testing.assert_close(
            parameter.grad, wanted, rtol=1e-4, atol=2e-5 * wanted.abs().max().item(), msg=lambda m, n=name: n + m
        )


@torch.no_grad()
def test_the_two_halves_are_the_whole(folder):
    model, clip = load_vjepa2(str(folder), classes=CLASSES).eval(), clips()
    features = model.features(clip)
    assert features.shape == (3, 8, 48)
    assert model.grid == (2, 2, 2)
    assert model.dim == 48
    assert model.pool(features).shape == (3, 48)
    assert torch.equal(model.classify(features), model(clip))
    torch.testing.assert_close(features, model.hf.vjepa2(normalized(clip), skip_predictor=True).last_hidden_state)


def test_what_is_saved_is_the_original(folder, tmp_path):
    model = load_vjepa2(str(folder), classes=CLASSES)
    model.hf.save_pretrained(tmp_path)
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path))
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_pixels_are_normalised_by_the_checkpoints_own_processor(folder, tmp_path):
    model = VJEPA2ForVideoClassification.from_pretrained(folder).eval()
    model.save_pretrained(tmp_path)
    statistics = {"image_mean": [0.5] * 3, "image_std": [0.25] * 3}
    (tmp_path / "video_preprocessor_config.json").write_text(json.dumps(statistics))
    clip = clips()
    with torch.no_grad():
        expected = model(normalized(clip, mean=[0.5] * 3, std=[0.25] * 3)).logits
        torch.testing.assert_close(load_vjepa2(str(tmp_path), classes=CLASSES).eval()(clip), expected)


def test_the_head_is_drawn_anew_for_another_number_of_classes(folder, caplog):
    caplog.set_level(logging.INFO)
    model = load_vjepa2(str(folder), classes=5)
    assert f"has a head for {CLASSES} classes: a new one for 5 is drawn" in caplog.text
    assert model(clips()).shape == (3, 5)
    assert len(model.hf.config.id2label) == 5
    assert 0.05 < model.hf.classifier.weight.std() < 0.2
    assert not model.hf.classifier.bias.any()
    original = VJEPA2ForVideoClassification.from_pretrained(folder).state_dict()
    for name, value in model.hf.state_dict().items():
        assert name.startswith("classifier.") or torch.equal(value, original[name])


def test_a_checkpoint_without_head_or_predictor_is_enough(folder, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    weights = load_file(folder / "model.safetensors")
    kept = {name: w for name, w in weights.items() if not name.startswith(("classifier.", "vjepa2.predictor."))}
    assert 0 < len(kept) < len(weights)
    tiny().save_pretrained(tmp_path)
    save_file(kept, tmp_path / "model.safetensors", metadata={"format": "pt"})
    model = load_vjepa2(str(tmp_path), classes=CLASSES)
    assert f"comes without a head: a new one for {CLASSES} is drawn" in caplog.text
    assert model.hf.classifier.weight.std() > 0
    clip = clips()
    assert torch.equal(model.features(clip), load_vjepa2(str(folder), classes=CLASSES).features(clip))


def test_other_clip_lengths_and_sizes(folder):
    model = load_vjepa2(str(folder), classes=CLASSES, frames=6, size=48).eval()
    assert model.grid == (3, 3, 3)
    clip = clips(frames=6, size=48)
    with torch.no_grad():
        torch.testing.assert_close(model(clip), model.hf(normalized(clip)).logits, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match=r"takes clips \[B, 6, 48, 48, 3\]; got \[3, 4, 32, 32, 3\]"):
        model(clips())
    with pytest.raises(ValueError, match=r"5 frames of 32 x 32 .* 2 x 16 x 16"):
        load_vjepa2(str(folder), classes=CLASSES, frames=5)


def test_random_weights():
    model = load_vjepa2(init="tiny", classes=4, frames=8)
    assert model.grid == (4, 4, 4)
    logits = model(clips(frames=8, size=64))
    assert logits.shape == (3, 4)
    assert sum(p.numel() for p in model.parameters()) < 600_000
    assert isinstance(model, VJepa2Classifier)


def test_models_that_cannot_be_opened_say_why(folder, tmp_path):
    with pytest.raises(OSError, match=r"no model at '/no/such/place': it must be a folder with config\.json"):
        load_vjepa2("/no/such/place", classes=4)
    with pytest.raises(ValueError, match="at least 2 classes, got 1"):
        load_vjepa2(str(folder), classes=1)
    with pytest.raises(ValueError, match="unknown init 'small': use pretrained or tiny"):
        load_vjepa2(init="small", classes=4)
    VideoMAEConfig().save_pretrained(tmp_path / "videomae")
    with pytest.raises(ValueError, match=r"videomae model.*V-JEPA 2"):
        load_vjepa2(str(tmp_path / "videomae"), classes=4)
    tiny().save_pretrained(tmp_path / "bare")
    with pytest.raises(FileNotFoundError, match=r"no model\.safetensors at .*bare': only safetensors are read"):
        load_vjepa2(str(tmp_path / "bare"), classes=4)
    VJEPA2Model(tiny()).save_pretrained(tmp_path / "encoder")
    with pytest.raises(ValueError, match=r"\d+ missing \(pooler\..*use a fine-tuned V-JEPA 2 classifier"):
        load_vjepa2(str(tmp_path / "encoder"), classes=4)
    other = tmp_path / "other"
    VJEPA2ForVideoClassification(tiny(hidden_size=96)).save_pretrained(other)
    tiny().save_pretrained(other)
    with pytest.raises(
        ValueError, match=r"\d+ of another shape \(classifier\.weight is \[40, 96\] instead of \[40, 48\]"
    ):
        load_vjepa2(str(other), classes=4)
    (other / "model.safetensors").write_bytes((other / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        load_vjepa2(str(other), classes=4)


def test_code_of_the_source_is_never_executed(tmp_path):
    code = tmp_path / "evil.py"
    code.write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    config = {"model_type": "theirs", "auto_map": {"AutoConfig": "evil.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="transformers"):
        load_vjepa2(str(tmp_path), classes=4)
    assert not (tmp_path / "ran").exists()
