"""A folder that an export writes: complete or not at all, and nothing of the user's is written over."""

import contextlib
import os
import shutil
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from fastvid.files import whole_folder


@contextlib.contextmanager
def exported_folder(folder: Path, names: Sequence[str], overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write in, which becomes ``folder`` at the end, in place of an earlier export.

    Args:
        folder: absolute; new or empty, or an earlier export.
        names: patterns of the names of all files that an export may write.
        overwrite: replace an earlier export.

    Raises:
        ValueError: ``folder`` is not to be written to.
    """
    _check_target(folder, names, overwrite)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        with whole_folder(folder, sync=False) as partial:
            yield partial
            if folder.exists() and any(folder.iterdir()):
                _check_target(folder, names, overwrite)  # again: writing takes a while
                folder.rename(old)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def share_files(folder: Path) -> None:
    """Give all files the mode of README.md: safetensors writes files for their owner alone."""
    for path in folder.iterdir():
        shutil.copymode(folder / "README.md", path)


def _check_target(folder: Path, names: Sequence[str], overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a new folder")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    if not overwrite:
        raise ValueError(f"{folder} is not empty: give a new folder, or --overwrite to replace an earlier export")
    # What an export did not write is not removed by one.
    if foreign := sorted(name for name in found if not any(fnmatch(name, pattern) for pattern in names)):
        raise ValueError(f"{folder} holds other files than an export's, such as {foreign[0]!r}: give a new folder")
