"""Stage "ops": every op against plain PyTorch, eager and compiled, and against a copy.

First all that is compared is compiled, side by side, into the caches on the disk. Then one process measures, what is
worth most first; its rows are kept as they come, and where it dies another goes on with the next benchmark.
"""

import shutil
import subprocess
import sys
import time
from pathlib import Path

from tools.gpu import outcomes
from tools.gpu.plan import TUNE
from tools.gpu.record import Task, one_line, read_lines, stage
from tools.gpu.runner import run
from tools.gpu.scale import FEW_THREADS, side_by_side

ROOT = Path(__file__).parents[2]
FILES = tuple(
    f"benchmarks/ops/bench_{name}.py"
    for name in (
        "gather_tokens", "gather_tubelets", "masked_latent_loss", "foveated_glimpse", "query_attend", "multiblock_mask",
    )
)  # fmt: skip
# Parts of the names of the benchmarks that are measured first: the targets of each op, then what comes.
WORTH = (
    "test_gather_tokens[ViT-L 8x L2]", "test_gather_tubelets_alone[ViT-L 8x L2]",
    "test_masked_latent_loss[ViT-L 8x L2]", "test_masked_latent_loss[ViT-B B32]", "test_glimpses[8x L2",
    "test_glimpses[B8 ", "test_query_attend[h12 N257", "test_multiblock_mask[salt]", "test_multiblock_mask[multiblock]",
    "test_gather_tokens[ViT-B B32]", "test_patch_embedding_at_a_quarter_visible[ViT-B B32]", "test_gaze_gradient[B8 ",
    "test_multiblock_mask", "test_query_attend[h3 N257",
)  # fmt: skip
_COMPILING = 0.35  # of the time that is left, at most


_SLOWEST = 45.0  # seconds of a benchmark that comes to an end


class Stuck(Exception):
    """A benchmark that takes too long to be one that comes to an end."""


def main(task: Task) -> None:
    """Tune if requested, then compile and measure."""
    if task.tune:
        with task.record.part("tune"):
            tune(task)
    names = collect(task)
    task.record.value("benchmarks", len(names))
    with task.record.part("compile"):
        compile_all(task)
    measure(task, names)


def tune(task: Task) -> None:
    """Look for faster launches, with which the ops are then measured. Raise where that fails."""
    table = ROOT / task.scale.launches
    command = [
        sys.executable, "-m", "benchmarks.tune", "--out", str(table), "--seconds", f"{TUNE - 30:.0f}",
        "--device", task.scale.device.kind,
    ]  # fmt: skip
    ended = run(command, TUNE, task.work / "logs" / "tune.log", {})
    lines = (task.work / "logs" / "tune.log").read_text(errors="replace").strip().splitlines()
    if ended.killed or ended.code:
        why = "was killed at its cap" if ended.killed else f"ended with {ended.code}"
        raise RuntimeError(f"benchmarks.tune {why}: {lines[-1] if lines else 'no output'}")
    task.record.value("tuned", lines[-1] if lines else "")
    shutil.copyfile(table, task.results / "launches.json")


def pytest_command(task: Task, *arguments: str) -> list[str]:
    """Return the pytest command for benchmarks."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--device", task.scale.device.kind]
    return [*command, *arguments]


def collect(task: Task) -> list[str]:
    """Collect the benchmarks' ids, the most valuable first."""
    chosen = ["-k", task.scale.benchmarks] if task.scale.benchmarks else []
    command = pytest_command(task, "--collect-only", *chosen, *FILES)
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    names = [line for line in done.stdout.splitlines() if "::" in line]
    if done.returncode or not names:
        raise RuntimeError(f"no benchmarks: pytest ended with {done.returncode}: {done.stdout[-500:]}")
    return by_worth(names)


def by_worth(names: list[str]) -> list[str]:
    """Sort the benchmarks in the order of :data:`WORTH`."""
    return sorted(names, key=lambda name: next((i for i, part in enumerate(WORTH) if part in name), len(WORTH)))


def compile_all(task: Task) -> None:
    """Check and run all variants once, over several processes. What fails here fails again where it is measured."""
    processes = side_by_side(task.scale)
    chosen = ["-k", task.scale.benchmarks] if task.scale.benchmarks else []
    command = pytest_command(task, "-n", str(processes), "--benchmark-disable", "--compile-only", *chosen, *FILES)
    log = task.work / "logs" / "compile.log"
    ended = run(command, _COMPILING * task.left, log, FEW_THREADS)
    if ended.killed:
        task.record.value(
            "compiling", f"stopped after {ended.seconds:.0f} s: the rest is compiled where it is measured"
        )
    else:
        task.record.value("compiling", f"{ended.seconds:.0f} s, {processes} processes, exit code {ended.code}")


def measure(task: Task, names: list[str]) -> None:
    """Measure all, in processes that go on where one died."""
    rows, outcome = task.work / "ops-rows.jsonl", task.work / "ops-outcomes.jsonl"
    for old in (rows, outcome):
        old.unlink(missing_ok=True)
    died: dict[str, str] = {}
    measured = ["--benchmark-only", "--benchmark-columns=median", "--rows", str(rows), "-p", "tools.gpu.outcomes"]
    for turn in range(1, len(names) + 1):
        if not names or task.left < 8:
            break
        log, began = task.work / "logs" / f"ops-{turn}.log", time.time()

        def tick(began: float = began) -> None:
            keep(task, rows, outcome, died)
            last = max(began, outcome.stat().st_mtime if outcome.exists() else 0.0)
            if time.time() - last > _SLOWEST * task.scale.patience:
                raise Stuck

        code, why = None, f"nothing came of it for {_SLOWEST:.0f} s: killed"
        try:
            ended = run(
                pytest_command(task, *measured, *names),
                task.left - 3,
                log,
                {"FASTVID_OUTCOMES": str(outcome)},
                tick=tick,
            )
            code = None if ended.killed else ended.code
            why = "not over at the cap" if ended.killed else f"its process died with exit code {ended.code}"
        except Stuck:
            print(f"turn {turn}: {why}")
        done, _, begun = outcomes.read(outcome)
        if code not in (0, 1):
            died.update({name: why for name in begun if name not in died})
        keep(task, rows, outcome, died)
        before, names = names, [name for name in names if name not in done and name not in begun]
        if before == names:
            raise RuntimeError(f"pytest ran nothing, its exit code is {code}: logs/ops-{turn}.log")
    if names:
        task.record.value("not measured", names)


def keep(task: Task, rows: Path, outcome: Path, died: dict[str, str]) -> None:
    """Record the results so far; ``died`` says why benchmarks that began did not end."""
    lines = read_lines(rows)
    task.record.rows = [row for line in lines for row in line["rows"]]
    ended, messages, _ = outcomes.read(outcome)
    why = {name: f"{result}: {messages.get(name, '')}" for name, result in ended.items() if result != "passed"}
    others = [failure for failure in task.record.failures if not failure.startswith("benchmarks/")]
    task.record.failures = [*others, *(one_line(f"{name}: {what}") for name, what in (died | why).items())]
    task.record.value("measured", sum(result == "passed" for result in ended.values()))
    if lines:
        task.record.value("device", lines[0]["device"])


if __name__ == "__main__":
    sys.exit(stage(main))
