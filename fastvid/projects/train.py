"""Training from Python, such as a notebook: what ``python -m fastvid.train`` does, in this process."""

import contextlib
import dataclasses
import logging
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from fastvid.projects import registry
from fastvid.ranges import check_numbers
from fastvid.report.records import RunRecords


def train(name: str, config: Any) -> RunRecords:
    """Train a new run of a project in this process, and return its records.

    Call it from the main thread. Ctrl-C stops the run in good order, with its state saved. Logging and signal handlers
    are afterwards as they were.

    Args:
        name: the project's name.
        config: the project's configuration, such as ``SaltConfig()``. With ``run.dir`` None the run gets a new
            directory below ``runs/``.

    Returns:
        The run's directory (``path``), its ``metrics``, configuration, probes and result.

    Raises:
        UserError: an option is out of its range.
        RuntimeError: the run did not finish; the message says where its log is.

    Example:
        >>> from fastvid.projects import salt
        >>> from fastvid.projects.salt.presets import demo
        >>> run = salt.train(demo())
        >>> run.path, run.metrics[-1]["loss"]
    """
    from fastvid.train.config import Launch
    from fastvid.train.paths import with_absolute_paths
    from fastvid.train.session import choose_dir, start

    check_numbers(config)
    launch = Launch()
    folder = choose_dir(name, config.run, launch)
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, dir=str(folder)))
    config = with_absolute_paths(config, Path.cwd())
    project = registry.find(name)
    run = resolve_name(project.run)
    report = None if project.report is None else resolve_name(project.report)
    with restored():
        code = start(name, config, config.run, launch, lambda session: run(session, config), report)
    if code:
        log = folder / "log.txt"
        where = f"see {log}" if log.exists() else "nothing was made; the reason is logged above"
        raise RuntimeError(f"the run in {folder} ended with exit code {code}: {where}")
    return RunRecords.read(folder)


@contextlib.contextmanager
def restored() -> Iterator[None]:
    """Put logging, signal handlers and the hook of threads back as they were before the block."""
    root = logging.getLogger()
    handlers, level, hook = root.handlers[:], root.level, threading.excepthook
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:], threading.excepthook = handlers, hook
        root.setLevel(level)
        logging.captureWarnings(False)
        for number, before in signals.items():
            signal.signal(number, before)
