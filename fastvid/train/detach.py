"""Runs that outlive the shell that started them."""

import json
import subprocess
import sys
import time
from pathlib import Path

from fastvid.train.config import Launch

# Seconds in which a detached run is watched for a mistake in its options; opening data and models takes most of it.
_SETTLING = 30


def _has_begun(path: Path, pid: int) -> bool:
    """Return whether process ``pid`` has reported a training step of the run."""
    file = path / "status.json"
    status = json.loads(file.read_text()) if file.exists() else {}
    return status.get("pid") == pid and "step" in status


def start_detached(path: Path, launch: Launch) -> int:
    """Start the same command in a session of its own, and return at once."""
    arguments = [a for a in sys.argv[1:] if a != "--detach"]
    if launch.resume is None and not any(a.split("=")[0] == "--run.dir" for a in arguments):
        arguments += ["--run.dir", str(path)]
    made = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    with (path / "console.txt").open("ab") as console:
        child = subprocess.Popen(
            [sys.executable, "-m", "fastvid.train", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            start_new_session=True,
        )
    deadline = time.monotonic() + _SETTLING
    while time.monotonic() < deadline and not _has_begun(path, child.pid):
        if child.poll() is not None:  # a mistake shows here, not in a file that nobody opens
            print((path / "console.txt").read_text()[-2000:], file=sys.stderr)
            if not (path / "config.json").exists():  # it was refused: nothing is left of it
                (path / "console.txt").unlink()
                for folder in made:
                    folder.rmdir()
            return child.returncode
        time.sleep(0.2)
    print(f"running in {path} as process {child.pid}; follow it with: tail -f {path}/log.txt")
    return 0
