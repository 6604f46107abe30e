"""Files behind a URL: read as they come, tried again when that goes wrong, compared with their checksum."""

import hashlib
import logging
import os
import queue
import re
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from fastvid.command import UserError

log = logging.getLogger(__name__)

_CHUNK = 4 << 20
_LONGEST_WAIT = 60.0
_NO_CREDENTIALS = ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError")  # of boto and google


class StreamError(UserError):
    """A file of a streamed data set cannot be had: its message says which, why, and what to do.

    Not an ``OSError``: those make one sample bad, and this is not a sample's fault.
    """


class NotThere(StreamError):
    """Error that is raised when the server has no such file."""


@dataclass(frozen=True)
class Remote:
    """A folder behind a URL.

    Attributes:
        url: anything that fsspec opens: ``https://``, ``s3://``, ``gs://``, ``hf://``, ``file://``, ...
        attempts: times a file is asked for before it is given up.
        wait: seconds before the second attempt; each later wait is twice as long, up to a minute.
        stall: seconds without a byte after which an attempt is given up.
    """

    url: str
    attempts: int = 8
    wait: float = 0.5
    stall: float = 30.0

    def where(self, name: str) -> str:
        """Return the URL of a file, for messages: without passwords and tokens."""
        return without_secrets(_below(self.url, name))

    @property
    def shown(self) -> str:
        """Return the folder's URL, for messages."""
        return without_secrets(self.url)

    def check(self) -> None:
        """Raise ValueError where nothing installed can open the URL."""
        import fsspec
        from fsspec.registry import known_implementations

        protocol = fsspec.utils.get_protocol(self.url)
        try:
            fsspec.get_filesystem_class(protocol)
        except ImportError as error:
            package = known_implementations[protocol]["class"].partition(".")[0]
            package = "fsspec[http]" if package == "fsspec" else package
            raise ValueError(f"{self.shown} cannot be opened: {error} (`pip install '{package}'`)") from error
        except ValueError:
            raise ValueError(
                f"{self.shown} cannot be opened: fsspec knows no protocol {protocol!r}; there are s3, gs, hf, https, "
                "file and others"
            ) from None

    def download(self, name: str, size: int, sha256: str, file: int) -> None:
        """Write a file of known size and checksum to the beginning of an open file.

        Raises:
            StreamError: all attempts failed.
            OSError: it cannot be written.
        """

        def attempt(chunks: Iterator[bytes]) -> None:
            digest, done = hashlib.sha256(), 0
            for chunk in chunks:
                if not done and _is_web_page(chunk):
                    raise _WrongAnswer(f"{_WEB_PAGE}; {_LOGIN}")
                if done + len(chunk) > size:
                    raise _WrongAnswer(f"the answer has more than the {size} bytes that dataset.json says")
                digest.update(chunk)
                _write(file, chunk, done)
                done += len(chunk)
            if done != size:
                raise _WrongAnswer(f"the answer ended after {done} of {size} bytes")
            if digest.hexdigest() != sha256:
                raise _WrongAnswer(
                    f"its sha256 is {digest.hexdigest()} where dataset.json says {sha256}: if the server has it so, "
                    "upload it again"
                )

        self._persist(name, attempt)

    def read(self, name: str, limit: int) -> bytes:
        """Read a file of unknown size, of at most ``limit`` bytes.

        Raises:
            StreamError: all attempts failed.
        """
        whole = bytearray()

        def attempt(chunks: Iterator[bytes]) -> None:
            whole.clear()
            for chunk in chunks:
                if len(whole) + len(chunk) > limit:
                    raise _WrongAnswer(f"the answer has more than {limit} bytes")
                whole.extend(chunk)
                if _is_web_page(whole):
                    raise StreamError(f"{self.where(name)}: {_WEB_PAGE}. {_LOGIN}")

        self._persist(name, attempt)
        return bytes(whole)

    def _persist(self, name: str, attempt: Callable[[Iterator[bytes]], None]) -> None:
        for number in range(1, self.attempts + 1):
            try:
                with closing(self._chunks(name)) as chunks:
                    return attempt(chunks)
            except _Answer as answer:
                error = answer.__cause__ or answer
                _give_up_if_final(error, self.where(name))
            if number == self.attempts:
                raise StreamError(
                    f"{self.where(name)} could not be fetched in {self.attempts} attempts; the last: {_words(error)}. "
                    "Nothing of it was used; start again when this is mended, training goes on where it was"
                ) from error
            wait = min(self.wait * 2 ** (number - 1), _LONGEST_WAIT)
            log.info("%s: %s; attempt %d in %g s", self.where(name), _words(error), number + 1, wait)
            time.sleep(wait)

    def _chunks(self, name: str) -> Generator[bytes, None, None]:
        """Yield the file's bytes. They are read in a thread of their own, which is left behind when it stalls: not
        every file system behind fsspec has timeouts."""
        inbox: queue.Queue[bytes | Exception] = queue.Queue(maxsize=1)
        left = threading.Event()

        def put(item: bytes | Exception) -> None:
            while not left.is_set():
                try:
                    return inbox.put(item, timeout=0.5)
                except queue.Full:
                    continue

        def pull() -> None:
            try:
                with self._open(name) as source:
                    while not left.is_set():
                        data = source.read(_CHUNK)
                        put(data)
                        if not data:
                            return
            except Exception as error:  # raised where the chunks are taken
                put(error)

        threading.Thread(target=pull, name=f"pull {name}", daemon=True).start()
        try:
            while True:
                try:
                    item = inbox.get(timeout=self.stall)
                except queue.Empty:
                    raise _WrongAnswer(f"nothing came for {self.stall:g} s") from None
                if isinstance(item, Exception):
                    raise _Answer from item
                if not item:
                    return
                yield item
        finally:
            left.set()

    def _open(self, name: str):
        import fsspec

        protocol = fsspec.utils.get_protocol(self.url)
        options: dict[str, Any] = {}
        if protocol in ("http", "https"):
            import aiohttp  # its own limit is five minutes for a whole file

            options["client_kwargs"] = {
                "timeout": aiohttp.ClientTimeout(total=None, sock_connect=self.stall, sock_read=self.stall)
            }
        files, path = fsspec.core.url_to_fs(_below(self.url, name), **options)
        if protocol in ("http", "https"):  # one answer, not one for each range; any size spares asking for it first
            return files.open(path, "rb", block_size=0, size=1)
        files.invalidate_cache()  # a listing from before the file was uploaded
        return files.open(path, "rb", block_size=0 if protocol == "hf" else _CHUNK, cache_type="none")


