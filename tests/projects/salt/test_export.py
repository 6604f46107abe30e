"""Exported encoders: transformers or timm alone opens the folder, and computes the same."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForVideoClassification,
    AutoVideoProcessor,
    VideoMAEForVideoClassification,
    VideoMAEImageProcessor,
    VideoMAEModel,
)

from fastvid.export import main
from fastvid.models import VideoViT, VideoViTConfig, save_encoder
from fastvid.projects.load import load
from fastvid.projects.salt.export import export
from fastvid.projects.salt.hf import modeling_video_vit
from fastvid.projects.salt.model_card import model_card
from fastvid.video import decode, decode_view, probe
from tests.video.clips import encode

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
SHAPE = {"frames": 4, "size": 32, "width": 48, "depth": 2, "heads": 3, "mean": MEAN, "std": STD}


@pytest.fixture(autouse=True)
def _own_modules(monkeypatch, tmp_path):
    """Code beside a model's weights is copied into this folder, and imported from it."""
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", list(sys.path))


def make_run(folder, positions="sinusoid", name="vit_tiny_patch16_224", **options):
    """A run with a saved student of which every weight has moved, biases of keys too."""
    encoder = VideoViT(VideoViTConfig(name, positions=positions, **{**SHAPE, **options}))
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    save_encoder(encoder, folder / "student")
    return folder


def clips(seed=0, frames=4):
    return torch.randint(256, (2, frames, 32, 32, 3), generator=torch.Generator().manual_seed(seed)).to(torch.uint8)


def pixels(clip):
    """uint8 [B, T, H, W, 3] -> float64 [B, T, 3, H, W], as transformers takes them."""
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (MEAN, STD))
    return ((clip.double() / 255 - mean) / std).movedim(-1, -3)


@torch.no_grad()
def tokens(run):
    """The encoder's tokens, in float64."""
    return load(run).encoder.double()(clips())


