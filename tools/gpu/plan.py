"""The stages of the check, in the order of their worth, and the seconds that each may take."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """One stage.

    Attributes:
        name: what ``--from`` takes.
        module: run as ``python -m MODULE``.
        cap: seconds after which it is killed; None for what is left of the whole check.
        share: of what is left, where ``cap`` is None.
        why: what the cap is made of, on 16 cores.
    """

    name: str
    module: str
    cap: float | None
    why: str
    share: float = 1.0


# The caps must leave time for the summary in 10 minutes: tests/test_gpu_check.py adds them up.
STAGES = (
    Stage("facts", "tools.gpu.facts", 40, "15 s of copies and products; 25 s for torch's first import from a disk"),
    Stage("build", "tools.gpu.build", 60, "two CUDA files for one architecture, 40 s of one core, and the C++ files"),
    Stage("smoke", "tools.gpu.smoke", 90, "some 300 checks of 1 to 3 s, most of it Triton's compiler, in 12 processes"),
    Stage("ops", "tools.gpu.ops", 150, "30 s to compile the other sides side by side, then 24 benchmarks of 3 to 12 s"),
    Stage(
        "steps",
        "tools.gpu.steps",
        150,
        "four variants of a SALT step, two compiled by the smoke test; V-JEPA 2; trajectory; three steps of fVLM",
    ),
    Stage("train", "tools.gpu.train", 90, "the demo data is made on all cores; two runs of some hundred steps, probes"),
    Stage("suites", "tools.gpu.suites", None, "the rest of the tests, most valuable first", share=0.6),
    Stage("sanitizer", "tools.gpu.sanitizer", None, "memcheck, then racecheck, half of the time each"),
)
NAMES = tuple(stage.name for stage in STAGES)
TUNE = 90.0  # seconds that --tune adds to the stage "ops"
SUMMARY = 15.0  # seconds kept for packing and for the summary
LEAST = 5.0  # where less is left of the whole check, no stage begins
