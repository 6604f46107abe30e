"""A run of two processes against one of one process."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.train.conftest import records


def check_two_processes_are_one(salt: Callable, folder: Path, options: Sequence[str], *, near: float) -> None:
    """Train fVLM with the same options in two processes and in one: their records are the same, to ``near``."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = salt(folder / "two", *options, launcher=launcher, project="fvlm", tiny=False)
    assert two.returncode == 0, two.stderr
    one = salt(folder / "one", *options, project="fvlm", tiny=False)
    assert one.returncode == 0, one.stderr
    for a, b in zip(records(folder / "one"), records(folder / "two"), strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"stage", "step"}:
            assert b[name] == pytest.approx(a[name], rel=near, abs=1e-4), (a["stage"], a["step"], name)
