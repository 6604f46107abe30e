"""Named tensors in a folder of safetensors files: shards that many processes write, read by as many or by others."""

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from fastvid.train.distributed import World


def write_shards(folder: Path, tensors: dict[str, torch.Tensor]) -> None:
    """Write this process's shards of tensors, and a share of those that all processes hold. All processes call this.

    Raises:
        OSError: some process could not write.
    """
    writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
    try:
        dcp.save(tensors, storage_writer=writer)
    except dcp.CheckpointException as error:
        # All processes are told what went wrong on each; a full disk is to be the sentence it is on one.
        for rank, (cause, _) in error.failures.items():
            if isinstance(cause, OSError):
                raise OSError(cause.errno, f"{cause.strerror} (process {rank})", cause.filename) from error
        raise


class StoredTensors:
    """The tensors in a folder's ``.safetensors`` files, each whole in one file or in shards over several.

    Args:
        folder: path of the folder.
        world: processes that open it together, of which the main process reads the headers for all; None for this
            process alone.

    Attributes:
        sizes: sizes of the whole tensors, by name.

    Raises:
        safetensors.SafetensorError: a file is damaged.
        OSError: a file cannot be read.
    """

    def __init__(self, folder: Path, world: World | None = None):
        self._folder, self._alone = folder, world is None or world.size == 1
        box = [_headers(folder) if self._alone or (world is not None and world.is_main) else None]
        if not self._alone:
            dist.broadcast_object_list(box, src=0)
        assert box[0] is not None
        self._metadata: Metadata = box[0]
        self._tensors: dict[str, TensorStorageMetadata] = {
            name: stored
            for name, stored in self._metadata.state_dict_metadata.items()
            if isinstance(stored, TensorStorageMetadata)
        }
        self.sizes = {name: stored.size for name, stored in self._tensors.items()}

    def check(self, names: Iterable[str]) -> None:
        """Raise ValueError unless tensors of these names are there, and each has all its shards."""
        missing = sorted(set(names) - self.sizes.keys())
        if missing:
            raise ValueError(f"tensors are missing ({len(missing)}): {', '.join(missing[:3])}")
        for name, stored in self._tensors.items():
            held = sum(math.prod(chunk.sizes) for chunk in stored.chunks)
            if held != math.prod(stored.size):
                raise ValueError(f"a file with a shard of {name} is missing")

    def read(self, tensors: dict[str, torch.Tensor]) -> None:
        """Fill tensors, plain ones or shards, in place; each process reads what it holds. All processes call this."""
        reader = _Reader(self._folder, self._metadata)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # it is told to load alone
            dcp.load(dict[str, Any](tensors), storage_reader=reader, no_dist=self._alone)


class _Reader(dcp.HuggingFaceStorageReader):
    """A reader that was given the files' headers: of many processes, each would read those of all files."""

    def __init__(self, folder: Path, metadata: Metadata):
        super().__init__(str(folder))
        self._metadata = metadata

    def read_metadata(self) -> Metadata:
        return self._metadata


def _headers(folder: Path) -> Metadata:
    return dcp.HuggingFaceStorageReader(str(folder)).read_metadata()
