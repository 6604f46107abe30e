"""``python -m fastvid.export``: transformers and peft alone open what it writes, and compute the same."""

import json

import pytest
import torch
from peft import PeftModel
from transformers import AutoVideoProcessor, VJEPA2ForVideoClassification, VJEPA2VideoProcessor

from fastvid.export import main
from fastvid.projects.vjepa2.approach import apply_approach
from fastvid.projects.vjepa2.checkpoint import load_classifier, save_classifier
from fastvid.projects.vjepa2.export import export
from fastvid.projects.vjepa2.load import load_vjepa2
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.video import ViewSpec, decode, decode_view, probe
from tests.projects.hub_server import TOKEN, HubServer
from tests.video.clips import encode

APPROACHES = ["head", "pooler", "lora", "pooler+lora", "backbone-lora", "full"]
CLASSES = ("left", "right", "still")
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def make_run(folder, approach, crop=1.0):
    """A finished run of a tiny model in which everything that is trained has moved."""
    model = load_vjepa2(init="tiny", classes=3, frames=4, size=32)
    model.mean, model.std = MEAN, STD
    apply_approach(model, approach)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    views = ViewSpec(sampling="stride", stride=3, crop=crop)
    save_classifier(folder / "classifier", model, ClassifierMetadata("tiny", CLASSES, init="tiny", views=views))
    return folder


def pixels(clip):
    """uint8 [B, T, H, W, 3] -> float32 [B, T, 3, H, W], as transformers takes them."""
    return ((clip / 255 - torch.tensor(MEAN)) / torch.tensor(STD)).movedim(-1, -3)


@pytest.fixture
def clip():
    return torch.randint(256, (5, 4, 32, 32, 3), dtype=torch.uint8)


@pytest.mark.parametrize("approach", APPROACHES)
def test_transformers_alone_computes_the_same_logits(tmp_path, clip, approach, capsys):
    run = make_run(tmp_path / "run", approach)
    assert main([str(run), "--to", "hf", "--out", str(tmp_path / "hf")]) == 0
    assert f"written to {tmp_path / 'hf'}" in capsys.readouterr().out
    model = VJEPA2ForVideoClassification.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        expected = load_classifier(run / "classifier")(clip)
        found = model(pixel_values_videos=pixels(clip)).logits
        assert expected.std() > 0.1
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=2e-5)
    assert model.config.id2label == {0: "left", 1: "right", 2: "still"}
    assert model.config.label2id == {"left": 0, "right": 1, "still": 2}
    assert "fastvid" not in (tmp_path / "hf" / "config.json").read_text()


@pytest.mark.parametrize("crop", [1.0, 0.5])
def test_the_processor_shows_what_the_evaluation_saw(tmp_path, crop):
    classifier = load_classifier(make_run(tmp_path / "run", "head", crop=crop) / "classifier")
    export(classifier, tmp_path / "hf")
    data = encode(12, coloured=True)  # 64 pixels high: whole numbers of them per pixel
    info = probe(data)
    view = classifier.views.center("", info)
    expected = pixels(torch.from_numpy(decode_view(data, view, info=info))[None])
    video = decode(data, view.frames, info=info)
    found = AutoVideoProcessor.from_pretrained(tmp_path / "hf")(video, return_tensors="pt")
    assert found.keys() == {"pixel_values_videos"}
    assert found["pixel_values_videos"].shape == expected.shape == (1, 4, 3, 32, 32)
    # In shades of 255: rounded in another place, and at the border what is cropped off later shines in.
    difference = (found["pixel_values_videos"] - expected).abs() * torch.tensor(STD).view(3, 1, 1) * 255
    assert difference.max() <= 2.01
    assert difference.mean() < 0.5
    own = VJEPA2VideoProcessor.from_pretrained(tmp_path / "hf")
    assert (tuple(own.image_mean), tuple(own.image_std)) == (MEAN, STD)
    assert own(video, return_tensors="pt")["pixel_values_videos"].shape == expected.shape


