"""Whole runs of ``python -m fastvid.train salt``, small enough for tests."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests import preloaded
from tests.waiting import HANG, wait_for

# A model and a data set on which a run takes seconds.
TINY: list[str] = """
--demo.train 24 --demo.test 16 --demo.spec.size 32 --demo.spec.frames 16 --data.size 32 --data.threads 2
--model.width 32 --model.depth 1 --model.heads 2
--predictor.width 32 --predictor.depth 1 --predictor.heads 2 --predictor.tokens 8
--teacher.predictor.width 32 --teacher.predictor.depth 1 --teacher.predictor.heads 2 --teacher.predictor.tokens 8
--teacher.optim.steps 30 --teacher.optim.batch 8 --teacher.optim.warmup 3
--optim.steps 30 --optim.batch 8 --optim.warmup 3
--probe.attentive-epochs 1 --probe.probes knn
--health.every 10 --health.clips 8 --run.log-every 3 --run.checkpoint-every 7
""".split()  # noqa: SIM905 (as it would be typed)

# What differs between equal runs: how long things took.
CLOCK = ("clips_per_s", "decode_mb", "share_data", "share_forward", "share_backward", "share_optimizer")


@pytest.fixture(scope="session")
def environment(tmp_path_factory) -> dict[str, str]:
    """Of all runs: a cache of their own and few threads."""
    cache = tmp_path_factory.mktemp("cache")
    return {**os.environ, "FASTVID_CACHE": str(cache), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


@pytest.fixture
def salt(environment, tmp_path):
    """Starts a run: ``salt(directory, *options)`` waits for it, ``salt(..., wait=False)`` returns the process."""

    def launch(directory, *options, wait=True, resume=False, tiny=True, launcher=(), project="salt", **variables):
        where = ["--resume", str(directory)] if resume else ["--run.dir", str(directory), *(TINY if tiny else [])]
        arguments = [project, *where, *map(str, options)]
        if wait and not launcher and not variables:
            return preloaded.run("fastvid.train", *arguments, env=environment, cwd=tmp_path)
        command = [sys.executable, *launcher, "-m", "fastvid.train", *arguments]
        process = subprocess.Popen(
            command, env={**environment, **variables}, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        if not wait:
            return process
        out, err = process.communicate(timeout=HANG)
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    return launch


def records(directory: Path, *, clock: bool = False) -> list[dict]:
    """The run's metrics, without those that depend on the clock."""
    lines = [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]
    return lines if clock else [{k: v for k, v in r.items() if k not in CLOCK} for r in lines]


def stop(process: subprocess.Popen, directory: Path, reached: Callable[[str], bool]) -> None:
    """Sends a run SIGTERM when its metrics.jsonl has reached something, and waits until it has saved and ended."""
    metrics = directory / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and reached(metrics.read_text()))
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == 143, err


def assert_same(run: Path, other: Path) -> None:
    """The records and the student of two runs are the same, bit for bit."""
    assert records(run) == records(other)
    left, right = (load_file(d / "student" / "encoder.safetensors") for d in (run, other))
    assert left.keys() == right.keys()
    assert all(torch.equal(left[name], right[name]) for name in left)
