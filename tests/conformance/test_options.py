"""Whichever launch a Triton kernel is tuned to, it obeys the rule that the default obeys."""

import functools

import pytest
import torch

from fastvid.ops._dispatch import INTERPRETED
from fastvid.ops._launch import Launch, Options, choosing
from tests.conformance.checks import SEEDS, check_error, check_masks
from tests.conformance.test_conformance import DEVICE, skip_unless_usable

CASES = [
    "masked_latent_loss l1 normalized 2x5x9x200 same target",
    "masked_latent_loss mse normalized 2x6x12x64 int8 target",
    "masked_latent_loss cosine normalized 3x20x25x130 weighted same target",
    "gather_tubelets 16 x 16 x 2",
    "gather_tokens 768 wide",
    "query_attend without statistics",
    "query_attend two sets of eight",
    "foveated_glimpse zeros outside, no antialias",
    "foveated_glimpse float frames",
]
DTYPES = [torch.float32 if INTERPRETED else torch.bfloat16]


def distinct(launches: tuple[Launch, ...]) -> list[Launch]:
    """The launches that differ where these tests run: the interpreter knows block sizes, but no warps or registers."""
    if not INTERPRETED:
        return list(launches)
    blocks = [{name: value for name, value in launch.items() if name.isupper()} for launch in launches]
    return [launch for at, launch in enumerate(launches) if blocks[at] not in blocks[:at]]


def with_each_option(check) -> None:
    """Calls ``check`` with every kernel's second launch, then with the third, and so on until all had all of theirs."""
    seen: list[tuple[Launch, ...]] = []

    def choose(number: int, options: Options) -> Launch:
        seen.append(options.launches)
        different = distinct(options.launches)
        return different[min(number, len(different) - 1)]

    number = 1
    while not seen or number < max(len(distinct(launches)) for launches in seen):
        with choosing(functools.partial(choose, number)):
            check()
        number += 1
    assert any(len(launches) > 1 for launches in seen), "no kernel has a choice"


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: str(d).removeprefix("torch."))
@pytest.mark.parametrize("name", CASES)
def test_triton_error_is_at_most_twice_that_of_the_reference(name, dtype, poisoned):
    skip_unless_usable(name.split()[0], "triton")
    with_each_option(lambda: check_error(name, dtype, "triton", DEVICE))


def test_triton_masks_are_those_of_the_reference_bit_for_bit(poisoned):
    skip_unless_usable("multiblock_mask", "triton")
    with_each_option(lambda: check_masks("multiblock", (8, 14, 14), 800, 240, "triton", DEVICE, SEEDS[:1]))
