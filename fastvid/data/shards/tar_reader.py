"""The members of a tar file, read with suspicion.

Python's tarfile ends silently at a damaged header, and takes a member's word for how much memory its long name needs.
Here a damaged header is an error, every length is bounded, and only plain files with plain names come out.
"""

import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

_BLOCK = 512
_LONGEST_NAME = 64 << 10
_LONGEST_PAX = 1 << 20
_KINDS = {
    b"1": "a hard link", b"2": "a symbolic link", b"3": "a device", b"4": "a device", b"6": "a pipe",
    b"S": "a sparse file",
}  # fmt: skip


@dataclass(frozen=True)
class Member:
    """A regular file in a tar.

    Attributes:
        name: without a leading ``./``.
        offset: offset of its bytes in the tar.
        size: bytes.
        begin: offset of its first header, those that extend its name included.
    """

    name: str
    offset: int
    size: int
    begin: int = 0

    @property
    def end(self) -> int:
        """Return the offset behind its last block."""
        return self.offset + self.size + -self.size % _BLOCK


def tar_members(file: BinaryIO, where: str, length: int | None, refused: Callable[[str], None]) -> Iterator[Member]:
    """Walk through a tar, once and forwards.

    Args:
        file: the tar; the caller may read a member's bytes from it before asking for the next member.
        where: its name, for messages.
        length: length of the tar in bytes, or None where only reading it tells, as with compressed ones.
        refused: called with a sentence for each member that is not passed on: links, devices, sparse files, names that
            are absolute or hold ``..``. Folders are passed over without a word.

    Raises:
        ValueError: a header is damaged, or a member does not fit in the file.
        OSError, EOFError, zlib.error: the file cannot be read, or its compression is damaged.
    """
    at, given, pax_size = 0, "", None
    sparse, begin = False, 0
    while True:
        file.seek(at)
        header = file.read(_BLOCK)
        if len(header) < _BLOCK or header == bytes(_BLOCK):
            if len(header) < _BLOCK:
                if at == 0 or header:
                    raise ValueError(f"{where} is not a readable tar file, or is cut short (at byte {at})")
                refused(f"{where} ends without the mark of an end: members may be missing")
            return
        name, size, kind = _parse(header, where, at)
        if pax_size is not None:
            size = pax_size
        if kind in (b"1", b"2", b"3", b"4", b"5", b"6"):
            size = 0  # nothing follows these, whatever they say
        data, extension = at + _BLOCK, kind in (b"L", b"K", b"x", b"g")
        if kind == b"S":
            data += _sparse_blocks(file, header, where, at)
        following = data + -(-size // _BLOCK) * _BLOCK
        if length is not None and data + size > length:
            raise ValueError(f"{where} is cut short: the member at byte {at} should have {size} bytes")
        if extension:
            if size > (_LONGEST_NAME if kind in (b"L", b"K") else _LONGEST_PAX):
                raise ValueError(f"{where}: a name of {size} bytes at byte {at}; no such name is accepted")
            content = file.read(size)
            if len(content) < size:
                raise ValueError(f"{where} is cut short (at byte {at})")
            if kind == b"L":
                given = _text(content.rstrip(b"\0"))
            elif kind == b"x":
                fields = _pax(content, where, at)
                given = fields.get("path", given)
                pax_size = _pax_size(fields["size"], where, at) if "size" in fields else pax_size
                sparse = any(field.startswith("GNU.sparse") for field in fields)
            elif kind == b"g" and {"path", "size"} & set(_pax(content, where, at)):
                raise ValueError(f"{where}: a global name or size at byte {at}; no such tar is accepted")
        else:
            name = (given or name).removeprefix("./")
            if kind in _KINDS or sparse:
                refused(f"{where}: {name!r} is {'a sparse file' if sparse else _KINDS[kind]}: passed over")
            elif kind not in (b"0", b"\0", b"7", b"5"):
                refused(f"{where}: {name!r} is of the unknown kind {kind!r}: passed over")
            elif not _sane(name):
                refused(f"{where}: {name!r:.200} is not a plain relative name: passed over")
            elif kind != b"5" and not name.endswith("/"):
                yield Member(name, data, size, begin)
            given, pax_size, sparse, begin = "", None, False, following
        at = following


def _parse(header: bytes, where: str, at: int) -> tuple[str, int, bytes]:
    """Return name, size and kind from a plain header."""
    total = sum(header) - sum(header[148:156]) + 8 * 32
    try:
        stored = tarfile.nti(header[148:156])  # type: ignore[attr-defined]
        size = tarfile.nti(header[124:136])  # type: ignore[attr-defined]
    except tarfile.HeaderError:
        stored = size = -1
    if stored != total or size < 0:
        raise ValueError(f"{where} is not a readable tar file: the header at byte {at} is damaged")
    name = header[:100].split(b"\0", 1)[0]
    prefix = header[345:500].split(b"\0", 1)[0] if header[257:263] == b"ustar\0" else b""
    return _text(prefix + b"/" + name if prefix else name), size, header[156:157]


def _sparse_blocks(file: BinaryIO, header: bytes, where: str, at: int) -> int:
    """Count the bytes of the blocks that continue the table of a sparse file."""
    size, more = 0, header[482:483]
    while more not in (b"", b"\0"):
        block = file.read(_BLOCK)
        if len(block) < _BLOCK:
            raise ValueError(f"{where} is cut short (at byte {at})")
        size, more = size + _BLOCK, block[504:505]
    return size


def _pax(content: bytes, where: str, at: int) -> dict[str, str]:
    fields = {}
    while content.rstrip(b"\0"):
        digits, space, _ = content[:20].partition(b" ")
        length = int(digits) if digits.isdigit() else 0
        field, equals, value = content[len(digits) + 1 : length - 1].partition(b"=")
        if not space or not equals or length > len(content) or content[length - 1 : length] != b"\n":
            raise ValueError(f"{where}: the extended header at byte {at} is damaged")
        fields[_text(field)] = _text(value)
        content = content[length:]
    return fields


def _pax_size(text: str, where: str, at: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ValueError(f"{where}: the extended header at byte {at} is damaged")
    return int(text)


def _text(name: bytes) -> str:
    return name.decode("utf-8", "backslashreplace")  # as fastvid.names.spelled


def _sane(name: str) -> bool:
    return bool(name) and name.isprintable() and not name.startswith("/") and ".." not in name.split("/")
