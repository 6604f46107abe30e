"""The safetensors files that a pretrained model lies in: which they are, and what they hold."""

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

_PATIENCE = 5  # seconds for the hub to answer
_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"


@dataclass(frozen=True)
class WeightFiles:
    """The weight files of a model, with their headers.

    Attributes:
        source: hub name, folder or file, for messages.
        revision: commit of the hub's repository; empty for local files.
        paths: the files.
        shapes: shape of each tensor.
        dtypes: names of the dtypes in the files, such as ``"float32"``.
    """

    source: str
    revision: str
    paths: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    dtypes: tuple[str, ...]

    def read(self) -> dict[str, torch.Tensor]:
        """Read all tensors to the CPU, in the dtypes of the files."""
        tensors: dict[str, torch.Tensor] = {}
        for path in self.paths:
            with safe_open(path, framework="pt") as file:
                tensors.update((name, file.get_tensor(name)) for name in file.keys())  # noqa: SIM118
        return tensors


def find_weights(source: str, *, revision: str | None = None, names: Sequence[str] = (_SINGLE,)) -> WeightFiles:
    """Find a model's safetensors and read their headers. A pickle is never opened.

    Args:
        source: a folder, a hub name, or a file.
        revision: revision of the hub's repository; None for its main branch.
        names: files to look for, the first that is there; then for shards with an index.

    Raises:
        FileNotFoundError: no safetensors there, or a shard is missing.
        ValueError: a damaged file, a file of another format, or an index that does not fit its shards.
        OSError: a file that cannot be read.
    """
    if (file := Path(source).expanduser()).is_file():
        return _described(source, [file])
    for name in names:
        if path := find_file(source, name, revision):
            return _described(source, [path])
    index = find_file(source, _INDEX, revision)
    if index is None:
        raise FileNotFoundError(
            f"no {' or '.join(names)} at {source!r}: only safetensors are read, so convert a pickle such as "
            "pytorch_model.bin once (from_pretrained, then save_pretrained), and download a hub model before going "
            "offline"
        )
    places = read_json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(place, str) for place in places.values()):
        raise ValueError(f"{index} is damaged: it has no weight_map of tensor names to files; download it anew")
    shards = sorted(set(places.values()))
    found = [find_file(source, shard, revision) for shard in shards]
    if absent := [shard for shard, path in zip(shards, found, strict=True) if path is None]:
        raise FileNotFoundError(
            f"{source!r} lacks {len(absent)} of its {len(shards)} files of weights ({listed(absent)}): download them"
        )
    weights = _described(source, [path for path in found if path is not None])
    if lost := sorted(places.keys() - weights.shapes.keys()):
        raise ValueError(f"{index} names {len(lost)} tensors that its files lack ({listed(lost)}): download them anew")
    return weights


def find_file(source: str, name: str, revision: str | None = None) -> Path | None:
    """Find a file in a local folder, or of a hub name in the hub or its cache. Return None if it does not exist.

    Without a connection to the hub, its cache here alone is looked at, at once.

    Raises:
        FileNotFoundError: ``source`` is neither a folder nor a name that the hub knows; or the hub cannot be reached
            and nothing of it was downloaded before.
        OSError: the hub answers with an error.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        path = folder / name
        return path if path.exists() else None
    try:
        if (error := hub_error()) is not None:
            return _downloaded(source, name, revision, error)
        from transformers.utils import cached_file  # seconds that only those pay who ask the hub

        found = cached_file(source, name, revision=revision, _raise_exceptions_for_missing_entries=False)
    except HubUnreachable:
        raise
    except (OSError, ValueError) as error:
        raise FileNotFoundError(
            f"no model at {source!r}: it must be a folder with config.json and model.safetensors, or a name that the "
            f"hub (or its cache here) knows: {first_line(error)}"
        ) from error
    return None if found is None else Path(found)


class HubUnreachable(FileNotFoundError):
    """Error that is raised when a model was not downloaded before and the hub cannot be reached."""


def hub_error() -> str | None:
    """Explain why the hub cannot be reached, or return None if it answers. A process asks it once, without retries."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    return _connection_error(constants.ENDPOINT)


@functools.cache
def _connection_error(endpoint: str) -> str | None:
    from huggingface_hub import get_session

    try:
        get_session().head(endpoint, timeout=_PATIENCE)  # any answer will do
    except Exception as error:  # of any type: it depends on what huggingface_hub sends requests with
        return first_line(error)
    return None


def _downloaded(source: str, name: str, revision: str | None, error: str) -> Path | None:
    """Find a file in the hub's cache. Return None where the cached model does not have it.

    Raises:
        HubUnreachable: nothing of the model is there.
        ValueError: it cannot be a name on the hub.
    """
    from huggingface_hub import constants, try_to_load_from_cache

    cache = Path(constants.HF_HUB_CACHE)
    found = try_to_load_from_cache(source, name, cache_dir=cache, revision=revision)
    if isinstance(found, str):
        return Path(found)
    if any((cache / f"models--{source.replace('/', '--')}" / "snapshots").glob("*")):
        return None
    raise HubUnreachable(
        f"the model {source!r} cannot be reached: it is not a folder here, the Hugging Face hub does not answer "
        f"({error}), and it was not downloaded before; go online, or give a local folder with config.json and "
        "model.safetensors"
    )


def local_or_hub(source: str) -> str:
    """Return ``source`` as transformers takes it: a folder with ``~`` expanded, or a hub name. Without a connection to
    the hub it is the folder of what was downloaded, for transformers would ask again and again for what is not
    there."""
    folder = Path(source).expanduser()
    if folder.is_dir():
        return str(folder)
    config = find_file(source, "config.json") if hub_error() is not None else None
    return source if config is None else str(config.parent)


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        ValueError: it does not.
        OSError: it cannot be read.
    """
    try:
        fields = json.loads(path.read_bytes())
    except ValueError as error:  # of JSON or of UTF-8
        raise ValueError(f"{path} is damaged: {first_line(error)}; download or save it anew") from error
    except OSError as error:
        raise type(error)(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(fields, dict):
        raise ValueError(f"{path} is damaged: it holds no JSON object; download or save it anew")
    return fields


def listed(names: Sequence[str], most: int = 3) -> str:
    """Return the first few names."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, or the error's type where it has none."""
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _described(source: str, paths: Sequence[Path]) -> WeightFiles:
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: set[str] = set()
    for path in paths:
        if path.suffix != ".safetensors":
            raise ValueError(
                f"{path} is not a safetensors file, the only format that is read: convert it once, as with "
                "safetensors.torch.save_file"
            )
        try:
            with safe_open(path, framework="pt") as file:
                for name in file.keys():  # noqa: SIM118
                    header = file.get_slice(name)
                    shapes[name] = tuple(header.get_shape())
                    dtypes.add(_DTYPES.get(header.get_dtype(), header.get_dtype()))
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged: {first_line(error)}; download or save it anew") from error
        except OSError as error:
            raise type(error)(f"{path} cannot be read: {error.strerror or first_line(error)}") from error
    # A file of the hub's cache lies in .../snapshots/COMMIT/.
    folders = paths[0].parts
    hub = "snapshots" in folders and not Path(source).expanduser().exists()
    revision = folders[folders.index("snapshots") + 1] if hub else ""
    return WeightFiles(source, revision, tuple(paths), shapes, tuple(sorted(dtypes)))


_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
