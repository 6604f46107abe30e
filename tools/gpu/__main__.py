"""``tools/gpu_check.sh RESULTS``: checks fastvid on this machine's GPU in ten minutes, or rehearses that on a CPU."""

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from tools.gpu.check import Check
from tools.gpu.files import SUMMARY, write
from tools.gpu.plan import NAMES
from tools.gpu.scale import scale

ROOT = Path(__file__).parents[2]
WORK = ROOT / "build" / "gpu_check"  # packages, caches, runs and logs: in the tree, so that a second call finds them


class Stopped(Exception):
    """This process was asked to end."""


def main() -> int:
    """Run the check, print the summary, and return the exit code: 0 where every stage passed."""
    options = parse()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    results = options.results.absolute()
    wheels = None if options.wheels is None else options.wheels.absolute()
    os.chdir(ROOT)
    environment = {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"])),  # cmake and ninja from wheels
        "TRITON_CACHE_DIR": str(WORK / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(WORK / "inductor"),
        **scale(options.rehearse).environment,
    }
    if wheels is not None:
        packages = install(wheels, WORK / "packages")
        environment["PYTHONPATH"] = os.pathsep.join((environment["PYTHONPATH"], str(packages)))
    check = Check(
        results, WORK, minutes=options.minutes, first=options.first, rehearse=options.rehearse, tune=options.tune,
        commit=options.commit, environment=environment, spent=seconds_alive(),
    )  # fmt: skip
    try:
        check.run()
    except Stopped as reason:
        print(f"stopped: {reason}", flush=True)
        write(check)
    print("\n" + (results / SUMMARY).read_text(), flush=True)
    return int(check.failed)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="tools/gpu_check.sh", description=__doc__)
    parser.add_argument("results", type=Path, metavar="RESULTS", help="folder of at most 6 files that are kept")
    parser.add_argument("--minutes", type=float, default=10.0, help="wall clock of all of it (10)")
    parser.add_argument(
        "--from", dest="first", choices=NAMES, default=NAMES[0], metavar="STAGE",
        help=f"go on with this stage, of {', '.join(NAMES)}; RESULTS keeps what it holds of those before",
    )  # fmt: skip
    parser.add_argument("--rehearse", action="store_true", help="every stage on the CPU, with tiny sizes")
    parser.add_argument("--tune", action="store_true", help="look for better launch parameters before the ops")
    parser.add_argument("--wheels", type=Path, metavar="DIR", help="wheels to install first: tools/gpu_wheels.sh DIR")
    parser.add_argument("--commit", default="", help="of this tree, where it is a copy without git")
    options = parser.parse_args()
    if options.rehearse and importlib.util.find_spec("triton") and (reason := _interpreter_fault()):
        parser.error(f"--rehearse: {reason}")
    return options


def _interpreter_fault() -> str | None:
    from fastvid.ops import _interpreter

    return _interpreter.why_not()


def seconds_alive() -> float:
    """Return the seconds since this process started: the first import of torch from a disk takes some of the check's
    time."""
    started = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
    return float(Path("/proc/uptime").read_text().split()[0]) - started


def install(wheels: Path, packages: Path) -> Path:
    """Install wheels without network into a new folder, and return it, or exit with a sentence."""
    found = sorted(wheels.glob("*.whl"))
    if not found:
        sys.exit(f"--wheels {wheels}: there is no wheel in it; make them with tools/gpu_wheels.sh {wheels}")
    shutil.rmtree(packages, ignore_errors=True)
    command = [
        sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile", "--no-cache-dir",
        "--target", str(packages), *map(str, found),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"--wheels {wheels}: pip ended with {done.returncode}: {done.stderr.strip()[-500:]}")
    return packages


def _stop(number: int, frame: object) -> None:
    raise Stopped(signal.Signals(number).name)


if __name__ == "__main__":
    sys.exit(main())
