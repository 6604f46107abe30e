"""One file of a latent cache: the latents of one input shard, as safetensors.

    latents      [n, V, K, D] float16, bfloat16 or int8
    scale        float16 [n, V, K], of int8 latents
    tokens       int32 [n, V, K], ascending: which tokens of the grid these are, where they are not all
    view_hashes  int64 [n, V], -1 for a view that could not be decoded
    crc32        int64 [n, V], of all that is stored of a view
    ids          int64 [n], of the keys
    keys         uint8, the keys as a JSON list

A clip that could not be decoded at all is not in the file, so a row says nothing about the row in the shard.
"""

import json
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from fastvid.data.loader.batch import Latents
from fastvid.latents.manifest import LatentManifest

HEADER = 4096  # bytes before the data: the header is known last and written first
INDEX = ("view_hashes", "crc32", "ids", "keys")
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
_NAMES = {"F16": 2, "BF16": 2, "I8": 1, "I32": 4, "I64": 8, "U8": 1}
OF_FORM = {"fp16": "F16", "bf16": "BF16", "int8": "I8"}


def empty_latents(manifest: LatentManifest, clips: int) -> Latents:
    """Allocate room for the latents of some clips."""
    m = manifest
    return Latents(
        torch.empty((clips, m.tokens, m.dim), dtype=_DTYPES[m.form]),
        torch.empty((clips, m.tokens), dtype=torch.float16) if m.form == "int8" else None,
        torch.empty((clips, m.tokens), dtype=torch.int64) if m.is_subset else None,
    )


class LatentFile:
    """A shard's latents on the disk. Opening it reads the header and the clips' ids; the rest is read when it is asked
    for.

    Args:
        path: path of the file.
        manifest: of the cache it must belong to.

    Raises:
        ValueError: damaged, or of another cache.
    """

    def __init__(self, path: Path, manifest: LatentManifest):
        self.path, self.manifest = path, manifest
        self._places, self._checksum = self._read_header()
        self.ids = np.frombuffer(self._read_part("ids"), np.int64)

    def __len__(self) -> int:
        return len(self.ids)

    def index(self) -> "LatentIndex":
        """Return the keys, view hashes and checksums, verified.

        Raises:
            ValueError: they are damaged.
        """
        data = {name: self._read_part(name) for name in INDEX}
        if zlib.crc32(b"".join(data[name] for name in INDEX)) != self._checksum:
            raise self._damaged("its index has another checksum")
        shape = (len(self), self.manifest.views_per_clip)
        return LatentIndex(
            json.loads(data["keys"]),
            np.frombuffer(data["view_hashes"], np.int64).reshape(shape),
            np.frombuffer(data["crc32"], np.int64).reshape(shape),
        )

    def read(self, index: "LatentIndex", row: int, view: int, out: Latents, slot: int) -> None:
        """Read a view of a clip into ``out[slot]``.

        Raises:
            ValueError: it is not what was written.
        """
        m = self.manifest
        at = row * m.views_per_clip + view
        values = _buffer(out.values[slot])
        scale = np.empty(0, np.uint8) if out.scale is None else _buffer(out.scale[slot])
        tokens = np.empty(m.tokens if m.is_subset else 0, np.int32)
        with self.path.open("rb", buffering=0) as file:
            for name, data in (("latents", values), ("scale", scale), ("tokens", tokens.view(np.uint8))):
                if len(data):
                    file.seek(self._places[name] + at * len(data))
                    if file.readinto(data.data) != len(data):
                        raise self._damaged("it ends too early")
        key, view_hash = index.keys[row], int(index.view_hashes[row, view])
        if row_crc(key, view_hash, values, scale, tokens) != index.crc32[row, view]:
            raise self._damaged(f"the latents of {key}, view {view}, have another checksum")
        if out.tokens is not None:
            out.tokens[slot] = torch.from_numpy(tokens.astype(np.int64))

    def _read_header(self) -> tuple[dict[str, int], int]:
        m = self.manifest
        with self.path.open("rb") as file:
            head, size = file.read(HEADER), os.fstat(file.fileno()).st_size
        try:
            (length,) = struct.unpack("<Q", head[:8])
            header = json.loads(head[8 : 8 + length]) if length == HEADER - 8 and len(head) == HEADER else {}
            about = header.pop("__metadata__")
            fingerprint, checksum = about["fingerprint"], int(about["index_crc32"])
            n = header["ids"]["shape"][0]
            rows = [n, m.views_per_clip, m.tokens]
            shapes = {"latents": (OF_FORM[m.form], [*rows, m.dim])}
            shapes |= {"scale": ("F16", rows)} if m.form == "int8" else {}
            shapes |= {"tokens": ("I32", rows)} if m.is_subset else {}
            shapes |= {"view_hashes": ("I64", rows[:2]), "crc32": ("I64", rows[:2]), "ids": ("I64", [n])}
            shapes["keys"] = ("U8", header["keys"]["shape"])
            end, places = 0, {}
            for name, (dtype, shape) in shapes.items():
                begin, end = end, end + _NAMES[dtype] * int(np.prod(shape, dtype=np.int64))
                if header.pop(name) != {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}:
                    raise ValueError(f"{name} is not described as it should be")
                places[name] = HEADER + begin
            sound = not header and type(n) is int and n >= 0 and size == HEADER + end
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, struct.error, OverflowError) as error:
            if "fingerprint" in locals() and fingerprint != m.fingerprint:
                raise self._foreign() from None
            raise self._damaged(f"its header cannot be read: {error}") from None
        if fingerprint != m.fingerprint:
            raise self._foreign()
        if not sound:
            raise self._damaged(f"it has {size} bytes where its header tells of {HEADER + end}")
        self._sizes = {name: _NAMES[d] * int(np.prod(s, dtype=np.int64)) for name, (d, s) in shapes.items()}
        return places, checksum

    def _read_part(self, name: str) -> bytes:
        with self.path.open("rb") as file:
            file.seek(self._places[name])
            data = file.read(self._sizes[name])
        if len(data) != self._sizes[name]:
            raise self._damaged("it ends too early")
        return data

    def _damaged(self, why: str) -> ValueError:
        return ValueError(
            f"{self.path} is damaged ({why}): delete it and run the `python -m fastvid.cache` command that made it "
            "again; nothing else is computed anew"
        )

    def _foreign(self) -> ValueError:
        return ValueError(
            f"{self.path} belongs to another cache than the manifest beside it, by their fingerprints: delete it and "
            "run the command that made it again"
        )


@dataclass
class LatentIndex:
    """What lies where in a file.

    Attributes:
        keys: keys of the clips.
        view_hashes: int64 [n, V].
        crc32: int64 [n, V].
    """

    keys: list[str]
    view_hashes: np.ndarray
    crc32: np.ndarray


def _buffer(row: torch.Tensor) -> np.ndarray:
    return row.view(torch.uint8).view(-1).numpy()


def row_crc(key: str, view_hash: int, *parts) -> int:
    """Return the checksum of a view's stored data: values, scale, tokens and ids."""
    crc = zlib.crc32(f"{key}\0{view_hash}".encode())
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def network_input(latents: Latents, pooled: bool) -> torch.Tensor:
    """Convert latents to a classifier's input: float32 [B, N, D], or [B, D] where they are ``pooled``."""
    values = latents.float()
    return values.squeeze(1) if pooled else values
