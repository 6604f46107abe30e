"""Stage "smoke": does every op compute what it must, forward and backward, in each dtype, from each of its kernels?

Checks run over many processes at once, which compiles Triton's kernels side by side into one cache.
"""

import os
import sys
from collections import Counter

from tools.gpu.record import Task, one_line, stage
from tools.gpu.scale import FEW_THREADS, side_by_side
from tools.gpu.smoke_checks import LIMIT, SmokeCheck, all_checks, healthy, missing, native_checks, run_check
from tools.gpu.workers import run_checks


def main(task: Task) -> None:
    """Run all checks; ``native_only`` in the environment's FASTVID_SMOKE, those of the native core in this process."""
    native_only = os.environ.get("FASTVID_SMOKE") == "native"
    gone = missing(task.scale.device.kind)
    task.record.value("left out", [f"no {backend} kernel: {why}" for backend, why in gone.items()])
    checks = native_checks(task.scale) if native_only else all_checks(task.scale)
    processes = 0 if native_only else side_by_side(task.scale)
    if not checks:
        raise RuntimeError(f"nothing to check: {'; '.join(gone.values())}")
    os.environ.update(FEW_THREADS)
    smoke(task, checks, processes)


def smoke(task: Task, checks: list[SmokeCheck], processes: int) -> None:
    """Run the checks and record their results."""
    record, passed = task.record, Counter[str]()
    seconds: dict[str, float] = {}
    record.value("checks", len(checks))

    def begun(check: SmokeCheck) -> None:
        record.running.append(str(check))
        record.save()

    for outcome in run_checks(
        run_check, checks, processes=processes, limit=LIMIT * task.scale.patience, healthy=healthy, begun=begun
    ):
        name = str(outcome.item)
        record.running.remove(name)
        seconds[name] = outcome.seconds
        if outcome.error is None:
            passed[outcome.item.what] += 1
        else:
            record.failures.append(one_line(f"{name}: {outcome.error}"))
        print(f"{outcome.seconds:6.1f} s  {name}  {outcome.error or 'passed'}", flush=True)
        record.values["passed"] = dict(passed)
        slowest = sorted(seconds, key=lambda name: seconds[name], reverse=True)[:5]
        record.values["slowest"] = {name: round(seconds[name], 1) for name in slowest}
        record.save()


if __name__ == "__main__":
    sys.exit(stage(main))
