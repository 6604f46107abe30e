"""Opening of a path or URL as a source."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastvid.data.labels.lerobot import is_lerobot
from fastvid.data.source import Source
from fastvid.data.sources.concat import join
from fastvid.data.sources.shard_folders import shard_folders
from fastvid.names import spelled


def open_source(
    path: str | Path,
    labels: str | Path | None = None,
    *,
    cache_dir: str | Path | None = None,
    disk_bytes: int = 8 << 30,
    window: int = 16,
    cameras: Sequence[str] = (),
) -> Source:
    """Open videos at a path or URL.

    Args:
        path: a folder with WebDataset tar shards, one such shard, a LeRobot data set, a folder tree of video files, or
            one video file; or the URL of a folder of shards with their ``dataset.json`` (``https://``, ``s3://``,
            ``gs://``, ``hf://``, ``file://``, ... as fsspec knows them).
        labels: a table of paths (below the folder) and labels, for a folder of videos, as
            :func:`fastvid.data.labels.table.read_label_table` reads it; by default a video's label is in the lists of
            Something-Something V2 where these are there, or else the name of the folder it is in, below ``path``.
        cache_dir: where shards from a URL are kept; default: ``$FASTVID_CACHE``, or the user's cache directory.
        disk_bytes: most bytes that they take there. Processes with the same ``cache_dir`` share it.
        window: shards that the order mixes: two windows must fit into ``disk_bytes``.
        cameras: of a LeRobot data set, the cameras that are wanted; default: all.

    Returns:
        A :class:`Source` with at least one sample.

    Raises:
        FileNotFoundError: nothing is there, or a URL has no ``dataset.json``.
        ValueError: no videos are there, or videos beside tar files, a folder cannot be read, the labels do not fit
            them, a URL cannot be opened, the cache is too small, or cameras are named and there are none.
    """
    if cameras and ("://" in str(path) or not is_lerobot(Path(path).expanduser())):
        raise ValueError(f"--data.cameras is for LeRobot data sets, which have a meta/info.json; {path} is none")
    if "://" in str(path):
        from fastvid.data.sources.open_stream import open_stream
        from fastvid.data.storage.remote import Remote, without_secrets
        from fastvid.files import cache_dir as default_cache

        if labels is not None:
            where = without_secrets(str(path))
            raise ValueError(f"--data.labels is for folders of videos; the shards in {where} carry their own labels")
        folder = default_cache() if cache_dir is None else Path(cache_dir).expanduser()
        return open_stream(Remote(str(path)), folder, disk_bytes, window)

    try:
        return _open_local(Path(path).expanduser(), labels, cameras)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"{spelled(error.filename or path)} cannot be read: {error.strerror or error}") from error


def _open_local(path: Path, labels: str | Path | None, cameras: Sequence[str]) -> Source:
    from fastvid.data.shards.reader import LocalShards, ShardSource, open_shards
    from fastvid.data.sources.folder import FolderSource
    from fastvid.data.sources.shard_folders import require_only_shards
    from fastvid.data.walk import shards_in

    if not path.exists():
        raise FileNotFoundError(f"no data at {spelled(path)}: give a folder of videos or of tar shards")
    folder = path.is_dir()
    if folder and is_lerobot(path):
        from fastvid.data.sources.lerobot import LeRobotSource

        if labels is not None:
            raise ValueError(f"--data.labels is for folders of videos; in {path}, a LeRobot data set, tasks are labels")
        return LeRobotSource(path, cameras)
    shards = shards_in(path) if folder else [path] if path.suffix == ".tar" else []
    if not shards:
        return FolderSource(path, labels)
    if labels is not None:
        raise ValueError(f"--data.labels is for folders of videos; the shards in {path} carry their own labels")
    if not folder:
        files = LocalShards(shards)
        return ShardSource(files, files.sizes(), str(path), folder=path.parent)
    require_only_shards(path)
    return open_shards(path, shards)


def open_parts(path: str | Path, labels: str | Path | None = None, **options: Any) -> Source:
    """Open videos with :func:`fastvid.data.open_source`, where the parts may lie in folders of their own.

    A folder whose sub-folders train, val (valid, validation) or test hold tar shards, as ``fastvid.data pack`` and the
    demo data set write them, becomes one source whose keys begin with the part's folder. Anything else is opened as it
    is; so is a URL, which must be that of one folder of shards.

    Args:
        path: see :func:`fastvid.data.open_source`.
        labels: likewise.
        options: likewise.

    Raises:
        FileNotFoundError, ValueError: as there.
    """
    parts = {} if "://" in str(path) else shard_folders(Path(path).expanduser())
    if not parts or "" in parts:
        return open_source(path, labels, **options)
    if labels is not None:
        raise ValueError(f"--data.labels is for folders of videos; the shards in {path} carry their own labels")
    return join({name: open_source(part, **options) for name, part in parts.items()})
