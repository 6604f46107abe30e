"""FFmpeg's shared libraries as PyAV's wheel brings them, under the names that torchcodec looks for."""

import re
from pathlib import Path

import av

_FOLDER = Path(av.__file__).parent.parent / "av.libs"


def link_libraries(folder: Path) -> str | None:
    """Links them into ``folder``; returns the LD_LIBRARY_PATH to start Python with, None where there are none.

    A wheel's libraries carry a hash in their names (libavutil-5809ad29.so.60.26.102), so that they meet no others.
    """
    found = False
    for file in _FOLDER.glob("lib*"):
        match = re.fullmatch(r"(lib(?:av|sw)[a-z]+)-[0-9a-f]+\.so\.(\d+)[.\d]*", file.name)
        if match:
            (folder / f"{match[1]}.so.{match[2]}").symlink_to(file)
            found = True
    return f"{folder}:{_FOLDER}" if found else None
