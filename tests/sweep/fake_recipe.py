"""A recipe that trains nothing: it reads a recipe's options and leaves a finished run's files, in an instant.

Which videos come out right is drawn per video and run, so that approaches differ by what ``ACCURACY`` plants.
Environment: FAKE_SECONDS per step; FAKE_FAIL, names of runs that fail; FAKE_PLANT, JSON of accuracies by approach;
FAKE_REFUSE, a sentence that options are refused with;
FAKE_KEYS, the prefix of test videos' keys by approach, as JSON.
"""

import argparse
import json
import os
import sys
import time
from datetime import datetime
from pathlib import Path

from fastvid.random import SampleRandom
from fastvid.train.rundir import RunDir
from fastvid.train.signals import StopSignals

CLASSES = ["circular", "helical", "linear", "parabolic"]
ACCURACY = {"head": 0.55, "pooler": 0.74, "lora": 0.75, "pooler+lora": 0.76, "backbone-lora": 0.7, "full": 0.5}
TRAINABLE = {"head": 4_100, "pooler": 49_340_420, "lora": 495_620, "pooler+lora": 49_831_940}
STEPS = 5
TEST = 240


def main() -> int:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    for name in ("approach", "data.videos-per-class", "run.dir", "features.dir", "resume", "data.path"):
        parser.add_argument(f"--{name}", dest=name)
    for name, default in (("run.seed", 0), ("optim.lr", 2e-4), ("lora.rank", 16), ("lora.alpha", 32),
                          ("lora.dropout", 0.1), ("optim.max-epochs", STEPS)):  # fmt: skip
        parser.add_argument(f"--{name}", dest=name, type=type(default), default=default)
    parser.add_argument("--check", action="store_true")
    options = vars(parser.parse_args())
    if options["check"]:
        if refused := os.environ.get("FAKE_REFUSE"):
            print(f"12:00:00 E {refused}: {options['data.videos-per-class']}")
        return 2 if refused else 0
    signals = StopSignals()
    path = Path(options["resume"] or options["run.dir"])
    try:
        run = RunDir.reopen(path) if options["resume"] else RunDir.create(path, {})
    except (FileExistsError, FileNotFoundError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 2
    config = run.read_json("config.json") or {"options": options, "data": {"path": options["data.path"] or "demo"}}
    run.write_json("config.json", config)
    facts = run.read_json("run.json", {"starts": []})
    facts["starts"].append({"time": datetime.now().isoformat(timespec="seconds"), "arguments": sys.argv[1:]})
    facts["starts"][-1]["gpus"] = os.environ.get("CUDA_VISIBLE_DEVICES")
    run.write_json("run.json", facts)
    run.heartbeat("running", force=True)
    if path.name in os.environ.get("FAKE_FAIL", "").split(","):
        run.heartbeat("failed", force=True, error="a class with one video")
        return 2
    metrics = path / "metrics.jsonl"
    done = len(metrics.read_text().splitlines()) if metrics.exists() else 0
    for step in range(done + 1, STEPS + 1):
        time.sleep(float(os.environ.get("FAKE_SECONDS", "0")))
        with metrics.open("a") as file:
            file.write(json.dumps({"stage": "train", "step": 5 * step, "loss": 1.4 / step}) + "\n")
        run.heartbeat("running", force=True, stage="train", step=5 * step)
        if signals.signum:
            run.heartbeat("stopped", force=True, signal=str(signals.signum))
            return 128 + signals.signum
    run.write_json("result.json", result(config["options"]))
    run.heartbeat("finished", force=True)
    return 0


def result(options: dict) -> dict:
    """A plausible ``result.json``."""
    approach, seed = options["approach"], options["run.seed"]
    each = None if options["data.videos-per-class"] in (None, "None") else int(options["data.videos-per-class"])
    plant = {**ACCURACY, **json.loads(os.environ.get("FAKE_PLANT", "{}"))}[approach]
    prefix = json.loads(os.environ.get("FAKE_KEYS", "{}")).get(approach, "test")
    rank = options["lora.rank"]
    right = plant + 0.0004 * ((each or 300) - 100) + (0.002 * (rank - 16) if "lora" in approach else 0)
    keys = [f"{prefix}/{i:04d}" for i in range(TEST)]
    labels = [i % len(CLASSES) for i in range(TEST)]
    predicted = []
    for key, label in zip(keys, labels, strict=True):
        hard = SampleRandom(f"hard {key}", 0, 0).uniform(-0.15, 0.15)
        draw = SampleRandom(f"{approach} {each} {key}", seed, 0)
        predicted.append(label if draw.uniform() < right - hard else (label + 1 + draw.below(3)) % len(CLASSES))
    confusion = [[0] * len(CLASSES) for _ in CLASSES]
    for label, answer in zip(labels, predicted, strict=True):
        confusion[label][answer] += 1
    correct = sum(confusion[i][i] for i in range(len(CLASSES)))
    per_class = {}
    for i, name in enumerate(CLASSES):
        recall = confusion[i][i] / sum(confusion[i])
        precision = confusion[i][i] / max(1, sum(row[i] for row in confusion))
        per_class[name] = {"precision": precision, "recall": recall, "support": sum(confusion[i])}
        per_class[name]["f1"] = 2 * precision * recall / max(1e-9, precision + recall)
    trainable = TRAINABLE.get(approach, 3_149_828)
    curve = [right * (1 - 0.5 / epoch) for epoch in range(1, STEPS + 1)]
    noise = SampleRandom(f"curve {approach} {each}", seed, 0)
    curve = [value + noise.uniform(-0.02, 0.02) for value in curve]
    best = max(range(STEPS), key=lambda i: curve[i])
    total = 375_311_748 + (491_520 if "lora" in approach else 0)
    return {
        "project": "vjepa2", "approach": approach, "model": "tiny", "seed": seed, "classes": CLASSES,
        "videos_per_class": each, "videos": {"train": 4 * (each or 300), "val": 120, "test": TEST},
        "frames": 16, "size": 64, "precision": "float32",
        "optim": {"lr": options["optim.lr"], "weight_decay": 0.01, "batch": 8, "accumulate": 2, "epochs": STEPS,
                  "steps": 5 * STEPS},
        "lora": {"rank": rank, "alpha": options["lora.alpha"], "dropout": options["lora.dropout"]}
        if "lora" in approach else None,
        "parameters": {"trainable": trainable, "total": total},
        "best": {"epoch": best + 1, "step": 5 * (best + 1), "val_accuracy": curve[best]},
        "train_accuracy": min(1.0, right + 0.1),
        "val": {"accuracy": curve[best], "low": curve[best] - 0.08, "high": curve[best] + 0.07, "correct": 96,
                "total": 120},
        "test": {"accuracy": correct / TEST, "low": correct / TEST - 0.05, "high": correct / TEST + 0.05,
                 "correct": correct, "total": TEST, "per_class": per_class, "confusion": confusion, "keys": keys,
                 "labels": labels, "predicted": predicted, "inference_ms_per_clip": 3.1},
        "curves": {"epoch": list(range(1, STEPS + 1)), "step": [5 * i for i in range(1, STEPS + 1)],
                   "train_loss": [1.4 / i + noise.uniform(0, 0.05) for i in range(1, STEPS + 1)],
                   "val_accuracy": curve},
        "time": {"features_s": 3.0, "train_s": 0.2 * (each or 300) * (1 + (approach != "head")),
                 "seconds_per_clip": 0.01},
        "memory": {"peak_rss_gb": 1.2, "gpu_peak_gb": None},
        "git": "abc1234",
    }  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
