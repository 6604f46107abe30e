"""A whole SALT training step against the published one: the same mathematics, and the recommended recipe.

On a CPU a quarter-scale model (see ``SIZES``) in float32; on a GPU a ViT-B at batch 32 under bfloat16 autocast.
``python -m benchmarks.training.salt_step`` says where the time and the memory go.
"""

import dataclasses

import pytest
import torch

from benchmarks.harness.timing import Call
from benchmarks.training.salt_measure import peak_bytes
from benchmarks.training.salt_sides import SIZES, forward, make_variant, random_clip, step
from benchmarks.training.salt_step import check_same

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
SIZE = SIZES["base" if CUDA else "quarter"]
ROUNDS = 15 if CUDA else 5


@pytest.fixture(scope="module")
def clip():
    return random_clip(SIZE, DEVICE)


@pytest.fixture(scope="module")
def variants():
    return {name: make_variant(name, SIZE, DEVICE) for name in ("published", "same", "recommended")}


def whole(variant, clip):
    """Measure the step with the optimizer and the host's work, which a CUDA graph could not replay."""
    return Call(lambda: step(variant, clip), capture=False)


def compare(name, ours, variants, clip, record):
    record(
        name,
        {"fastvid": whole(variants[ours], clip), "as published": whole(variants["published"], clip)},
        rounds=ROUNDS,
    )


def test_same_mathematics(variants, clip, record):
    check_same(variants["published"], variants["same"], clip)
    compare("SALT step, same mathematics", "same", variants, clip, record)


def test_recommended(variants, clip, record):
    compare("SALT step, recommended", "recommended", variants, clip, record)


@pytest.mark.skipif(not CUDA, reason="no CUDA device")
def test_the_recommended_step_does_not_wait_for_the_device(variants, clip, benchmark):
    variant = variants["recommended"]
    step(variant, clip)  # compiled before synchronisation is an error

    def unsynchronised():
        torch.cuda.set_sync_debug_mode("error")
        try:
            forward(variant, clip).backward()
            variant.update()
        finally:
            torch.cuda.set_sync_debug_mode("default")

    benchmark.pedantic(unsynchronised, rounds=1)


def test_peak_memory_of_the_recommended_step(variants, benchmark, record_numbers):
    """Measure a number of bytes once: the published batch of 32 on a GPU, half of it on a CPU."""
    variants.clear()  # the last test that could use them: a card of 24 GB has no room for these and more
    size = dataclasses.replace(SIZE, batch=32 if CUDA else 16)
    clip = random_clip(size, DEVICE)

    def peak(name):
        torch.compiler.reset()  # blocks of one kind share a small number of compiled shapes
        return peak_bytes(make_variant(name, size, DEVICE), clip)

    published = peak("published")
    recommended = benchmark.pedantic(peak, args=("recommended",), rounds=1)
    benchmark.extra_info.update(peak_mb={"published": published / 1e6, "recommended": recommended / 1e6})
    record_numbers("SALT step, recommended, peak memory", {"memory of as published": recommended / published})
