"""File names as text that can be printed, hashed and stored.

Linux takes any bytes as a file name. Python reads bytes that are no UTF-8 as lone surrogates, which no encoding
accepts.
"""

import io
import re
import sys

_LONE = re.compile("[\ud800-\udfff]")


def spelled(name: object) -> str:
    r"""Spell out the bytes of a file name that are not UTF-8, as ``\xff``. Any other text is returned unchanged.

    Example:
        >>> spelled("run/caf\udce9.mp4")
        'run/caf\\xe9.mp4'
    """
    return _LONE.sub(_escape, str(name))


def print_any_name() -> None:
    """Prepare this process's output for any file name: what its encoding lacks is spelled out instead of raising
    UnicodeEncodeError."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    # Python maps the bytes 0x80 to 0xff to U+DC80 to U+DCFF (PEP 383).
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else f"\\u{code:04x}"
