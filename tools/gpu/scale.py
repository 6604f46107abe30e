"""Sizes of the check on a card and of its rehearsal on a CPU."""

import os
from dataclasses import dataclass, field
from typing import Any

import torch

from tests.gpu.streams import Cpu, Cuda, CudaOrCpu


@dataclass(frozen=True)
class Scale:
    """Sizes of the check.

    Attributes:
        device: what everything runs on.
        environment: of every stage.
        build: of the stage that builds, beside the architecture.
        smoke_everything: all cases, dtypes and masks in the smoke test; else the first of each op.
        benchmarks: what pytest's ``-k`` takes, of the files of ``tools.gpu.ops``.
        launches: the table that ``--tune`` adds to, under the repository.
        salt: the name in ``benchmarks.training.salt_sides.SIZES``.
        vjepa2: keyword arguments of ``benchmarks.training.vjepa2_step.Size``.
        fvlm: the name in ``benchmarks.training.fvlm_sides.SIZES``.
        stream: frames of a video that are read before those are timed that are compared with its beginning.
        trajectory: videos in a step of the trajectory classifier.
        compiled: whether compiled steps are compiled.
        rounds: of timed steps.
        presets: of ``fastvid.train salt``, with the options that make them fit.
        suites: what pytest is given in the stage "suites".
        processes: at most, of what runs side by side.
        patience: times that the caps of the stages are longer.
    """

    device: CudaOrCpu
    environment: dict[str, str] = field(default_factory=dict)
    build: dict[str, str] = field(default_factory=dict)
    smoke_everything: bool = True
    processes: int = 12
    benchmarks: str = ""
    launches: str = "fastvid/ops/launches.json"
    salt: str = "base"
    vjepa2: dict[str, Any] = field(default_factory=dict)
    fvlm: str = "base"
    stream: int = 900
    trajectory: int = 64
    compiled: bool = True
    rounds: int = 5
    presets: tuple[tuple[str, tuple[str, ...]], ...] = ()
    suites: tuple[str, ...] = ()
    patience: float = 1.0


CARD = Scale(
    device=Cuda(),
    build={"FASTVID_CUDA": "1"},
    presets=(
        ("demo", ("--teacher.optim.steps", "300", "--optim.steps", "300", "--probe.attentive-epochs", "5")),
        (
            "proof",
            ("--teacher.optim.steps", "400", "--optim.steps", "400", "--demo.train", "1024", "--demo.test", "512"),
        ),
    ),
    suites=("tests/gpu", "tests/conformance", "tests/ops", "tests/nn"),
)

REHEARSAL = Scale(
    device=Cpu(),
    environment={"TRITON_INTERPRET": "1"},
    build={"FASTVID_CUDA": "0"},
    smoke_everything=False,
    processes=2,
    benchmarks="gather_tokens or (multiblock_mask and salt)",
    launches="build/gpu_check/launches.json",
    salt="rehearsal",
    vjepa2={"layers": 1, "width": 64, "side": 32, "batch": 2},
    fvlm="rehearsal",
    stream=110,
    trajectory=4,
    compiled=False,
    rounds=1,
    presets=(
        (
            "demo",
            (
                "--teacher.optim.steps", "3", "--optim.steps", "3", "--teacher.optim.warmup", "1",
                "--optim.warmup", "1", "--demo.train", "32", "--demo.test", "16", "--probe.attentive-epochs", "1",
                "--health.every", "0", "--health.clips", "8",
            ),
        ),
    ),
    suites=("tests/gpu", "tests/conformance/test_conformance.py", "-k", "gather_tokens and float32"),
    patience=10.0,  # of a busy machine, a few cores
)  # fmt: skip


def side_by_side(which: Scale) -> int:
    """Return how many processes the machine has cores for, and the card memory."""
    room = which.processes
    if which.device.kind == "cuda":
        room = torch.cuda.get_device_properties().total_memory // _PROCESS
    return max(1, min(which.processes, room, os.cpu_count() or 1))


# Each process of several compiles with few threads of its own; what it compiles is found whatever their number.
FEW_THREADS = {"TORCHINDUCTOR_COMPILE_THREADS": "4"}
_PROCESS = 5 << 30  # bytes of the card for each: a context, and tensors of a benchmark's size


def scale(rehearse: bool) -> Scale:
    """Return the sizes of a check."""
    return REHEARSAL if rehearse else CARD