@torch.no_grad()
def test_transformers_alone_opens_a_videomae_model_with_equal_features(tmp_path, capsys):
    run = make_run(tmp_path / "run")
    assert main([str(run), "--to", "hf", "--out", str(tmp_path / "hf")]) == 0
    assert f"written to {tmp_path / 'hf'}" in capsys.readouterr().out
    model, told = VideoMAEModel.from_pretrained(tmp_path / "hf", output_loading_info=True)
    assert not any(told[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert type(model) is VideoMAEModel
    expected = tokens(run)
    assert expected.std() > 0.5
    found = model.double().eval()(pixel_values=pixels(clips())).last_hidden_state
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
    assert not any("fastvid" in path.read_text() for path in (tmp_path / "hf").glob("*.json"))


@pytest.mark.parametrize("positions", ["sincos", "learned"])
@torch.no_grad()
def test_other_positions_are_opened_with_the_code_beside_them(tmp_path, positions):
    run = make_run(tmp_path / "run", positions)
    export(load(run), tmp_path / "hf")
    model = AutoModel.from_pretrained(tmp_path / "hf", trust_remote_code=True).double()
    expected = tokens(run)
    torch.testing.assert_close(model(pixels(clips())).last_hidden_state, expected, rtol=1e-12, atol=1e-12)
    assert ("positions" in dict(model.named_parameters())) == (positions == "learned")
    with pytest.raises(ValueError, match="trust_remote_code"):  # and not quietly as another model
        AutoConfig.from_pretrained(tmp_path / "hf", trust_remote_code=False)
    classifier = AutoModelForVideoClassification.from_pretrained(tmp_path / "hf", num_labels=3, trust_remote_code=True)
    out = classifier.double()(pixels(clips()), labels=torch.tensor([0, 2]))
    torch.testing.assert_close(out.logits, classifier.classifier(expected.mean(1)), rtol=1e-12, atol=1e-12)
    assert out.loss.isfinite()


def test_the_code_imports_nothing_of_fastvid():
    found = list(ast.walk(ast.parse(Path(modeling_video_vit.__file__).read_text())))
    names = [alias.name for node in found if isinstance(node, ast.Import) for alias in node.names]
    names += [node.module for node in found if isinstance(node, ast.ImportFrom)]
    assert {name.partition(".")[0] for name in names} == {"typing", "torch", "transformers"}


def test_transformers_fine_tunes_it(tmp_path):
    export(load(make_run(tmp_path / "run")), tmp_path / "hf")
    model = VideoMAEForVideoClassification.from_pretrained(tmp_path / "hf", num_labels=2, use_mean_pooling=True)
    weights = VideoMAEModel.from_pretrained(tmp_path / "hf").state_dict()
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.videomae.state_dict().items())
    optim = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(8):
        loss = model(pixel_values=pixels(clips()).float(), labels=torch.tensor([0, 1])).loss
        optim.zero_grad()
        loss.backward()
        optim.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_the_processors_show_what_the_evaluation_saw(tmp_path):
    trained = load(make_run(tmp_path / "run"))
    export(trained, tmp_path / "hf")
    data = encode(12, coloured=True)  # 64 pixels high: whole numbers of them per pixel
    info = probe(data)
    view = trained.views.center("", info)
    expected = pixels(torch.from_numpy(decode_view(data, view, info=info))[None]).float()
    video = decode(data, view.frames, info=info)
    of_images = VideoMAEImageProcessor.from_pretrained(tmp_path / "hf")(list(video), return_tensors="pt")
    of_videos = AutoVideoProcessor.from_pretrained(tmp_path / "hf")(video, return_tensors="pt")
    for found in (of_images["pixel_values"], of_videos["pixel_values"]):
        assert found.shape == expected.shape == (1, 4, 3, 32, 32)
        # In shades of 255: rounded in another place, and at the border what is cropped off later shines in.
        difference = (found - expected).abs() * torch.tensor(STD).view(3, 1, 1) * 255
        assert difference.max() <= 2.01
        assert difference.mean() < 0.5


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "aimv2_large_patch14_224"])
@torch.no_grad()
def test_timm_alone_gives_an_image_the_features_of_a_still_moment(tmp_path, name):
    run = make_run(tmp_path / "run", "sincos", name, patch=16)
    assert main([str(run), "--to", "timm", "--out", str(tmp_path / "timm")]) == 0
    config = json.loads((tmp_path / "timm" / "config.json").read_text())
    path = tmp_path / "timm" / "model.safetensors"
    model = timm.create_model(config["architecture"], checkpoint_path=path, num_classes=0, **config["model_args"])
    model = model.double().eval()
    image = clips(frames=1)
    middle = torch.arange(4, 8).expand(2, -1)  # of 2 x 2 x 2 tokens
    expected = load(run).encoder.double()(image.expand(-1, 4, -1, -1, -1), middle)
    found = model.forward_features(pixels(image)[:, 0])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)  # sums of weights are rounded once, to float32
    torch.testing.assert_close(model(pixels(image)[:, 0]), found.mean(1), rtol=1e-12, atol=1e-12)
    transform = timm.data.resolve_data_config({}, pretrained_cfg=config["pretrained_cfg"])
    assert [tuple(transform[name]) for name in ("mean", "std", "input_size")] == [MEAN, STD, (3, 32, 32)]