_WEB_PAGE = "the server answered with a web page, not with the file"
_LOGIN = (
    "It may ask for a login, or the URL may be that of a page about the folder: the URL must lead to the files without "
    "a browser; private data needs a URL with its token (?token=...), or s3://, gs://, hf:// with credentials"
)


def without_secrets(text: str) -> str:
    """Return a text without the user names, passwords, queries and fragments of the URLs in it."""
    text = re.sub(r"(\w://)[^/@\s'\"]+@", r"\1...@", text)
    return re.sub(r"(\w://[^\s?#'\"<>]*)[?#][^\s'\"<>)]+", r"\1?...", text)


def name_of_place(place: str) -> str:
    """Return the last part of a path or URL, for what is published: no folder of this machine, and of a URL no user
    name, password, query or fragment.

    Example:
        >>> name_of_place("https://ada:secret@example.org/clips/shards/?token=secret")
        'shards'
    """
    if "://" not in place:
        return PurePath(place).name
    # A query may hold a URL itself, so what is behind the first mark goes before anything is split.
    host, _, path = re.split(r"[?#]", place, maxsplit=1)[0].rpartition("://")[2].partition("/")
    return PurePath(path).name or host.rpartition("@")[2]


def _below(url: str, name: str) -> str:
    """Return the URL of a file in the folder at ``url``; of a web server, the folder's query is the file's too."""
    scheme, separator, rest = url.partition("://")
    if scheme not in ("http", "https"):
        return f"{url.rstrip('/')}/{name}"
    rest, _, _ = rest.partition("#")
    path, mark, query = rest.partition("?")
    return f"{scheme}{separator}{path.rstrip('/')}/{name}{mark}{query}"


def _is_web_page(data: bytes | bytearray) -> bool:
    return bytes(data[:256]).lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith((b"<!doctype html", b"<html"))


class _Answer(Exception):
    """Error of the server, as opposed to a full local disk."""


class _WrongAnswer(_Answer):
    pass


def _write(file: int, data: bytes, at: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written


def _give_up_if_final(error: BaseException, where: str) -> None:
    """Raise StreamError where another attempt would meet the same."""
    status = getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403) or isinstance(error, PermissionError) or type(error).__name__ in _NO_CREDENTIALS:
        raise StreamError(
            f"access to {where} was refused: {_words(error)}. Give this process credentials as fsspec's file system "
            "for this protocol expects them (environment, configuration file, or login)"
        ) from error
    if status in (404, 410) or (isinstance(error, FileNotFoundError) and status is None):
        raise NotThere(f"{where} is not there") from error


def _words(error: BaseException) -> str:
    text = str(error) if isinstance(error, _WrongAnswer) else f"{type(error).__name__}: {error}"
    return without_secrets(text)
