"""Exported models: transformers alone opens the folder and computes the same."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fastvid.projects.fvlm.hf as hf
from fastvid.data import ChatFormat
from fastvid.export import main
from fastvid.projects.fvlm.caption import caption
from fastvid.projects.fvlm.export import check, export
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.saved import save
from fastvid.video import ViewSpec, probe
from tests.projects.fvlm.exports import MODES, clip, logits_of, opened, rendered
from tests.projects.fvlm.trained import ENCODERS, QUESTION, trained
from tests.video.clips import encode

OTHER = "Which letter is teal?"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_is_exported(encoder, tmp_path):
    model = trained(encoder)
    exported, processor = opened(model, tmp_path / "hf")
    check(model, tmp_path / "hf", processor)
    inputs = processor(text=rendered(processor, QUESTION), videos=[clip(3).numpy()], return_tensors="pt")
    with torch.no_grad():
        expected = logits_of(model, clip(3), QUESTION, "stream")
        found = exported(**inputs).logits[0, -1 - len(expected) : -1, : expected.shape[-1]]
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_what_does_not_divide_into_patches_is_left_out(tmp_path):
    model = trained("dinov2 of another size", views=ViewSpec(frames=4, size=40))
    exported, _ = opened(model, tmp_path / "hf")  # it is compared with the model
    assert len(exported.encoder.encode(torch.zeros(1, 3, 40, 40))[0][0][0, 0]) == 1 + 2 * 2


OPTIONS = {
    "question first": {},
    "tied": {"tied": True},
    "video first": {"layout": "video-first", "first_query": "learnt"},
    "marks": {"marks": True, "mode": "parallel", "iterations": 2},
    "marks, learnt": {"marks": True, "first_query": "learnt", "layout": "video-first"},
    "frames alone": {"marks": True, "aim": "frames", "first_query": "learnt", "iterations": 2},
    "shallow": {"query": "shallow", "mode": "parallel", "iterations": 3},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_rows_of_unequal_lengths_say_what_each_says_alone(options, tmp_path):
    model = trained(**options)
    exported, processor = opened(model, tmp_path / "hf")
    questions, clips = [QUESTION, OTHER, QUESTION], [clip(2), clip(4, 1), clip(3, 2)]
    inputs = processor(
        text=[rendered(processor, question) for question in questions],
        videos=[one.numpy() for one in clips], return_tensors="pt",
    )  # fmt: skip
    chat, told = ChatFormat(model.tokenizer, model.model.config.layout), set()
    for mode in MODES:
        with torch.no_grad():
            found = exported(**inputs, mode=mode, output_gaze=True)
            answers = exported.generate(**inputs, mode=mode, max_new_tokens=6, do_sample=False)
        for row, (question, one) in enumerate(zip(questions, clips, strict=True)):
            expected = logits_of(model, one, question, mode)
            logits = found.logits[row, -1 - len(expected) : -1, : expected.shape[-1]]
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
            answer = Answer(model.model, chat, *chat.prompt(question), mode=mode, most=6, look=True)
            list(answer.about(one))
            ids = answers[row, inputs["input_ids"].shape[1] :].tolist()
            assert ids[: len(answer.ids)] == answer.ids
            told.add(tuple(answer.ids))
            assert len(answer.ids) == 6 or ids[len(answer.ids)] in answer.ends
            for layer, gaze in enumerate(found.gaze):
                used = torch.stack([looks[layer] for looks in answer.attention])
                torch.testing.assert_close(gaze[row, : len(one)], used, rtol=1e-4, atol=1e-5)
                assert not gaze[row, len(one) :].any()
    assert len(told) > 3  # what is said depends on what was seen


def test_generate_has_the_options_that_it_has_of_any_model(tmp_path):
    exported, processor = opened(trained(), tmp_path / "hf")
    inputs = processor(
        text=[rendered(processor, QUESTION), rendered(processor, OTHER)],
        videos=[clip(2).numpy(), clip(4, 1).numpy()], return_tensors="pt",
    )  # fmt: skip
    options = {"max_new_tokens": 5, "do_sample": False}
    greedy = exported.generate(**inputs, **options)
    assert not torch.equal(greedy[0, -5:], greedy[1, -5:])
    assert torch.equal(exported.generate(**inputs, **options, use_cache=False), greedy)
    assert torch.equal(exported.generate(**inputs, **options, repetition_penalty=1.0 + 1e-9), greedy)
    # Rows are repeated with their frames.
    several = exported.generate(**inputs, max_new_tokens=5, do_sample=True, top_k=1, num_return_sequences=3)
    assert torch.equal(several, greedy.repeat_interleave(3, 0))
    assert exported.generate(**inputs, **options, num_beams=3).shape[0] == 2
    with pytest.raises(ValueError, match="use the dynamic cache"):
        exported.generate(**inputs, **options, cache_implementation="static")
    # And it is saved again, with its code, by transformers.
    exported.save_pretrained(tmp_path / "again")
    processor.save_pretrained(tmp_path / "again")
    names = {path.name for path in (tmp_path / "hf").iterdir()} - {"README.md"}
    assert names == {path.name for path in (tmp_path / "again").iterdir()}


def test_text_alone_is_what_the_language_model_says(tmp_path):
    model = trained()
    exported, processor = opened(model, tmp_path / "hf")
    text = processor.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, tokenize=False
    )
    inputs = processor(text=text, return_tensors="pt")
    assert "pixel_values_videos" not in inputs
    assert inputs["input_ids"][0].tolist() == model.tokenizer.apply_chat_template(
        [{"role": "user", "content": QUESTION}], add_generation_prompt=True, return_dict=False
    )
    with torch.no_grad():
        expected = model.model.language.model(input_ids=inputs["input_ids"]).logits
        found = exported(**inputs).logits
    torch.testing.assert_close(found[..., : expected.shape[-1]], expected, rtol=1e-5, atol=1e-5)
    assert exported.config.frame_token_id == expected.shape[-1] == found.shape[-1] - 1
    assert (found[..., -1] == torch.finfo(torch.float32).min).all()


def test_an_exported_model_is_trained_on(tmp_path):
    exported, processor = opened(trained(mode="parallel"), tmp_path / "hf")
    inputs = processor(text=rendered(processor, QUESTION), videos=[clip(3).numpy()], return_tensors="pt")
    labels = inputs["input_ids"].masked_fill(inputs["input_ids"] == exported.config.frame_token_id, -100)
    for mode in ("parallel", "stream"):
        exported.zero_grad()
        exported(**inputs, labels=labels, mode=mode).loss.backward()
        for name in ("predict.weight", "enter.weight", "encoder.layers.0.query.weight"):
            assert exported.get_parameter(name).grad.abs().max() > 0


ALONE = """
import sys
sys.modules["fastvid"] = None
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

