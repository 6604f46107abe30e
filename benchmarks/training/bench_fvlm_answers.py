"""Answers of a foveated vision-language model: multiple choice against the published way, and frames without end.

On a CPU small models (see ``SIZES``) in float32; on a GPU the published sizes under bfloat16 autocast.
"""

import dataclasses
import statistics

import pytest
import torch

from benchmarks.harness.timing import Call
from benchmarks.training.fvlm_sides import MODES, OURS, PUBLISHED, SIZES, choosing, seconds_of_frames


@pytest.fixture(scope="module")
def where(device):
    return torch.device(device.kind)


def test_multiple_choice(where, record):
    sides = choosing(SIZES["base" if where.type == "cuda" else "quarter"], where)

    def gate():
        found = {name: torch.tensor([side()[mode] for mode in MODES]) for name, side in sides.items()}
        error = (found[OURS] - found[PUBLISHED]).abs().max() / found[PUBLISHED].abs().max()
        assert error < (1e-3 if where.type == "cpu" else 3e-2), f"log-likelihoods differ by {error:.2g} of the largest"

    record(
        "fVLM multiple choice", {name: Call(side, capture=False) for name, side in sides.items()}, gate=gate, rounds=2
    )


def test_a_thousand_frames(where, benchmark, record_numbers):
    """Compare frames up to the thousandth with those up to the hundredth of another video."""
    small = dataclasses.replace(SIZES["narrow"], layers=4)
    size = SIZES["base"] if where.type == "cuda" else small
    seconds = benchmark.pedantic(seconds_of_frames, args=(size, where, 100, 900, 20, 3), rounds=1)
    benchmark.extra_info["ms_a_frame"] = [{"first": 1e3 * first, "last": 1e3 * last} for first, last in seconds]
    record_numbers("fVLM stream, frame 1000", {"x frame 100": statistics.median(a / b for a, b in seconds)})
