"""The watch on Triton's kernels sees what it is there to see. In the interpreter, by test_interpreter.py."""

import pytest
import torch

from fastvid.ops._dispatch import INTERPRETED

if not INTERPRETED:
    pytest.skip("only interpreted kernels can be watched", allow_module_level=True)

import triton
import triton.language as tl


@triton.jit
def copy(x, out, size, offset, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i + offset, mask=i < size), mask=i < size)


@triton.jit
def write_alike(out, BLOCK: tl.constexpr):
    tl.store(out + tl.arange(0, BLOCK) // 2, tl.arange(0, BLOCK))


@triton.jit
def add(out, BLOCK: tl.constexpr):
    tl.atomic_add(out + tl.arange(0, BLOCK), 1.0)


@triton.jit
def write_and_read(x, out, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    tl.store(out + i, tl.load(x + i))
    tl.store(out + i + BLOCK, tl.load(out + (i + 1) % BLOCK))


def test_triton_kernels_in_order_pass():
    x, out = torch.arange(10.0), torch.zeros(10)
    copy[(3,)](x, out, 10, 0, BLOCK=4)
    assert torch.equal(out, x)


@pytest.mark.parametrize("offset", [-1, 1])
def test_triton_loads_outside_are_seen(offset):
    wide = torch.zeros(30)
    with pytest.raises(Exception, match="loads 1 elements outside"):
        copy[(3,)](wide[10:20], torch.zeros(10), 10, offset, BLOCK=4)


def test_triton_stores_outside_are_seen():
    with pytest.raises(Exception, match="stores 2 elements outside"):
        copy[(3,)](torch.zeros(12), torch.zeros(16)[:10], 12, 0, BLOCK=4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: copy[(2,)](x, x[4:], 8, 0, BLOCK=4), "loads what another"),
        (lambda x: copy[(2,)](x[4:], x, 8, 0, BLOCK=4), "stores what another"),
        (lambda x: copy[(1, 2)](x[8:], x, 4, 0, BLOCK=4), "stored twice"),
        (lambda x: write_alike[(1,)](x, BLOCK=4), "two threads"),
        (lambda x: write_and_read[(1,)](x[8:], x, BLOCK=4), "have not waited"),
        (lambda x: add[(1,)](x, BLOCK=4), "atomic"),
    ],
)
def test_triton_races_are_seen(call, message):
    with pytest.raises(Exception, match=message):
        call(torch.zeros(16))
