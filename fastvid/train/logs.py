"""Logging: plain lines in the run's log and on the terminal, tracebacks and crashes included."""

import faulthandler
import logging
import logging.handlers
import signal
import sys
import threading
import warnings
from pathlib import Path

from tqdm import tqdm

from fastvid.command import sentence

_FORMAT = "%(asctime)s %(levelname).1s %(message)s"


class _Console(logging.Handler):
    """Writes above a progress bar, if one is drawn."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stderr)


class _LogFile(logging.FileHandler):
    """The run's log; what a full disk refuses is on the terminal, and said to be missing once."""

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
            return
        logging.getLogger().removeHandler(self)
        logging.getLogger(__name__).warning("%s cannot be written (%s): see the terminal", self.baseFilename, error)


class _Held(logging.handlers.MemoryHandler):
    """Keeps all records of the time before the run has a log."""

    def __init__(self) -> None:
        super().__init__(capacity=1, flushOnClose=True)

    def shouldFlush(self, record: logging.LogRecord) -> bool:
        return False


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Log in a sentence that a thread cannot write, such as TensorBoard's on a full disk. A bug keeps its traceback."""
    if isinstance(args.exc_value, OSError):
        logging.getLogger(__name__).warning("%s", sentence(args.exc_value))
    else:
        threading.__excepthook__(args)


def start_logging(*, hold: bool = False) -> None:
    """Send log records, warnings among them, to the terminal.

    Args:
        hold: keep them as well, for the file that :func:`log_to` will name.
    """
    root = logging.getLogger()
    root.setLevel(logging.INFO)
    root.handlers.clear()
    root.addHandler(_formatted(_Console()))
    if hold:
        root.addHandler(_Held())
    threading.excepthook = _thread_failed
    logging.captureWarnings(True)
    warnings.simplefilter("default", category=UserWarning)
    # Of an older matplotlib with a newer pyparsing: dozens, and nothing a user can do.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module="matplotlib")
    for noisy in ("matplotlib", "PIL", "fsspec", "torch.distributed"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def log_to(path: Path) -> None:
    """Send log records to a file as well, beginning with those that were held.

    The file also receives, from faulthandler, the stacks of all threads when the process crashes in native code or is
    sent SIGUSR1.
    """
    root = logging.getLogger()
    file = _formatted(_LogFile(path, encoding="utf-8", errors="backslashreplace"))
    root.addHandler(file)
    for held in [handler for handler in root.handlers if isinstance(handler, _Held)]:
        root.removeHandler(held)
        held.setTarget(file)
        held.close()  # which hands over what it has
    crash_file = path.open("a")  # kept open: faulthandler writes to its descriptor
    faulthandler.enable(crash_file)
    faulthandler.register(signal.SIGUSR1, crash_file)


def _formatted(handler: logging.Handler) -> logging.Handler:
    handler.setFormatter(logging.Formatter(_FORMAT, datefmt="%H:%M:%S"))
    return handler


def progress(total: int, initial: int, description: str, unit: str = "step") -> tqdm:
    """Return a progress bar that is drawn on a terminal only: logs stay free of carriage returns."""
    return tqdm(
        total=total,
        initial=initial,
        desc=description,
        unit=unit,
        dynamic_ncols=True,
        disable=not sys.stderr.isatty(),
    )
