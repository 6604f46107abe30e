"""The features ``conv``: a small convolutional autoencoder, trained once on crops of training videos."""

import contextlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn import functional as F

from fastvid.files import write_whole
from fastvid.models.fingerprint import tensors_hash
from fastvid.projects.trajectory.features import Normalisation

log = logging.getLogger(__name__)

CROP = 16  # side of its crops
TRAINED = {"dim": 64, "steps": 300, "batch": 256, "lr": 2e-3, "seed": 0, "version": 1}
"""Settings of its training: part of the fingerprint of its weights."""


class Autoencoder(nn.Module):
    """Encoder to 64 numbers and decoder back to a crop of 16 x 16 pixels."""

    def __init__(self, dim: int):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.GELU(), nn.Conv2d(16, 32, 3, 2, 1), nn.GELU(), nn.Flatten(),
            nn.Linear(32 * 4 * 4, dim), nn.LayerNorm(dim),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(dim, 32 * 4 * 4), nn.GELU(), nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.GELU(), nn.ConvTranspose2d(16, 3, 4, 2, 1),
        )  # fmt: skip

    def forward(self, crops: torch.Tensor) -> torch.Tensor:
        """Rebuild crops float32 [N, 3, 16, 16]."""
        restored: torch.Tensor = self.decoder(self.encoder(crops))
        return restored


class Conv:
    """The encoder of an autoencoder, frozen.

    Args:
        model: the trained autoencoder.
        device: where it runs.
    """

    size = CROP
    normalisation: Normalisation = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

    def __init__(self, model: Autoencoder, device: torch.device | str = "cpu"):
        self.facts: dict[str, Any] = {"features": "conv", "weights": tensors_hash(model.state_dict())}
        self.encoder, self.dim = model.encoder.eval().requires_grad_(False).to(device), int(TRAINED["dim"])

    @torch.inference_mode()
    def __call__(self, crops: torch.Tensor) -> torch.Tensor:
        with _one_thread():
            features: torch.Tensor = self.encoder(crops)
            return features


def train_autoencoder(crops: torch.Tensor) -> Autoencoder:
    """Train an autoencoder on crops float32 [N, 3, 16, 16] in [-1, 1], on one CPU thread, so that the same crops give
    the same weights.

    Raises:
        ValueError: there are no crops.
    """
    if not len(crops):
        raise ValueError("no object was found in the training videos: there is nothing to train the features conv on")
    with torch.random.fork_rng(devices=[]), _one_thread():
        torch.manual_seed(int(TRAINED["seed"]))
        model = Autoencoder(int(TRAINED["dim"]))
        steps, batch = int(TRAINED["steps"]), int(TRAINED["batch"])
        optimizer = torch.optim.Adam(model.parameters(), TRAINED["lr"])
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        for _ in range(steps):
            some = crops[torch.randint(len(crops), (batch,))]
            loss = F.mse_loss(model(some), some)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    log.info("features conv: autoencoder trained on %d crops, mean squared error %.4f", len(crops), loss.item())
    return model


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread inside: sums over threads would depend on their number, and for so small a model they cost
    more than they save.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def load_autoencoder(path: Path, fingerprint: str, make_crops: Callable[[], torch.Tensor]) -> Autoencoder:
    """Read a trained autoencoder, or train it and write it to ``path``.

    Args:
        path: a safetensors file.
        fingerprint: of all that its crops depend on.
        make_crops: makes the crops it is trained on.

    Raises:
        ValueError: there are no crops.
        OSError: a file cannot be read or written.
    """
    model = Autoencoder(int(TRAINED["dim"]))
    if path.is_file():
        try:
            with safe_open(path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if about.get("fingerprint") == fingerprint and about.get("sha256") == tensors_hash(tensors):
                model.load_state_dict(tensors)
                return model
            log.warning("%s is damaged or of other crops: the autoencoder is trained anew", path)
        except SafetensorError as error:
            log.warning("%s is damaged (%s): the autoencoder is trained anew", path, error)
    model = train_autoencoder(make_crops())
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, save(tensors, {"fingerprint": fingerprint, "sha256": tensors_hash(tensors)}))
    return model
