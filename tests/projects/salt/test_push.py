"""Exported encoders that are pushed to a stand-in of the Hugging Face hub."""

import pytest

from fastvid.export import main
from tests.projects.hub_server import TOKEN, HubServer
from tests.projects.salt.test_export import make_run


@pytest.fixture
def hub(monkeypatch):
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server


def test_a_folder_is_pushed_to_the_hub(tmp_path, hub, capsys):
    run, out = make_run(tmp_path / "run"), tmp_path / "hf"
    assert main([str(run), "--out", str(out), "--push", "ada/encoder", "--private"]) == 0
    assert f"pushed to {hub.url}/ada/encoder" in capsys.readouterr().out
    assert hub.repositories == {"ada/encoder": {path.name: path.read_bytes() for path in out.iterdir()}}
    assert hub.private == {"ada/encoder"}


def test_a_push_that_cannot_be_is_refused_before_the_work(tmp_path, hub, monkeypatch, capsys):
    run, out = make_run(tmp_path / "run"), tmp_path / "hf"
    assert main([str(run), "--out", str(out), "--push", "encoder"]) == 2
    assert capsys.readouterr().err == "--push encoder: give USER/NAME, such as ada/my-encoder\n"
    assert main([str(run), "--out", str(out), "--push", "ada/my encoder"]) == 2
    assert capsys.readouterr().err.startswith("--push ada/my encoder: ")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert main([str(run), "--out", str(out), "--push", "ada/encoder"]) == 2
    assert "log in with `hf auth login`, or set HF_TOKEN" in capsys.readouterr().err
    assert not out.exists()


def test_a_push_that_the_hub_refuses_leaves_the_folder(tmp_path, hub, monkeypatch, capsys):
    run, out = make_run(tmp_path / "run"), tmp_path / "hf"
    monkeypatch.setenv("HF_TOKEN", "hf_stranger")
    assert main([str(run), "--out", str(out), "--push", "ada/encoder"]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{out} is written, but cannot be pushed to ada/encoder: ")
    assert said.count("\n") == 1
    assert (out / "model.safetensors").exists()
    assert hub.repositories == {}