video, out, *folders = sys.argv[1:]
found = {}
for folder in folders:
    model = AutoModelForImageTextToText.from_pretrained(folder, trust_remote_code=True).eval()
    processor = AutoProcessor.from_pretrained(folder, trust_remote_code=True)
    content = [{"type": "video", "path": video}, {"type": "text", "text": processor.question}]
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": content}],
        add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
    )
    with torch.no_grad():
        modes = {
            mode: (model(**inputs, mode=mode).logits, model.generate(**inputs, mode=mode, max_new_tokens=5))
            for mode in ("coarse", "parallel", "stream")
        }
    found[folder] = (dict(inputs), modes, processor.decode(modes["stream"][1][0], skip_special_tokens=True))
torch.save(found, out)
"""


def test_transformers_alone_opens_the_folder_and_says_the_same(tmp_path):
    """In a process of its own, in which fastvid cannot be imported."""
    models = {}
    for number, (encoder, options) in enumerate({"dinov3": {"tied": True}, "timm": {"max_fps": 2.0}}.items()):
        models[str(tmp_path / f"hf{number}")] = trained(encoder, **options)
    for folder, model in models.items():
        export(model, folder)
    (tmp_path / "clip.mp4").write_bytes(encode(30, coloured=True))
    command = [sys.executable, "-c", ALONE, str(tmp_path / "clip.mp4"), str(tmp_path / "found.pt"), *models]
    environment = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)
    subprocess.run(command, check=True, cwd=tmp_path, env=environment, capture_output=True)
    found = torch.load(tmp_path / "found.pt", weights_only=False)
    data = (tmp_path / "clip.mp4").read_bytes()
    for folder, model in models.items():
        inputs, modes, text = found[folder]
        answer = caption(model, data, probe(data), tokens=5)
        pixels = torch.stack(list(answer._watch()))
        assert len(pixels) == (4 if folder.endswith("0") else 2)
        expected_pixels = model.model.encoder._normalised(pixels)
        torch.testing.assert_close(inputs["pixel_values_videos"][0], expected_pixels, rtol=1e-6, atol=1e-6)
        for mode, (logits, ids) in modes.items():
            with torch.no_grad():
                expected = logits_of(model, pixels, QUESTION, mode)
            torch.testing.assert_close(
                logits[0, -1 - len(expected) : -1, : expected.shape[-1]], expected, rtol=1e-4, atol=1e-4
            )
            said_here = caption(model, data, probe(data), mode=mode, tokens=5)
            list(said_here)
            answered = ids[0, inputs["input_ids"].shape[1] :].tolist()
            assert answered[: len(said_here._answer.ids)] == said_here._answer.ids
        assert QUESTION.lower() in text


def test_the_exported_code_imports_nothing_of_fastvid():
    files = sorted(Path(hf.__file__).parent.glob("*_fvlm.py"))
    assert len(files) == 6
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom):
                names = [] if node.level else [node.module]
                assert node.level < 2  # relative ones stay within the folder
            assert not [name for name in names if name.split(".")[0] == "fastvid"]


@pytest.fixture
def run(tmp_path):
    """A run's directory with a saved model, settings and results."""
    model = trained()
    folder = tmp_path / "run"
    save(folder / "model", model.model, model.tokenizer, model.about)
    config = {
        "data": {"path": "/home/somebody/my videos", "mix": ["/home/somebody/texts=0.14"]},
        "optim": {"steps": 8, "batch": 4, "lr": 1e-3, "min_lr": 1e-5, "weight_decay": 0.01},
        "model": {"query": "deep", "layout": "question-first", "first_query": "text", "freeze_encoder": True}
        | {"freeze_language": False},
        "loss": {"coarse_weight": 1.0},
        "run": {"precision": "float32", "seed": 3},
        "backbone": {"lr": 1e-4, "min_lr": None},
    }
    answers = {name: {"all": {"questions": 9}} for name in ("fine", "uniform gaze")}
    for tasks in answers.values():
        tasks["all"] |= {"ce": 1.0, "ce_low": 0.5, "ce_high": 1.5, "accuracy": 0.75, "accuracy_low": 0.5}
        tasks["all"]["accuracy_high"] = 0.9
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "measures.json").write_text(json.dumps({"answers": answers, "clips": {"train": 5, "test": 2}}))
    return folder


