"""One file of a latent cache: the latents of one input shard, as safetensors.

    latents      [n, V, L * K, D] float16, bfloat16 or int8: those of L blocks of a token follow each other
    scale        float16 [n, V, L * K], of int8 latents
    tokens       int32 [n, V, K], ascending: which tokens of the grid these are, where they are not all
    view_hashes  int64 [n, V], -1 for a view that could not be decoded
    crc32        int64 [n, V], of all that is stored of a view
    ids          int64 [n], of the keys
    keys         uint8, the keys as a JSON list

A clip that could not be decoded at all is not in the file, so a row says nothing about the row in the shard.
"""

import glob
import json
import os
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastvid.data.loader.batch import Latents
from fastvid.files import flush, naming
from fastvid.latents.manifest import LatentManifest
from fastvid.random import sample_id

HEADER = 4096  # bytes before the data: the header is known last and written first
_INDEX = ("view_hashes", "crc32", "ids", "keys")
_DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16, "int8": torch.int8}
_NAMES = {"F16": 2, "BF16": 2, "I8": 1, "I32": 4, "I64": 8, "U8": 1}
_OF_FORM = {"fp16": "F16", "bf16": "BF16", "int8": "I8"}


def empty_latents(manifest: LatentManifest, clips: int) -> Latents:
    """Allocate room for the latents of some clips."""
    m = manifest
    return Latents(
        torch.empty((clips, m.rows, m.dim), dtype=_DTYPES[m.form]),
        torch.empty((clips, m.rows), dtype=torch.float16) if m.form == "int8" else None,
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
        data = {name: self._read_part(name) for name in _INDEX}
        if zlib.crc32(b"".join(data[name] for name in _INDEX)) != self._checksum:
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
        if _row_crc(key, view_hash, values, scale, tokens) != index.crc32[row, view]:
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
            rows, tokens = [n, m.views_per_clip, m.rows], [n, m.views_per_clip, m.tokens]
            shapes = {"latents": (_OF_FORM[m.form], [*rows, m.dim])}
            shapes |= {"scale": ("F16", rows)} if m.form == "int8" else {}
            shapes |= {"tokens": ("I32", tokens)} if m.is_subset else {}
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
    """The layout of a file.

    Attributes:
        keys: keys of the clips.
        view_hashes: int64 [n, V].
        crc32: int64 [n, V].
    """

    keys: list[str]
    view_hashes: np.ndarray
    crc32: np.ndarray


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
            [_row_crc(key, h, v, s, t) for h, v, s, t in zip(view_hashes, values, scales, tokens, strict=True)]
        )

    def commit(self, *, flushed: bool = True) -> None:
        """Complete the file: it has its name when this returns, and is on the disk if it is to be ``flushed``."""
        with naming(self.path):
            self._commit(flushed)

    def _commit(self, flushed: bool) -> None:
        m, n = self.manifest, len(self._keys)
        rows, tokens = [n, m.views_per_clip, m.rows], [n, m.views_per_clip, m.tokens]
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
            parts["tokens"] = ("I32", tokens, b"".join(self._tokens))
        end = self._file.tell() - HEADER
        checksum = zlib.crc32(b"".join(index[name][2] for name in _INDEX))
        header: dict[str, Any] = {
            "__metadata__": {"fingerprint": m.fingerprint, "index_crc32": str(checksum)},
            "latents": {"dtype": _OF_FORM[m.form], "shape": [*rows, m.dim], "data_offsets": [0, end]},
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


def remove_abandoned(folder: Path, name: str | None = None) -> None:
    """Remove the unfinished files of dead processes of this machine: of one file, or of all."""
    of = "*" if name is None else glob.escape(name)
    for partial in folder.glob(f".{of}.{socket.gethostname()}.*.part"):
        process = partial.name.split(".")[-2]
        if process.isdigit() and not Path(f"/proc/{process}").exists():
            partial.unlink(missing_ok=True)


def _bytes(row: torch.Tensor) -> bytes:
    return row.detach().contiguous().view(torch.uint8).numpy().tobytes()


def _buffer(row: torch.Tensor) -> np.ndarray:
    return row.view(torch.uint8).view(-1).numpy()


def _row_crc(key: str, view_hash: int, *parts) -> int:
    """Return the checksum of a view's stored data: values, scale, tokens and ids."""
    crc = zlib.crc32(f"{key}\0{view_hash}".encode())
    for part in parts:
        crc = zlib.crc32(part, crc)
    return crc


def network_input(latents: Latents, pooled: bool) -> torch.Tensor:
    """Convert latents to a classifier's input: float32 [B, N, D], or [B, D] where they are ``pooled``."""
    values = latents.float()
    return values.squeeze(1) if pooled else values
