"""Stage "suites": the tests of the GPU, of conformance and of the ops, over several processes."""

import sys
from collections import Counter
from pathlib import Path

from tools.gpu import outcomes
from tools.gpu.record import Task, one_line, stage
from tools.gpu.runner import run
from tools.gpu.scale import side_by_side


def main(task: Task) -> None:
    """Run the tests, and record those that failed with the reason, one line each."""
    outcome = task.work / "suites-outcomes.jsonl"
    outcome.unlink(missing_ok=True)
    processes = side_by_side(task.scale)
    command = [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tools.gpu.outcomes",
        "-n", str(processes), *task.scale.suites,
    ]  # fmt: skip
    ended = run(
        command, task.left - 3, task.work / "logs" / "pytest.log", {"FASTVID_OUTCOMES": str(outcome)},
        tick=lambda: keep(task, outcome),
    )  # fmt: skip
    passed = keep(task, outcome)
    if ended.killed:
        task.record.value("stopped", f"after {ended.seconds:.0f} s, with tests left")
    elif ended.code not in (0, 1):
        raise RuntimeError(f"pytest ended with {ended.code}: logs/pytest.log")
    if not passed:
        raise RuntimeError("no test passed: nothing is proved")


def keep(task: Task, outcome: Path) -> int:
    """Record the results so far, and return how many tests have passed."""
    ended, messages, begun = outcomes.read(outcome)
    counts = Counter(ended.values())
    task.record.values["tests"] = dict(counts)
    why = Counter(one_line(messages[name], 100) for name, result in ended.items() if result == "skipped")
    task.record.values["skipped"] = dict(why.most_common(5))
    task.record.failures = [
        one_line(f"{n}: {messages.get(n, '')}") for n, result in ended.items() if result == "failed"
    ]
    task.record.running = begun
    task.record.save()
    return counts["passed"]


if __name__ == "__main__":
    sys.exit(stage(main))
