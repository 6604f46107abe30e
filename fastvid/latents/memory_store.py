"""Latents in memory, found like those of a cache on the disk: by key and view hash."""

from collections.abc import Iterator, Sequence

import torch

from fastvid.latents.file import Latents
from fastvid.latents.manifest import LatentManifest


class MemoryLatents:
    """Rows are added once and read as often as wanted.

    Args:
        manifest: what the latents depend on; its ``clips`` are the most that can be added.

    Attributes:
        manifest: the same.
    """

    def __init__(self, manifest: LatentManifest):
        self.manifest = manifest
        self._views = manifest.views_per_clip
        self._latents = Latents.empty(manifest, manifest.clips * self._views)
        self._hashes: dict[str, list[int]] = {}
        self._rows: dict[tuple[str, int], int] = {}

    def __len__(self) -> int:
        """Return the number of clips with at least one view."""
        return len(self._hashes)

    def add(self, key: str, view_hashes: Sequence[int], latents: Latents) -> None:
        """Add the V views of a clip, with their hashes (-1 for one that could not be decoded)."""
        first = len(self._hashes) * self._views
        for room, part in zip(self._latents.parts, latents.parts, strict=True):
            room[first : first + self._views] = part
        self._hashes[key] = list(view_hashes)
        self._rows |= {(key, view_hash): first + view for view, view_hash in enumerate(view_hashes)}

    def clips(self) -> Iterator[tuple[str, list[int]]]:
        """Yield the key and view hashes of each clip."""
        yield from self._hashes.items()

    def read(self, keys: Sequence[str], view_hashes: Sequence[int]) -> Latents:
        """Return the latents of these views.

        Raises:
            KeyError: one of them is not there.
        """
        rows = torch.tensor([self._rows[key, h] for key, h in zip(keys, view_hashes, strict=True)], dtype=torch.int64)
        parts = [part.index_select(0, rows) for part in self._latents.parts]
        scale = parts.pop(1) if self._latents.scale is not None else None
        return Latents(parts[0], scale, parts[1] if len(parts) > 1 else None)