def test_peft_opens_the_adapters(tmp_path, clip):
    run = make_run(tmp_path / "run", "lora")
    assert main([str(run), "--to", "peft", "--out", str(tmp_path / "peft")]) == 0
    base = load_vjepa2(init="tiny", classes=3, frames=4, size=32, head_seed=5).hf
    model = PeftModel.from_pretrained(base, tmp_path / "peft").eval()
    with torch.no_grad():
        expected = load_classifier(run / "classifier")(clip)
        torch.testing.assert_close(model(pixel_values_videos=pixels(clip)).logits, expected, rtol=1e-5, atol=2e-5)
    code = (tmp_path / "peft" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    shown: dict = {}
    exec(code.replace("FOLDER", repr(str(tmp_path / "peft"))), shown)
    with torch.no_grad():
        answer = shown["model"](pixel_values_videos=pixels(clip)).logits
    torch.testing.assert_close(answer, expected, rtol=1e-5, atol=2e-5)


def test_peft_is_refused_without_adapters_and_said_to_lack_the_pooler(tmp_path, capsys):
    run = make_run(tmp_path / "run", "pooler")
    assert main([str(run), "--to", "peft", "--out", str(tmp_path / "peft")]) == 2
    assert capsys.readouterr().err.startswith("the approach 'pooler' has no LoRA adapters: export it to hf")
    assert not (tmp_path / "peft").exists()
    both = make_run(tmp_path / "both", "pooler+lora")
    assert main([str(both), "--to", "peft", "--out", str(tmp_path / "peft")]) == 0
    assert "the trained pooler is not among peft's weights" in capsys.readouterr().err
    assert "The trained pooler is not among these weights" in (tmp_path / "peft" / "README.md").read_text()


def test_the_model_card(tmp_path, capsys):
    run = make_run(tmp_path / "run", "lora")
    assert main([str(run), "--out", str(tmp_path / "without")]) == 0
    assert "Accuracy" not in (tmp_path / "without" / "README.md").read_text()
    scores = {"accuracy": 0.8, "low": 0.7441, "high": 0.8459, "correct": 192, "total": 240}
    (run / "result.json").write_text(json.dumps({"val": {**scores, "accuracy": 0.85}, "test": scores}))
    for given in (run, run / "classifier"):
        out = tmp_path / f"from {given.name}"
        assert main([str(given), "--out", str(out)]) == 0
        card = (out / "README.md").read_text()
        assert "| test | 0.8000 | 0.7441 to 0.8459 | 240 |" in card
        assert "| val | 0.8500 |" in card
    assert "# V-JEPA 2 classifier of 3 classes" in card
    assert "LoRA adapters in the attentive pooler, and the head (rank 16, alpha 32, dropout 0.1)." in card
    assert (
        "A clip is 4 frames of 32 x 32 pixels, one frame in 3.\nOf each frame it shows the largest centred square."
        in card
    )
    assert "0. left\n1. right\n2. still\n" in card
    assert str(tmp_path) not in card
    for damaged, complaint in (("{", "is damaged"), ('{"test": {}}', "is not that of a finished run: KeyError")):
        (run / "result.json").write_text(damaged)
        capsys.readouterr()
        assert main([str(run), "--out", str(tmp_path / "no")]) == 2
        assert complaint in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_nothing_of_the_users_is_written_over(tmp_path, capsys):
    run, out = make_run(tmp_path / "run", "lora"), tmp_path / "out"
    out.mkdir()
    assert main([str(run), "--out", str(out)]) == 0  # empty
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {(out / "README.md").stat().st_mode & 0o777}
    before = (out / "config.json").stat().st_ino
    assert main([str(run), "--out", str(out)]) == 2
    assert "is not empty: give a new folder, or --overwrite to replace an earlier export" in capsys.readouterr().err
    assert (out / "config.json").stat().st_ino == before
    assert main([str(run), "--out", str(out), "--to", "peft", "--overwrite"]) == 0
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == names
    (out / "thesis.tex").write_text("mine")
    assert main([str(run), "--out", str(out), "--overwrite"]) == 2
    assert "holds other files than an export's, such as 'thesis.tex'" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir()) == [*names, "thesis.tex"]
    assert main([str(run), "--out", str(out / "thesis.tex")]) == 2
    assert "thesis.tex is a file: give a new folder" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]


def test_an_export_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    classifier = load_classifier(make_run(tmp_path / "run", "head") / "classifier")
    export(classifier, tmp_path / "out")
    weights = (tmp_path / "out" / "model.safetensors").read_bytes()

    def full(path, content):
        raise OSError("No space left on device")

    monkeypatch.setattr("fastvid.projects.vjepa2.export.write_whole", full)
    for folder, options in ((tmp_path / "new", {}), (tmp_path / "out", {"overwrite": True})):
        with pytest.raises(OSError, match="No space left"):
            export(classifier, folder, **options)
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == weights
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "run"]
    with pytest.raises(ValueError, match="no such form 'onnx': use hf or peft"):
        export(classifier, tmp_path / "new", "onnx")


def test_a_classifier_is_pushed_to_the_hub_too(tmp_path, monkeypatch, capsys):
    run, out = make_run(tmp_path / "run", "head"), tmp_path / "hf"
    with HubServer() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert main([str(run), "--out", str(out), "--push", "ada/classifier"]) == 0
        assert f"pushed to {hub.url}/ada/classifier" in capsys.readouterr().out
        assert hub.repositories["ada/classifier"].keys() == {path.name for path in out.iterdir()}
        assert not hub.private


def test_without_a_classifier(tmp_path, capsys):
    assert main([str(tmp_path / "none"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == f"no run in {tmp_path}/none: there is no such folder\n"
    assert not (tmp_path / "out").exists()
