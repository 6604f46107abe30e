"""Error handling of every ``python -m fastvid...`` command: one sentence for a user's mistake, a traceback for a bug.

Exit codes: 0 for success; 1 where the work itself failed, for some of its files or runs, or with a traceback; 2 for
what the user can put right, said in a sentence; 130 after Ctrl-C; 141 where the reader of its output is gone.

The standard library alone is imported here, so that a Ctrl-C during the heavy imports of a command finds this module.
"""

import atexit
import contextlib
import errno
import functools
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fastvid.files import cache_dir
from fastvid.names import print_any_name
from fastvid.units import size

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_ours = False  # whether this process is that of a command, and its Ctrl-C handled here
_interrupted = False  # whether a command was ended by Ctrl-C
_REFUSED = (errno.EACCES, errno.EPERM, errno.EROFS)


class UserError(Exception):
    """An error that the user can fix; reported as one sentence, without a traceback."""


@contextlib.contextmanager
def user_errors(*kinds: type[Exception]) -> Iterator[None]:
    """Turn exceptions whose message is a sentence for the user into :class:`UserError`.

    Put it around calls whose documentation says that they raise ``kinds`` for wrong input; a bug elsewhere keeps its
    traceback.
    """
    try:
        yield
    except kinds as error:
        if isinstance(error, OSError):
            raise UserError(sentence(error)) from error
        raise UserError(str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)) from error


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Decorate the main function of a command, which returns its exit code."""

    @functools.wraps(main)
    def guarded(*arguments: Any, **options: Any) -> int:
        _interrupt_as_usual()
        print_any_name()
        try:
            code = main(*arguments, **options)
            sys.stdout.flush()  # a full disk behind `> file` is met here, and not after the last handler
            return code
        except UserError as error:
            print(error, file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            _note_interrupt()
            return 130
        except BrokenPipeError:
            _discard_output()
            return 141
        except OSError as error:
            if error.errno in DISK_FULL:
                _discard_output()
            print(sentence(error), file=sys.stderr)
            return 2
        finally:
            _outcome_is_decided()

    return guarded


def sentence(error: OSError) -> str:
    """Describe an OSError: which file, what is wrong, and what to do."""
    where = os.fspath(error.filename) if isinstance(error.filename, str | os.PathLike) else None
    if error.errno in DISK_FULL:
        return f"{_cannot_write(where)}: {_why_full(error, where)}. Make room and give the same command again"
    if not error.strerror or where is None:
        return str(error) or type(error).__name__
    reason = f"{where}: {error.strerror}"
    if Path(where).absolute().is_relative_to(cache_dir().absolute()):
        return f"{reason}. Data that fastvid makes is kept there: set FASTVID_CACHE to a folder that can be written to"
    return f"{reason}. Give a path that this user may use" if error.errno in _REFUSED else reason


def interrupt_quietly() -> None:
    """Make a Ctrl-C end this process with exit code 130 and no output, until a command's main function begins. Does
    nothing where SIGINT is not handled as usual.
    """
    global _ours
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        _ours = True
        atexit.register(_end_if_interrupted)  # before all others, so that it runs after them
        signal.signal(signal.SIGINT, _end_quietly)


@contextlib.contextmanager
def loading() -> Iterator[None]:
    """End the process with exit code 130 and no output on a Ctrl-C inside.

    Put it around a command's imports of large packages. Nothing can be lost there, and a KeyboardInterrupt would not
    always come through: imports run native code, and code that catches it. Does nothing in a process that does not run
    a fastvid command.
    """
    quiet = _ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if quiet:
        signal.signal(signal.SIGINT, _end_quietly)
    try:
        yield
    finally:
        if quiet:
            _interrupt_as_usual()


def _end_quietly(signum: int, frame: object) -> None:
    os._exit(130)


def _interrupt_as_usual() -> None:
    if signal.getsignal(signal.SIGINT) is _end_quietly:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _outcome_is_decided() -> None:
    """Ignore a Ctrl-C while Python ends, which takes a second after torch: the signal would kill the process."""
    if _ours:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _note_interrupt() -> None:
    global _interrupted
    _interrupted = True


def _end_if_interrupted() -> None:
    """Exit with 130 where Python would not. A KeyboardInterrupt that passed through ``exec``, as in the making of a
    dataclass, makes Python end by the signal, although it was caught.
    """
    if _interrupted:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(130)


def _discard_output() -> None:
    """Drop what is still in the buffer of stdout, which would fail again when Python ends."""
    with contextlib.suppress(OSError, ValueError):  # it has no descriptor under a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _cannot_write(where: str | None) -> str:
    return "a file cannot be written" if where is None else f"{where} cannot be written"


def _why_full(error: OSError, where: str | None) -> str:
    if error.errno == errno.EDQUOT:
        return "the disk quota is used up"
    if error.errno == errno.EFBIG:
        return "it is larger than the limit on the size of a file (ulimit -f)"
    if where is None:
        return "the disk is full"
    folder = Path(where).absolute()
    while not folder.is_dir():
        folder = folder.parent
    return f"the disk is full ({size(shutil.disk_usage(folder).free)} free in {folder})"
