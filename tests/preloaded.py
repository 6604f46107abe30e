"""Runs of ``python -m fastvid...`` in processes that have already imported what takes seconds.

A server imports it once and forks for each run. A run has a process, a folder, an environment and output of its own, as
``subprocess.run`` would give it; only what acts while modules are imported, such as a variable for OpenMP, cannot be
set. Runs that are killed, that fork servers of their own or that come under a launcher take ``subprocess``.
"""

import atexit
import contextlib
import functools
import importlib
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

from tests.waiting import HANG, wait_for

MODULES = (
    "fastvid.train.__main__", "fastvid.eval.__main__", "fastvid.projects.salt.recipe", "fastvid.projects.vjepa2.recipe",
    "torch.utils.tensorboard", "matplotlib.pyplot", "timm", "transformers.models.auto.modeling_auto",
)  # fmt: skip


def run(module: str, *arguments: str, env: dict[str, str], cwd: Path | None = None) -> subprocess.CompletedProcess:
    """Run ``python -m module arguments`` to its end.

    Args:
        module: name of the module.
        arguments: of the command line.
        env: environment of the run.
        cwd: working directory; default: this process's.

    Raises:
        TimeoutError: it hangs; it is killed.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        request = (module, list(arguments), dict(env), str(cwd or Path.cwd()), str(out), str(err))
        with Client(_server()) as connection:
            connection.send(request)
            process = connection.recv()
            if not connection.poll(HANG):
                os.kill(process, 9)
                raise TimeoutError(f"{module} {arguments} hangs: {err.read_text()}")
            code = connection.recv()
        command = [sys.executable, "-m", module, *arguments]
        return subprocess.CompletedProcess(command, code, out.read_text(), err.read_text())


@functools.cache
def _server() -> str:
    """Start the server of this process and return its address."""
    folder = Path(tempfile.mkdtemp(prefix="preloaded-"))
    address = folder / "socket"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    process = subprocess.Popen([sys.executable, "-m", __name__, str(address)], env=environment, stdin=subprocess.PIPE)
    atexit.register(process.kill)
    wait_for(lambda: address.exists() or process.poll() is not None)
    assert process.poll() is None, "the server of preloaded runs did not start"
    return str(address)


def _requests(address: str) -> Iterator[tuple]:
    """Fork for each request: the child gets it, the server goes on and answers with the process and its exit code."""
    listener = Listener(f"{address}.new", "AF_UNIX")
    os.rename(f"{address}.new", address)  # it is there once it listens, which is later than the file
    while True:
        with contextlib.suppress(EOFError), listener.accept() as connection:
            request = connection.recv()
            child = os.fork()
            if child == 0:
                yield request
                return
            connection.send(child)
            _answer(connection, child)


def _answer(connection: Connection, child: int) -> None:
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(BrokenPipeError):
        connection.send(os.waitstatus_to_exitcode(status))


def _become(module: str, arguments: list[str], env: dict[str, str], cwd: str, out: str, err: str) -> None:
    """Turn this process into the run."""
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    for path, number in ((os.devnull, 0), (out, 1), (err, 2)):
        file = os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600)
        os.dup2(file, number)
        os.close(file)
    sys.argv = [module, *arguments]
    sys.path[0] = cwd
    sys.modules.pop(f"{module}.__main__", None)  # else runpy warns that it was imported before
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    for name in MODULES:
        importlib.import_module(name)
    for asked in _requests(sys.argv[1]):
        try:
            _become(*asked)
        except Exception:
            traceback.print_exc()
            sys.exit(1)
