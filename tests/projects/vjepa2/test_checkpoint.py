"""A trained classifier comes back from its folder as it was, from no more than what was trained, or is refused."""

import json
import logging
import shutil
import threading
import time

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import VJEPA2Config, VJEPA2ForVideoClassification

from fastvid.files import write_whole
from fastvid.models import VideoViT, VideoViTConfig, save_encoder
from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.load import load
from fastvid.projects.vjepa2 import checkpoint as saved_classifier
from fastvid.projects.vjepa2.approach import LoraSettings, apply_approach, parameter_counts
from fastvid.projects.vjepa2.checkpoint import TrainedClassifier, load_classifier, save_classifier
from fastvid.projects.vjepa2.load import load_vjepa2
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.video import ViewSpec

APPROACHES = ["head", "pooler", "lora", "pooler+lora", "backbone-lora", "full"]
CLASSES = ("climb", "fall", "jump", "run")


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A checkpoint with a head for 7 classes and without a predictor, which is not used and not read again."""
    torch.manual_seed(1)
    config = VJEPA2Config(
        crop_size=32, frames_per_clip=4, hidden_size=48, num_hidden_layers=2, num_attention_heads=4,
        pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2, initializer_range=0.1, num_labels=7,
    )  # fmt: skip
    path = tmp_path_factory.mktemp("source")
    VJEPA2ForVideoClassification(config).save_pretrained(path)
    weights = load_file(path / "model.safetensors")
    kept = {name: weight for name, weight in weights.items() if not name.startswith("vjepa2.predictor.")}
    save_file(kept, path / "model.safetensors", metadata={"format": "pt"})
    return path


@pytest.fixture
def clip():
    return torch.randint(256, (3, 4, 32, 32, 3), dtype=torch.uint8)


def trained(source, approach, seed=2):
    """A model in which everything that is trained has moved."""
    model = load_vjepa2(str(source), classes=4)
    apply_approach(model, approach, LoraSettings(rank=4, alpha=6, dropout=0.25))
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def assert_same_logits(found, expected):
    """Equal but for rounding: with torch 2.11 the logits of equal weights differ by 2.4e-7, why is not known."""
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def about(source, **changes):
    views = ViewSpec(sampling="stride", stride=3, crop=changes.pop("crop", 1.0))
    return ClassifierMetadata(str(source), **{"classes": CLASSES, "views": views, **changes})


@pytest.fixture
def saved(source, tmp_path):
    """A folder with a classifier of the approach ``head``."""
    save_classifier(tmp_path / "saved", trained(source, "head"), about(source))
    return tmp_path / "saved"


def edit(folder, **changes):
    fields = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps({**fields, **changes}))


@pytest.mark.parametrize("approach", APPROACHES)
def test_what_is_loaded_is_what_was_saved(source, clip, tmp_path, approach):
    model = trained(source, approach).train()
    torch.manual_seed(5)
    written = save_classifier(tmp_path / "run" / "classifier", model, about(source, clips=2, crops=3, crop=0.875))
    state = torch.get_rng_state()
    loaded = load(tmp_path / "run")
    assert torch.equal(torch.get_rng_state(), state)
    assert isinstance(loaded, TrainedClassifier)
    with torch.no_grad():
        logits = loaded(clip)
        assert_same_logits(logits, model.eval()(clip))
        assert not torch.allclose(logits, trained(source, approach, seed=3).eval()(clip), atol=1e-2)
    assert loaded.about == written
    assert (written.approach, written.clips, written.crops) == (approach, 2, 3)
    assert written.lora == (LoraSettings(4, 6, 0.25) if "lora" in approach else None)
    assert loaded.classes == list(CLASSES)
    assert loaded.views == ViewSpec(frames=4, size=32, sampling="stride", stride=3, flip=0.0, crop=0.875)


@pytest.mark.parametrize("approach", APPROACHES)
def test_only_what_was_trained_is_written(source, tmp_path, approach):
    model = trained(source, approach)
    save_classifier(tmp_path, model, about(source))
    weights = load_file(tmp_path / "trained.safetensors")
    assert sum(weight.numel() for weight in weights.values()) == parameter_counts(model)[0]
    originals = load_file(source / "model.safetensors").keys()
    assert all(name in originals or ".lora_A.weight" in name or ".lora_B.weight" in name for name in weights)
    assert (tmp_path / "adapter").is_dir() == ("lora" in approach)


def test_peft_reads_the_adapter_beside_it(source, clip, tmp_path):
    model = trained(source, "lora").eval()
    save_classifier(tmp_path, model, about(source))
    base = VJEPA2ForVideoClassification.from_pretrained(source, num_labels=4, ignore_mismatched_sizes=True)
    loaded = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()
    pixels = (clip / 255 - torch.tensor(IMAGENET_MEAN)) / torch.tensor(IMAGENET_STD)
    with torch.no_grad():
        logits = loaded(pixel_values_videos=pixels.movedim(-1, -3)).logits
        torch.testing.assert_close(logits, model(clip), rtol=1e-4, atol=1e-4)


def test_it_is_for_use_only(saved, clip):
    classifier = load_classifier(saved).train()
    assert not any(module.training for module in classifier.modules())
    logits = classifier(clip)
    assert not logits.requires_grad
    assert torch.equal(classifier.probabilities(clip), logits.softmax(-1))
    config = classifier.model.hf.config
    assert config.id2label == {0: "climb", 1: "fall", 2: "jump", 3: "run"}
    assert config.label2id == {"climb": 0, "fall": 1, "jump": 2, "run": 3}
    with pytest.raises(ValueError, match=r"takes clips \[B, 4, 32, 32, 3\]"):
        classifier(clip[:, :2])
    with pytest.raises(ValueError, match=r"clips are uint8 \[B, T, H, W, 3\]; got torch\.float32 \[3, 4, 32, 32, 3\]"):
        classifier(clip.float())


def test_pixels_are_normalised_as_in_training(source, clip, tmp_path):
    model = trained(source, "head").eval()
    model.mean, model.std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    save_classifier(tmp_path, model, about(source))
    with torch.no_grad():
        assert torch.equal(load_classifier(tmp_path)(clip), model(clip))


def test_the_source_must_be_what_it_was(source, clip, tmp_path):
    there = tmp_path / "there"
    shutil.copytree(source, there)
    model = trained(there, "head").eval()
    save_classifier(tmp_path / "saved", model, about(there))
    elsewhere = there.rename(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="no model at"):
        load_classifier(tmp_path / "saved")
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "saved", source=str(elsewhere))(clip), model(clip))
    weights = load_file(elsewhere / "model.safetensors")
    weights["vjepa2.encoder.layer.1.mlp.fc1.bias"][3] += 1e-3
    save_file(weights, elsewhere / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"elsewhere"):
        load_classifier(tmp_path / "saved", source=str(elsewhere))


def test_a_relative_source_is_found_from_everywhere(source, tmp_path, monkeypatch):
    monkeypatch.chdir(source.parent)
    save_classifier(tmp_path / "saved", trained(source.name, "head"), about(source.name))
    monkeypatch.chdir(tmp_path)
    load_classifier(tmp_path / "saved")


def test_a_tiny_model_is_drawn_again(tmp_path):
    model = load_vjepa2(init="tiny", classes=4, frames=4, size=32, init_seed=6, head_seed=9).eval()
    apply_approach(model, "head")
    save_classifier(tmp_path, model, ClassifierMetadata("tiny", CLASSES, init="tiny", init_seed=6))
    clip = torch.randint(256, (2, 4, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        assert torch.equal(load_classifier(tmp_path)(clip), model(clip))
    edit(tmp_path, init_seed=7)
    with pytest.raises(ValueError, match="init_seed 7"):
        load_classifier(tmp_path)


def test_frozen_weights_are_hashed_once(source, tmp_path, monkeypatch):
    model = trained(source, "head")
    first = save_classifier(tmp_path, model, about(source))
    monkeypatch.setattr(saved_classifier, "tensors_hash", lambda tensors: pytest.fail("hashed again"))
    with torch.no_grad():
        model.hf.classifier.bias += 1
    second = save_classifier(tmp_path, model, first)
    assert second.frozen == first.frozen
    assert second.trained != first.trained


def test_a_reader_waits_for_a_writer(source, saved, clip, tmp_path):
    model = trained(source, "pooler", seed=4).eval()
    save_classifier(tmp_path / "new", model, about(source))

    def finish():
        time.sleep(0.15)
        write_whole(saved / "classifier.json", (tmp_path / "new" / "classifier.json").read_bytes())

    write_whole(saved / "trained.safetensors", (tmp_path / "new" / "trained.safetensors").read_bytes())
    writer = threading.Thread(target=finish)
    writer.start()
    with torch.no_grad():
        assert_same_logits(load_classifier(saved)(clip), model(clip))
    writer.join()


def test_a_writing_that_was_cut_off_is_refused_and_done_again(source, saved, clip, monkeypatch):
    model = trained(source, "pooler", seed=4).eval()

    def write(path, content):
        if path.name == "classifier.json":
            raise KeyboardInterrupt
        write_whole(path, content)

    monkeypatch.setattr(saved_classifier, "write_whole", write)
    with pytest.raises(KeyboardInterrupt):
        save_classifier(saved, model, about(source))
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"classifier\.json"):
        load_classifier(saved)
    save_classifier(saved, model, about(source))
    with torch.no_grad():
        assert_same_logits(load_classifier(saved)(clip), model(clip))


def test_damaged_files_are_refused(saved, tmp_path):
    whole = (saved / "trained.safetensors").read_bytes()
    for damaged in (whole[:-1], whole[:-4] + b"\1\2\3\4"):
        (saved / "trained.safetensors").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"classifier\.json .* damaged"):
            load_classifier(saved)
    (saved / "trained.safetensors").write_bytes(whole)
    text = (saved / "classifier.json").read_text()
    for damaged, complaint in (
        (text[:100], "is damaged: "),
        ("[]", "is damaged: it is no JSON object"),
        (text.replace('"version": 1', '"version": 2'), "has version 2, and this fastvid reads version 1: use the fast"),
        (text.replace('"stride"', '"speed"', 1), "is damaged: ViewSpec: sampling must be span, stride or fps"),
        (text.replace(' "stride":', ' "step":'), "has fields that this version does not know: step"),
        (text.replace(' "crops": 1,', ""), "is damaged: it lacks crops"),
        (text.replace(' "frames": 4', ' "frames": "4"'), "is damaged: frames is '4'"),
        (text.replace('"climb"', '"zoom"'), "is damaged: classes .* sorted; got z"),
        (text.replace('"approach": "head"', '"approach": "neck"'), "unknown approach 'neck'"),
        (text.replace('"approach": "head"', '"approach": "pooler"'), r"63 missing \(pooler.*not those of the approach"),
        (text.replace('"climb",', ""), r"classifier\.json names 3 classes, and the weights are for 4"),
        (text.replace('"vjepa2"', '"salt"'), "a classifier of the project 'salt'; this reads those of vjepa2"),
    ):
        assert damaged != text, complaint
        (saved / "classifier.json").write_text(damaged)
        with pytest.raises(ValueError, match=complaint):
            load_classifier(saved)
    (saved / "classifier.json").write_text(text)
    load_classifier(saved)
    for name in ("classifier.json", "trained.safetensors"):
        copy = tmp_path / f"without {name}"
        shutil.copytree(saved, copy)
        (copy / name).unlink()
        with pytest.raises(FileNotFoundError, match=f"no classifier in .*: {name} is missing"):
            load_classifier(copy)


def test_what_cannot_be_saved_says_why(source, tmp_path):
    model = load_vjepa2(str(source), classes=4)
    with pytest.raises(ValueError, match="this model has no approach"):
        save_classifier(tmp_path, model, about(source))
    apply_approach(model, "head")
    with pytest.raises(ValueError, match=r"3 classes .* 4"):
        save_classifier(tmp_path, model, about(source, classes=CLASSES[:3]))
    with pytest.raises(ValueError, match=r"float32.*torch\.bfloat16"):
        save_classifier(tmp_path, model.to(torch.bfloat16), about(source))
    assert not list(tmp_path.iterdir())
    for wrong in ({"classes": ("b", "a")}, {"classes": ("a", "a")}, {"classes": ("a",)}):
        with pytest.raises(ValueError, match="sorted"):
            about(source, **wrong)
    with pytest.raises(ValueError, match=r"clips >= 1 and 1 or 3 crops; got 1 and 2"):
        about(source, crops=2)


def test_runs(saved, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(FileNotFoundError, match=r"no run in .*: there is no such folder"):
        load(run)
    run.mkdir()
    with pytest.raises(FileNotFoundError, match="holds neither a run nor a saved model"):
        load(run)
    (run / "config.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"has saved no model so far$"):
        load(run)
    encoder = VideoViT(VideoViTConfig("vit_tiny_patch16_224", frames=4, size=32, width=48, depth=1, heads=2))
    save_encoder(encoder, run / "teacher")
    with pytest.raises(FileNotFoundError, match=r"so far; its teacher is there: load_encoder\('.*run/teacher'\)"):
        load(run)
    save_encoder(encoder, run / "student")
    clip = torch.randint(256, (1, 4, 32, 32, 3), dtype=torch.uint8)
    for folder in (run, run / "student"):
        found = load(folder)
        assert isinstance(found.encoder, VideoViT)
        assert not found.training
        assert torch.equal(found(clip), encoder.eval()(clip))
    shutil.copytree(saved, run / "classifier")
    assert load(run).classes == list(CLASSES)


def test_what_is_drawn_depends_on_its_seeds_alone(source):
    def state(**arguments):
        model = load_vjepa2(init="tiny", **{"classes": 4, "frames": 4, "size": 32, **arguments}).hf.state_dict()
        head = [model.pop("classifier.weight"), model.pop("classifier.bias")]
        return torch.cat([weight.flatten() for weight in model.values()]), head[0]

    before = torch.get_rng_state()
    body, head = state()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    again, same_head = state(classes=4)
    assert torch.equal(body, again)
    assert torch.equal(head, same_head)
    other, other_head = state(head_seed=1)
    assert torch.equal(body, other)
    assert not torch.equal(head, other_head)
    assert torch.equal(body, state(classes=9)[0])
    assert not torch.equal(body, state(init_seed=1)[0])

    def head_of(**arguments):
        return load_vjepa2(str(source), classes=4, **arguments).hf.classifier.weight

    before = torch.get_rng_state()
    assert torch.equal(head_of(), head_of())
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(head_of(), head_of(head_seed=1))


def test_a_head_that_is_to_be_kept(source, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    kept = load_vjepa2(str(source), classes=7, keep_head=True).hf.classifier.weight
    assert torch.equal(kept, load_file(source / "model.safetensors")["classifier.weight"])
    with pytest.raises(ValueError, match=r"7 classes.* 4"):
        load_vjepa2(str(source), classes=4, keep_head=True)
    assert "is drawn" not in caplog.text
    weights = load_file(source / "model.safetensors")
    del weights["classifier.weight"], weights["classifier.bias"]
    shutil.copytree(source, tmp_path / "headless")
    save_file(weights, tmp_path / "headless" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"without a head.* 7"):
        load_vjepa2(str(tmp_path / "headless"), classes=7, keep_head=True)
    with pytest.raises(ValueError, match="tiny"):
        load_vjepa2(init="tiny", classes=4, keep_head=True)