@pytest.mark.slow
@torch.no_grad()
def test_torch_alone_opens_a_program(tmp_path):
    run = make_run(tmp_path / "run", "learned")
    assert main([str(run), "--to", "pt2", "--out", str(tmp_path / "pt2")]) == 0
    found = torch.export.load(tmp_path / "pt2" / "model.pt2").module()(clips())
    torch.testing.assert_close(found, tokens(run).float(), rtol=1e-4, atol=1e-4)
    code = (tmp_path / "pt2" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    shown = {"FOLDER": str(tmp_path / "pt2"), "clips": clips().numpy()}
    exec(code, shown)
    assert torch.equal(shown["tokens"], found)


@pytest.mark.slow
@torch.no_grad()
def test_onnx_runtime_opens_a_model(tmp_path):
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    run = make_run(tmp_path / "run")
    assert main([str(run), "--to", "onnx", "--out", str(tmp_path / "onnx")]) == 0
    assert {path.name for path in (tmp_path / "onnx").iterdir()} == {"README.md", "model.onnx"}
    code = (tmp_path / "onnx" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    shown = {"FOLDER": str(tmp_path / "onnx"), "clips": clips().numpy()}
    exec(code, shown)
    torch.testing.assert_close(torch.from_numpy(shown["tokens"]), tokens(run).float(), rtol=1e-4, atol=1e-4)


def test_onnx_is_asked_for_where_it_lacks(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("fastvid.projects.salt.export_graph.importlib.util.find_spec", lambda name: None)
    assert main([str(make_run(tmp_path / "run")), "--to", "onnx", "--out", str(tmp_path / "onnx")]) == 2
    assert capsys.readouterr().err == "--to onnx needs onnx: pip install 'fastvid[onnx]'\n"
    assert not (tmp_path / "onnx").exists()


@torch.no_grad()
def test_a_layer_scale_becomes_part_of_the_weights(tmp_path):
    run = make_run(tmp_path / "run", name="vit_small_patch14_reg4_dinov2", patch=16)
    assert any("gamma" in name for name in load(run).state_dict())
    export(load(run), tmp_path / "hf")
    found = VideoMAEModel.from_pretrained(tmp_path / "hf").double().eval()(pixel_values=pixels(clips()))
    torch.testing.assert_close(found.last_hidden_state, tokens(run), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("vit_small_patch16_18x2_224", "blocks of another kind (ParallelThingsBlock)"),
        ("aimv2_large_patch14_224", "a norm behind its patch embedding"),
        ("vit_pwee_patch16_reg1_gap_256", "blocks of another kind (ParallelScalingBlock)"),
    ],
)
def test_what_videomae_lacks_is_named(tmp_path, capsys, name, part):
    run = make_run(tmp_path / "run", name=name, patch=16)
    assert main([str(run), "--out", str(tmp_path / "hf")]) == 2
    assert capsys.readouterr().err == f"{name} has {part}, which transformers' VideoMAE lacks: use --to timm\n"
    assert not (tmp_path / "hf").exists()


@pytest.fixture
def told(tmp_path):
    """A run with settings and probes, and a teacher."""
    run = make_run(tmp_path / "somebody" / "run", "sincos")
    make_run(tmp_path / "other", "sincos")
    (tmp_path / "other" / "student").rename(run / "teacher")
    optim = {"steps": 8, "batch": 4, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 0.01}
    stage = {"optim": optim, "mask": {"specs": ["multiblock", "tube"], "ratio": 0.75}, "loss": {"kind": "l1"}}
    config = {
        "data": {"path": "/home/somebody/my videos", "sampling": "stride", "stride": 3, "fps": 4.0},
        "teacher": {**stage, "source": "pixel", "optim": {**optim, "steps": 5}},
        **stage,
        "run": {"precision": "float32", "seed": 3},
    }
    row = {name: {"accuracy": 0.5, "low": 0.4, "high": 0.6} for name in ("knn", "linear")}
    row["order"] = {"accuracy": 0.25, "low": 0.2, "high": 0.3, "chance": 1 / 6}
    probe = {"classes": ["a", "b"], "train": 9, "test": 7, "chance": 0.5, "rows": [{"encoder": "student", **row}]}
    (run / "config.json").write_text(json.dumps(config))
    (run / "probe.json").write_text(json.dumps(probe))
    return run


def test_the_model_card(told, tmp_path, capsys):
    cards = {}
    for form, given in (("hf", told), ("timm", told / "student"), ("hf", told / "teacher")):
        out = tmp_path / f"{form} {given.name}"
        assert main([str(given), "--to", form, "--out", str(out)]) == 0
        cards[out.name] = (out / "README.md").read_text()
        for path in out.iterdir():
            assert b"somebody" not in path.read_bytes()
            assert str(tmp_path).encode() not in path.read_bytes()
    student, image, teacher = cards.values()
    assert "A clip is 4 frames of 32 x 32 pixels, one in 3; of each frame the largest centred square." in student
    assert "It becomes 2 x 2 x 2 tokens of width 48, normalised." in student
    assert "2 classes, 7 test videos. Chance: knn 50 %, linear 50 %, order 17 %." in student
    assert "| frozen encoder | knn, % | linear, % | order, % |\n|---|---|---|---|\n" in student
    assert "| student | 50.0 [40.0, 60.0] | 50.0 [40.0, 60.0] | 25.0 [20.0, 30.0] |" in student
    assert "| masks | multiblock, tube, 0.75 of the tokens |\n| loss | l1 |\n| optimizer steps | 8 |" in student
    assert "| data | my videos |\n| teacher | an encoder trained to paint hidden pixels, in the same run |" in student
    assert "# license: yours to choose" in student
    assert "trust_remote_code" in student
    assert "# An image encoder, pretrained on video" in image
    assert "library_name: timm" in image
    assert "to paint hidden pixels, as the teacher" in teacher
    assert "| optimizer steps | 5 |" in teacher
    (told / "probe.json").write_text("{}")
    assert main([str(told), "--out", str(tmp_path / "no")]) == 2
    assert "probe.json is not that of a finished run" in capsys.readouterr().err
    assert main([str(told), "--to", "peft", "--out", str(tmp_path / "no")]) == 2
    assert "an encoder is not exported to peft: use --to hf, timm, pt2 or onnx" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("https://bucket.example/shards?X-Amz-Signature=somebody", "shards"),
        ("https://somebody:somebody@bucket.example/shards/#somebody", "shards"),
        ("https://somebody@bucket.example", "bucket.example"),
        ("https://bucket.example/my shards?next=https://somebody/", "my shards"),
        ("/home/somebody/what?", "what?"),
    ],
)
def test_the_model_card_keeps_the_secrets_of_a_url(told, place, name):
    config = json.loads((told / "config.json").read_text())
    config["data"]["path"] = place
    (told / "config.json").write_text(json.dumps(config))
    card = model_card(load(told), "hf", told)
    assert f"| data | {name} |" in card
    assert "somebody" not in card


