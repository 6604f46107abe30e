"""Projections that make latents narrower: fitted or drawn once, stored with the cache."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

from fastvid.command import UserError
from fastvid.files import write_new

FILE = Path("projection") / "basis.safetensors"


@dataclass
class Projection:
    """``(x - mean) @ basis``.

    Attributes:
        mean: float32 [D].
        basis: float32 [D, D'], orthonormal columns.
        kept: share of the variance in the projection, and the mean cosine between tokens and what comes back of them.
    """

    mean: torch.Tensor
    basis: torch.Tensor
    kept: dict[str, float]

    def __call__(self, latents: torch.Tensor) -> torch.Tensor:
        """Map float32 [..., D] to [..., D']."""
        return (latents - self.mean) @ self.basis

    def to(self, device: torch.device) -> "Projection":
        """Move the projection to a device."""
        return Projection(self.mean.to(device), self.basis.to(device), self.kept)

    def measure(self, tokens: torch.Tensor) -> None:
        """Fill in ``kept`` from tokens float32 [n, D]."""
        back = self(tokens) @ self.basis.T + self.mean
        centred = tokens - tokens.mean(0)
        self.kept = {
            "explained_variance": float((centred @ self.basis).square().sum() / centred.square().sum()),
            "round_trip_cosine": float(torch.nn.functional.cosine_similarity(back, tokens, dim=-1).mean()),
            "measured_on_tokens": len(tokens),
        }


def fit_pca(batches: Iterable[torch.Tensor], dim: int) -> Projection:
    """Return the leading principal components of tokens.

    Args:
        batches: of tokens, float32 [n, D]; one is held at a time. ``kept`` is measured on the last one.
        dim: D', at most D.
    """
    count, total, products, last = 0, None, None, None
    for last in batches:
        rows = last.double()
        count += len(rows)
        total = rows.sum(0) if total is None else total + rows.sum(0)
        products = rows.T @ rows if products is None else products + rows.T @ rows
    if last is None or total is None or products is None:
        raise UserError("no clip could be decoded to fit the PCA on: see `python -m fastvid.data check`")
    mean = total / count
    values, vectors = torch.linalg.eigh(products / count - torch.outer(mean, mean))
    basis = vectors[:, values.argsort(descending=True)[:dim]]
    # The sign of an eigenvector is the library's whim: the largest element is made positive.
    basis = basis * basis.gather(0, basis.abs().argmax(0, keepdim=True)).sign()
    projection = Projection(mean.float(), basis.float().contiguous(), {})
    projection.measure(last)
    return projection


def random_orthonormal(width: int, dim: int, seed: int) -> Projection:
    """Return ``dim`` orthonormal directions of a space of ``width`` dimensions, drawn on the CPU: the same
    everywhere."""
    noise = torch.randn(width, dim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    q, r = torch.linalg.qr(noise)
    return Projection(torch.zeros(width), (q * r.diagonal().sign()).float().contiguous(), {})


def store(folder: Path, projection: Projection) -> None:
    """Write a cache's projection. An existing one stays, because the first latents were made with it."""
    (folder / FILE).parent.mkdir(parents=True, exist_ok=True)
    numbers = {name: repr(value) for name, value in projection.kept.items()}
    tensors = {"mean": projection.mean.cpu(), "basis": projection.basis.cpu()}
    write_new(folder / FILE, save(tensors, metadata=numbers))


def restore(folder: Path) -> tuple[Projection, str]:
    """Read a cache's projection, and the sha256 of its file.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged.
    """
    data = (folder / FILE).read_bytes()
    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        kept = {name: float(value) for name, value in header.get("__metadata__", {}).items()}
        return Projection(tensors["mean"], tensors["basis"], kept), hashlib.sha256(data).hexdigest()
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(f"{folder / FILE} is damaged ({error}): make the cache anew in another folder") from error
