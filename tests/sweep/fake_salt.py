"""A SALT recipe that trains nothing: it leaves a finished run's files, in an instant.

The probes' accuracies grow with ``--mask.ratio``, the loss falls with it the other way: ranked by the loss, the order
would be turned around. Environment: FAKE_UNLABELLED leaves no probes; FAKE_STOP stops the run before its end.
"""

import json
import os
import sys
from datetime import datetime
from pathlib import Path

from fastvid.random import SampleRandom
from fastvid.train.rundir import RunDir

TEST = 200


def main() -> int:
    arguments = sys.argv[1:]
    if "--check" in arguments:
        return 0
    options = {}
    for part in arguments:
        if part.startswith("--"):
            options[part] = values = []
        else:
            values.append(part)
    if "--resume" in options:
        run = RunDir.reopen(Path(options["--resume"][0]))
        options = run.read_json("config.json")["options"]
    else:
        run = RunDir.create(Path(options["--run.dir"][0]), {"options": options, "data": {"path": "demo"}, "probe": {}})
    starts = run.metadata().get("starts", [])
    start = {"time": datetime.now().isoformat(timespec="seconds"), "arguments": arguments}
    run.record(project="salt", starts=[*starts, start])
    if os.environ.get("FAKE_STOP") == run.path.name:
        run.heartbeat("stopped", force=True)
        return 143
    ratio = float(options.get("--mask.ratio", ["0.375"])[0])
    rate = float(options.get("--optim.lr", ["0.002"])[0])
    seed = int(options["--run.seed"][0])
    loss = 1 + ratio + rate
    lines = [{"stage": "salt", "step": step, "loss": loss / step} for step in range(1, 5)]
    lines.append({"stage": "salt", "step": 4, "health_rank": 10 + seed, "health_problems": 0})
    (run.path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    if "FAKE_UNLABELLED" not in os.environ:
        run.write_json("probe.json", probe(ratio, rate, seed))
    run.heartbeat("finished", force=True)
    return 0


def probe(ratio: float, rate: float, seed: int) -> dict:
    """A plausible ``probe.json``."""

    def accuracy(name: str, plant: float) -> dict:
        draws = [SampleRandom(f"{name} {ratio} {rate} {i}", seed, 0).uniform() < plant for i in range(TEST)]
        share = sum(draws) / TEST
        low, high = max(0.0, share - 0.07), min(1.0, share + 0.07)
        return {"accuracy": share, "low": low, "high": high, "correct": sum(draws), "total": TEST}

    plants = {"student": 0.1 + 0.8 * ratio, "teacher": 0.6, "random initialisation": 0.3, "student, single frame": 0.3}
    rows = [
        {"encoder": who, **{kind: accuracy(f"{who} {kind}", plant) for kind in ("knn", "linear", "attentive")}}
        for who, plant in plants.items()
    ]
    return {"classes": ["a", "b", "c", "d"], "train": 100, "test": TEST, "chance": 0.25, "rows": rows}


if __name__ == "__main__":
    sys.exit(main())