def test_the_model_card_says_what_was_predicted_and_how(told):
    config = json.loads((told / "config.json").read_text())
    config["data"]["scale"] = [0.3, 1.0]
    config["teacher"]["layers"] = [1, 2]
    config["loss"] |= {"context": 0.5, "context_warmup": [0.1, 0.25], "normalize_target": False, "variance": 0.2}
    (told / "config.json").write_text(json.dumps(config))
    student, teacher = (model_card(load(run), "hf", told) for run in (told, told / "teacher"))
    assert "| training crops | 0.3 to 1 of a frame's area |" in student
    assert "| teacher's blocks | 1, 2, the first is 1 |" in student
    assert "| loss | l1, targets not normalised |" in student
    assert "| loss on visible tokens | weight 0.5, rising from 10 % to 25 % of the steps |" in student
    assert "| penalties | variance 0.2 |" in student
    assert "| loss | l1 |" in teacher
    assert "blocks |" not in teacher
    assert "visible tokens" not in teacher


def test_the_model_card_names_teachers_of_the_hub_only(told, monkeypatch):
    (told / "models" / "dinov2").mkdir(parents=True)
    monkeypatch.chdir(told)
    config = json.loads((told / "config.json").read_text())
    local = ("hf:~/models/dinov2", "hf:./dinov2", "hf:../dinov2", "hf:models/dinov2", "hf:/m/dinov2", "checkpoint:m")
    for source, said in (("hf:facebook/dinov2-small", "facebook/dinov2-small"), *dict.fromkeys(local, "").items()):
        config["teacher"]["source"] = source
        (told / "config.json").write_text(json.dumps(config))
        assert f"| teacher | {said or 'a local checkpoint'} |" in model_card(load(told), "hf", told)


def test_the_code_of_the_model_card_runs(told, tmp_path):
    make_run(tmp_path / "plain")
    clip = torch.randint(256, (4, 40, 40, 3)).to(torch.uint8).numpy()
    for run, form in ((told, "hf"), (tmp_path / "plain", "hf"), (told, "timm")):
        out = tmp_path / f"{form} of {run.name}"
        export(load(run), out, form, run=run)
        code = (out / "README.md").read_text().split("```python\n")[1].split("```")[0]
        shown = {"FOLDER": str(out), "clip": clip, "pixels": torch.zeros(2, 3, 32, 32)}
        exec(code, shown)
        assert shown["features" if form == "timm" else "tokens"].shape == ((2, 48) if form == "timm" else (1, 8, 48))


_ALONE = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "fastvid":
            raise ImportError("fastvid is blocked")
sys.meta_path.insert(0, Blocked())
import torch
from transformers import AutoModel, VideoMAEModel
plain = sys.argv[4] == "sinusoid"
opened = VideoMAEModel.from_pretrained if plain else AutoModel.from_pretrained
model = opened(sys.argv[1], **({} if plain else {"trust_remote_code": True})).double().eval()
with torch.no_grad():
    torch.save(model(pixel_values=torch.load(sys.argv[2])).last_hidden_state, sys.argv[3])
assert not [name for name in sys.modules if name.partition(".")[0] == "fastvid"]
"""


@pytest.mark.slow
@pytest.mark.parametrize("positions", ["sinusoid", "sincos"])
def test_it_opens_where_fastvid_cannot_be_imported(tmp_path, positions):
    run = make_run(tmp_path / "run", positions)
    export(load(run), tmp_path / "hf")
    torch.save(pixels(clips()), tmp_path / "pixels.pt")
    paths = [str(tmp_path / name) for name in ("hf", "pixels.pt", "tokens.pt")]
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, *paths, positions], cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "modules")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(torch.load(tmp_path / "tokens.pt"), tokens(run), rtol=1e-12, atol=1e-12)
