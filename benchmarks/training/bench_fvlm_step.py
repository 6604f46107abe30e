"""Steps of a foveated vision-language model against the published ones: the same loss and the same gradients.

On a CPU two small models (see ``SIZES``) in float32; on a GPU the published sizes under bfloat16 autocast.
"""

import dataclasses
from functools import partial

import pytest
import torch

from benchmarks.baselines.published_fvlm import Published
from benchmarks.harness.timing import Call, Variant
from benchmarks.training.fvlm_sides import (
    JOINT_STEP,
    OURS,
    PUBLISHED,
    QUESTIONS,
    SIZES,
    STILLS,
    check_same,
    joint,
    make_batch,
    make_model,
    steps,
)
from benchmarks.training.salt_sides import autocast


@pytest.fixture(scope="module")
def where(device):
    return torch.device(device.kind)


def size(where, small):
    return SIZES["base" if where.type == "cuda" else small]


def whole(sides):
    """Measure whole steps, with the optimizer and the host's work, which a CUDA graph could not replay."""
    return {name: Call(side.step, capture=False) for name, side in sides.items()}


def test_joint(where, record):
    sides = steps(size(where, "narrow"), where)[JOINT_STEP]()
    record(JOINT_STEP, whole(sides), gate=lambda: check_same(sides), rounds=5)


def test_peak_memory_of_joint(where, benchmark, record_numbers):
    small = size(where, "quarter")
    sides = joint(small if where.type == "cuda" else dataclasses.replace(small, clips=2), where)
    published = sides[PUBLISHED].peak_bytes()
    ours = benchmark.pedantic(sides[OURS].peak_bytes, rounds=1)
    benchmark.extra_info.update(peak_mb={name: x / 1e6 for name, x in ((PUBLISHED, published), (OURS, ours))})
    record_numbers(f"{JOINT_STEP}, peak memory", {"memory of as published": ours / published})


def test_encoder(where, record):
    model = make_model(size(where, "quarter"), where)
    clips = make_batch(size(where, "quarter"), where).clips
    assert clips is not None
    upstream = [torch.randn_like(x) for layer in model.encode(clips).layers for x in layer]

    def forward(encode):
        """Return one number that depends on all keys and values."""
        with autocast(where):
            found = [x for layer in encode(clips) for x in layer]
        return sum(x.flatten().float() @ y.flatten().float() for x, y in zip(found, upstream, strict=True))

    ours = partial(forward, lambda clips: model.encode(clips).layers)
    published = partial(forward, Published(model).encode)
    weights = [weight for weight in model.encoder.parameters() if weight.requires_grad]
    gradients = torch.autograd.grad(ours(), weights, allow_unused=True)  # none of what lies behind the last keys
    weights = [weight for weight, gradient in zip(weights, gradients, strict=True) if gradient is not None]
    sides = {OURS: Variant(ours, weights), PUBLISHED: Variant(published, weights)}
    record("fVLM encoder", sides, tolerance=1e-3 if where.type == "cpu" else 3e-2, rounds=5)


def test_four_questions_of_a_clip(where, record):
    sides = steps(size(where, "quarter"), where)[QUESTIONS]()
    record(QUESTIONS, whole(sides), gate=lambda: check_same(sides), rounds=2)


def test_still_images(where, record):
    small = size(where, "quarter")
    sides = steps(small, where, max(8, small.clips))[STILLS]()
    record(STILLS, whole(sides), gate=lambda: check_same(sides), rounds=2)
