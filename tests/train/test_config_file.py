"""``--config FILE``: options from JSON, YAML or TOML; those given beside it win."""

import json
import sys

import pytest

from fastvid.command import UserError
from fastvid.projects.salt.presets import PRESETS
from fastvid.projects.vjepa2.presets import PRESETS as VJEPA2_PRESETS
from fastvid.train.config import parse, to_dict

TEXTS = {
    "options.json": '{"optim": {"lr": 0.001, "betas": [0.8, 0.9]}, "run": {"compile": true}, "data": {"size": 64}}',
    "options.yaml": "optim: {lr: 1e-3, betas: [0.8, 0.9]}\nrun:\n  compile: true\ndata: {size: 64}\n",
    "options.yml": "optim: {lr: 0.001, betas: [0.8, 0.9]}\nrun: {compile: yes}\ndata: {size: 64}\n",
    "options.toml": "optim.lr = 1e-3\noptim.betas = [0.8, 0.9]\ndata.size = 64\n[run]\ncompile = true\n",
}
WITH_TOML = pytest.mark.skipif(sys.version_info < (3, 11), reason="tomllib came with Python 3.11")


def salt(*arguments):
    return parse("salt", PRESETS, "demo", [str(argument) for argument in arguments])[0]


@pytest.mark.parametrize("name", [pytest.param(n, marks=[WITH_TOML] if n.endswith("toml") else []) for n in TEXTS])
def test_a_file_changes_the_preset_and_options_win(tmp_path, name):
    path = tmp_path / name
    path.write_text(TEXTS[name])
    config = salt("--config", path, "--data.size", "96", "--preset", "vit-base")
    assert (config.optim.lr, config.optim.betas, config.run.compile) == (1e-3, (0.8, 0.9), True)
    assert (config.data.size, config.model.name) == (96, "vit_base_patch16_224")
    assert salt(f"--config={path}").data.size == 64


@pytest.mark.parametrize(("project", "presets"), [("salt", PRESETS), ("vjepa2", VJEPA2_PRESETS)])
def test_a_runs_own_configuration_gives_an_equal_run_elsewhere(tmp_path, project, presets):
    for name in presets:
        arguments = ["--preset", name, "--run.dir", str(tmp_path), "--run.seed", "5"]
        before = parse(project, presets, name, arguments)[0]
        (tmp_path / "config.json").write_text(json.dumps(to_dict(before)))
        default = next(iter(presets))
        again = parse(project, presets, default, ["--config", str(tmp_path / "config.json")])[0]
        assert again.run.dir is None
        expected = to_dict(before)
        expected["run"]["dir"] = None
        assert to_dict(again) == expected


def test_relative_paths_are_those_of_the_current_directory(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    path = tmp_path / "elsewhere" / "options.json"
    path.write_text('{"data": {"path": "videos"}}')
    monkeypatch.chdir(tmp_path)
    assert salt("--config", path).data.path == str(tmp_path / "videos") == salt("--data.path", "videos").data.path


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("o.json", '{"optim": {"speed": 9}}', "there is no option optim.speed; --help lists them"),
        ("o.json", '{"speed": 9}', "there is no option speed; --help lists them"),
        ("o.yaml", "optim: 3", "optim holds options by name, and not 3"),
        ("o.json", '{"data": {"size": {"low": 3}}}', "data.size is one value, and not options by name"),
        ("o.json", '{"data": {"size": "large"}}', "data.size does not take 'large'; see --help"),
        ("o.json", '{"data": {"size": null}}', "data.size does not take 'None'"),
        ("o.json", '{"data": {"sampling": "all"}}', "data.sampling does not take 'all'"),
        ("o.json", '{"run": {"keep": 0}}', "run.keep must be at least 1; got 0"),
        ("o.json", "[1]", "must hold options by name"),
        ("o.yaml", "a: [", "cannot be read as YAML"),
        ("o.json", "{", "cannot be read as JSON"),
        ("o.ini", "", "the name must end in .json, .yaml, .yml, .toml"),
    ],
)
def test_what_does_not_fit_is_one_sentence_that_names_the_file(tmp_path, name, text, sentence):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        salt("--config", path)
    said = str(caught.value)
    assert str(path) in said
    assert sentence in said
    assert "\n" not in said


def test_a_missing_file_and_a_resumed_run_are_refused(tmp_path):
    with pytest.raises(UserError, match="there is no such file"):
        salt("--config", tmp_path / "none.json")
    with pytest.raises(UserError, match="leave --config out"):
        salt("--config", tmp_path / "none.json", "--resume", tmp_path)