def test_the_command_writes_a_folder_with_a_model_card(run, tmp_path, capsys):
    out = tmp_path / "out"
    assert main([str(run), "--out", str(out)]) == 0
    assert f"written to {out}" in capsys.readouterr().out
    names = {path.name for path in out.iterdir()}
    assert {"README.md", "config.json", "generation_config.json", "model.safetensors", "processor_config.json"} < names
    assert {"chat_template.jinja", "tokenizer.json", "modeling_fvlm.py", "vision_fvlm.py"} < names
    card = (out / "README.md").read_text()
    assert "| fine | all | 9 | 0.750 (0.500 to 0.900) | 1.000 (0.500 to 1.500) |" in card
    assert "uniform gaze" not in card
    assert "| data | my videos (5 of train, 2 of test) |" in card
    assert "| mixed with | texts (0.14) |" in card
    assert "| learning rate | 0.001 to 1e-05 |\n| of encoder and language model | 0.0001 to 1e-05 |" in card
    assert "| frozen | encoder |" in card
    assert "# license: yours to choose" in card
    # Nothing of this machine, in any file.
    for path in out.iterdir():
        content = path.read_bytes()
        assert b"somebody" not in content
        assert str(tmp_path).encode() not in content
    written = json.loads((out / "config.json").read_text())
    assert written["auto_map"].keys() == {"AutoConfig", "AutoModelForImageTextToText"}
    assert main([str(run), "--out", str(out)]) == 2
    assert "is not empty" in capsys.readouterr().err
    assert main([str(run), "--out", str(out), "--overwrite"]) == 0
    assert main([str(run), "--out", str(tmp_path / "peft"), "--to", "peft"]) == 2
    assert "is not exported to peft: use --to hf" in capsys.readouterr().err
    (run / "measures.json").write_text("{}")
    assert main([str(run), "--out", str(tmp_path / "no")]) == 2
    assert "measures.json is not that of a finished run" in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_what_the_exported_code_lacks_is_refused(tmp_path, monkeypatch):
    model = trained("timm")
    model.model.encoder.model.patch_embed.norm = torch.nn.LayerNorm(16)
    with pytest.raises(ValueError, match="with a norm of patches, cannot be exported"):
        export(model, tmp_path / "hf")
    other = trained()
    other.model.encoder.model.encoder.layer[0].mlp = torch.nn.Identity()
    with pytest.raises(ValueError, match="Identity cannot be exported"):
        export(other, tmp_path / "hf")
    # What nobody thought of is found by comparing.
    strange = trained()
    monkeypatch.setattr(type(strange.model.connector), "tokens", lambda self, seen: 2 * self.token(self.leave(seen)))
    with pytest.raises(ValueError, match=r"differs from the trained one by .* in the mode coarse"):
        export(strange, tmp_path / "hf")
    assert not (tmp_path / "hf").exists()
