"""Latents of frames by an autoencoder of diffusers, computed once; by a stand-in with its interface where diffusers is
not installed."""

import importlib.util
import json
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fastvid.command import UserError
from fastvid.files import cache_dir
from fastvid.latents import LatentLoader
from fastvid.projects import fvlm
from fastvid.projects.fvlm import vae as vae_module
from fastvid.projects.fvlm.vae import FrameVae, open_vae
from tests.projects.cut_off import cut_off_and_resume
from tests.projects.fvlm.test_recipes import config_of, videos, weights  # noqa: F401 (videos is a fixture)
from tests.train.conftest import records

OPTIONS = ("--reconstruct.latents", "diffusers", "--reconstruct.vae")
SIZES = {"block_out_channels": (8, 8), "latent_channels": 2, "norm_num_groups": 4, "sample_size": 40}


class Standin(nn.Module):
    """An autoencoder with the interface of diffusers' AutoencoderKL, that halves frames."""

    def __init__(self):
        super().__init__()
        self.config = SimpleNamespace(
            latent_channels=2, block_out_channels=(8, 8), scaling_factor=0.5, shift_factor=None
        )
        self.config = type("Config", (dict,), {"__getattr__": dict.__getitem__})(vars(self.config))
        self.layer = nn.Conv2d(3, 2, 2, stride=2)

    @classmethod
    def from_pretrained(cls, source, **options):
        model = cls()
        model.load_state_dict(torch.load(f"{source}/weights.pt"))
        return model, {"missing_keys": [], "unexpected_keys": [], "mismatched_keys": []}

    def encode(self, frames):
        return SimpleNamespace(latent_dist=SimpleNamespace(mean=self.layer(frames)))


INSTALLED = importlib.util.find_spec("diffusers") is not None


@pytest.fixture(params=["diffusers", "stand-in"])
def folder(request, tmp_path, monkeypatch):
    """A folder with a small random autoencoder."""
    return make(request.param, tmp_path, monkeypatch)


@pytest.fixture
def one_folder(tmp_path, monkeypatch):
    """The same, of diffusers where that is installed."""
    return make("diffusers" if INSTALLED else "stand-in", tmp_path, monkeypatch)


def make(kind, tmp_path, monkeypatch):
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path / "cache"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if kind == "diffusers":
            diffusers = pytest.importorskip("diffusers")
            kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
            diffusers.AutoencoderKL(**SIZES, **kinds).save_pretrained(tmp_path / "vae")
        else:
            (tmp_path / "vae").mkdir()
            torch.save(Standin().state_dict(), tmp_path / "vae" / "weights.pt")
            monkeypatch.setitem(sys.modules, "diffusers", SimpleNamespace(AutoencoderKL=Standin))
    return tmp_path / "vae"


def test_a_frames_latent_is_the_scaled_mean_of_the_encoder(folder):
    frames = open_vae(str(folder))
    clips = torch.randint(256, (2, 9, 40, 40, 3), dtype=torch.uint8)
    with torch.no_grad():
        latents = frames(clips).unflatten(-1, (2, 20, 20))
        pixels = clips[1, 4].permute(2, 0, 1)[None].float() / 127.5 - 1
        expected = frames.vae.encode(pixels).latent_dist.mean * frames.vae.config.scaling_factor
    torch.testing.assert_close(latents[1, 4], expected[0], rtol=1e-4, atol=1e-5)
    assert frames.side(40) == 20
    with pytest.raises(ValueError, match="frames of 41 pixels do not divide by the 2"):
        frames.side(41)


def test_a_run_computes_them_once_and_goes_on_bit_for_bit(one_folder, tmp_path, videos, monkeypatch):  # noqa: F811
    seen = []
    forward = FrameVae.forward
    monkeypatch.setattr(FrameVae, "forward", lambda self, clips: seen.append(clips.shape[:2]) or forward(self, clips))
    options = (*OPTIONS, one_folder)
    run = fvlm.train(config_of("joint", tmp_path / "run", videos, *options))
    assert len(seen) == 8  # one clip of each video
    assert len(list((cache_dir() / "frame-latents").glob("*-*"))) == 3
    found = json.loads((run.path / "measures.json").read_text())["reconstruction"]
    assert set(found) == {"fine", "coarse", "unchanged", "ratio", "low", "high"}
    cut_off_and_resume("fvlm", config_of("joint", tmp_path / "again", videos, *options), LatentLoader, 7, monkeypatch)
    assert len(seen) == 8
    assert records(tmp_path / "again") == records(run.path)
    left, right = weights(tmp_path / "again"), weights(run.path)
    assert all(torch.equal(left[name], right[name]) for name in right)


def test_without_diffusers_the_option_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(UserError, match=r"pip install 'fastvid\[diffusers\]'"):
        open_vae("somewhere")


def test_latents_that_do_not_fit_on_the_disk_are_refused(one_folder, tmp_path, videos, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(vae_module.shutil, "disk_usage", lambda path: SimpleNamespace(free=1 << 30))
    with pytest.raises((UserError, RuntimeError)):
        fvlm.train(config_of("joint", tmp_path / "run", videos, *OPTIONS, one_folder))
    assert "set FASTVID_CACHE" in " ".join(capsys.readouterr().err.split())
