"""Writing one file of a latent cache; :mod:`fastvid.latents.file` says what is in it."""

import glob
import json
import os
import socket
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastvid.data.loader.batch import Latents
from fastvid.files import flush, naming
from fastvid.latents.file import HEADER, INDEX, OF_FORM, row_crc
from fastvid.latents.manifest import LatentManifest
from fastvid.random import sample_id


class LatentFileWriter:
    """Writes a shard's latents, one clip after the other; memory does not grow with them. The file appears under its
    name when :meth:`commit` is called, complete or not at all.

    Args:
        path: path of the file.
        manifest: of the cache.
    """

    def __init__(self, path: Path, manifest: LatentManifest):
        self.path, self.manifest = path, manifest
        remove_abandoned(path.parent, path.name)
        self._partial = path.with_name(f".{path.name}.{socket.gethostname()}.{os.getpid()}.part")
        self._file = self._partial.open("wb")
        self._file.seek(HEADER)
        self._keys: list[str] = []
        self._hashes: list[list[int]] = []
        self._crcs: list[list[int]] = []
        self._scales: list[bytes] = []
        self._tokens: list[bytes] = []

    def add(self, key: str, view_hashes: list[int], latents: Latents) -> None:
        """Append a clip: ``latents`` of its V views, with -1 among the hashes where there are none."""
        self._keys.append(key)
        self._hashes.append(view_hashes)
        scales = [b""] * len(view_hashes) if latents.scale is None else [_bytes(row) for row in latents.scale]
        tokens = [b""] * len(view_hashes) if latents.tokens is None else [_bytes(r.int()) for r in latents.tokens]
        values = [_bytes(row) for row in latents.values]
        with naming(self.path):
            self._file.write(b"".join(values))
        self._scales += scales
        self._tokens += tokens
        self._crcs.append(
            [row_crc(key, h, v, s, t) for h, v, s, t in zip(view_hashes, values, scales, tokens, strict=True)]
        )

    def commit(self, *, flushed: bool = True) -> None:
        """Complete the file: it has its name when this returns, and is on the disk if it is to be ``flushed``."""
        with naming(self.path):
            self._commit(flushed)

    def _commit(self, flushed: bool) -> None:
        m, n = self.manifest, len(self._keys)
        rows = [n, m.views_per_clip, m.tokens]
        index = {
            "view_hashes": ("I64", rows[:2], np.array(self._hashes, np.int64).tobytes()),
            "crc32": ("I64", rows[:2], np.array(self._crcs, np.int64).tobytes()),
            "ids": ("I64", [n], np.array([sample_id(key) for key in self._keys], np.int64).tobytes()),
        }
        keys = json.dumps(self._keys).encode()
        index["keys"] = ("U8", [len(keys)], keys)
        parts: dict[str, tuple[str, list[int], bytes]] = {}
        if m.form == "int8":
            parts["scale"] = ("F16", rows, b"".join(self._scales))
        if m.is_subset:
            parts["tokens"] = ("I32", rows, b"".join(self._tokens))
        end = self._file.tell() - HEADER
        checksum = zlib.crc32(b"".join(index[name][2] for name in INDEX))
        header: dict[str, Any] = {
            "__metadata__": {"fingerprint": m.fingerprint, "index_crc32": str(checksum)},
            "latents": {"dtype": OF_FORM[m.form], "shape": [*rows, m.dim], "data_offsets": [0, end]},
        }
        for name, (dtype, shape, data) in (parts | index).items():
            self._file.write(data)
            header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + len(data)]}
            end += len(data)
        self._file.seek(0)
        self._file.write(struct.pack("<Q", HEADER - 8) + json.dumps(header).encode().ljust(HEADER - 8))
        self._file.flush()
        if flushed:
            os.fsync(self._file.fileno())
        self._file.close()
        os.replace(self._partial, self.path)
        if flushed:
            flush(self.path.parent)

    def __enter__(self) -> "LatentFileWriter":
        return self

    def __exit__(self, *exc) -> None:
        try:
            with naming(self.path):
                self._file.close()  # which fails where the disk is full
        finally:
            self._partial.unlink(missing_ok=True)


def _bytes(row: torch.Tensor) -> bytes:
    return row.detach().contiguous().view(torch.uint8).numpy().tobytes()


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove the unfinished files of dead processes of this machine: of one file, or of all."""
    of = "*" if name is None else glob.escape(name)
    for partial in folder.glob(f".{of}.{socket.gethostname()}.*.part"):
        process = partial.name.split(".")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            partial.unlink(missing_ok=True)
