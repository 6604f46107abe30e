"""Sample keys out of file names."""

import hashlib
import posixpath

from fastvid.data.shards.tar_writer import tar_header
from fastvid.names import spelled

_LONGEST_SUFFIX = ".json"


def key_of(path: str) -> str:
    """Return the key of a video: its relative path without the ending, with ``_`` for dots in the last part (WebDataset
    ends a key at the first dot), and with a hash instead of its beginning where it is too long for a tar.

    Raises:
        ValueError: the path is absolute or leaves its folder.
    """
    path = spelled(path)
    folder, name = posixpath.split(posixpath.normpath(path))
    if folder.startswith("/") or ".." in folder.split("/"):
        raise ValueError(f"{path} is not below the folder that is packed")
    stem = posixpath.splitext(name)[0].replace(".", "_")
    key = "".join(c if c.isprintable() else "_" for c in posixpath.join(folder, stem))
    try:
        tar_header(key + _LONGEST_SUFFIX, 0)
    except ValueError:
        digest = hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
        end = stem.encode()[-60:].decode("utf-8", "ignore")
        key = f"{digest}-{end}"
    return key
