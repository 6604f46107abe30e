"""The Triton kernels compile for every supported GPU, here, without one: no spilled registers, nothing in float64."""

import re
import subprocess
from pathlib import Path

import pytest

from fastvid.ops._dispatch import HAS_TRITON, INTERPRETED

pytestmark = pytest.mark.skipif(not HAS_TRITON or INTERPRETED, reason="needs Triton's compiler, not its interpreter")

SIZES = ("S", "H", "Q", "N", "D", "tiles")


def compiled(kernel, tensors, constants, arch, *, scale="fp32", stride="i32"):
    """PTX and machine code of a kernel for sm_<arch>."""
    import triton
    from triton.backends.compiler import GPUTarget

    constants = dict(constants)
    warps = constants.pop("num_warps")
    scalars = {"scale": scale, **dict.fromkeys(SIZES, "i32")}
    signature = {
        name: "constexpr" if name in constants else tensors.get(name) or scalars.get(name, stride)
        for name in kernel.arg_names
    }
    # What a launch sees: addresses, strides and D in multiples of 16.
    uneven = {*constants, *scalars} - {"D"}
    aligned = [i for i, name in enumerate(kernel.arg_names) if name not in uneven]
    source = triton.compiler.ASTSource(
        fn=kernel, signature=signature, constexprs=constants, attrs={(i,): [["tt.divisibility", 16]] for i in aligned}
    )
    result = triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": warps})
    return result.asm["ptx"], result.asm["cubin"]


def stack_bytes(cubin, folder):
    import triton

    path = folder / "kernel.cubin"
    path.write_bytes(cubin)
    tool = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    usage = subprocess.run([tool, "-res-usage", path], capture_output=True, text=True, check=True).stdout
    return int(re.search(r"STACK:(\d+)", usage).group(1)) + int(re.search(r"LOCAL:(\d+)", usage).group(1))


def forward(dtype, Q, d):
    from fastvid.ops.query_attend import triton as kernels

    narrow = dict.fromkeys(("query", "key", "value", "out"), f"*{dtype}")
    full = dict.fromkeys(("precise", "lse", "entropy"), "*fp32")
    constants = {"STATS": True, "PRECISE": dtype != "fp32", **kernels.blocks(Q, d, backward=False)}
    return kernels.query_attend_kernel, {**narrow, **full, "peak": "*i64"}, constants


def backward(dtype, Q, d):
    from fastvid.ops.query_attend import triton as kernels

    names = ("grad_out", "query", "key", "value", "grad_query", "grad_key", "grad_value")
    full = dict.fromkeys(("grad_entropy", "precise", "lse", "entropy"), "*fp32")
    flags = dict.fromkeys(("ENTROPY", "WITH_QUERY", "WITH_CACHE"), True)
    constants = {**flags, **kernels.blocks(Q, d, backward=True)}
    return kernels.query_attend_backward_kernel, {**dict.fromkeys(names, f"*{dtype}"), **full}, constants


@pytest.mark.parametrize("direction", [forward, backward])
@pytest.mark.parametrize(
    ("arch", "dtype", "d"),
    [(80, "fp32", 64), (89, "bf16", 128), (90, "bf16", 64), (100, "fp16", 64), (120, "bf16", 64)],
)
@pytest.mark.parametrize("Q", [1, 16])
def test_kernels_compile_without_spills_or_doubles(direction, arch, dtype, d, Q, tmp_path):
    ptx, cubin = compiled(*direction(dtype, Q, d), arch)
    assert ".f64" not in ptx
    assert stack_bytes(cubin, tmp_path) == 0


@pytest.mark.parametrize("direction", [forward, backward])
def test_a_double_scale_is_narrowed_and_wide_strides_compile(direction):
    ptx, _ = compiled(*direction("bf16", 1, 64), 90, scale="fp64", stride="i64")
    assert not re.search(r"(mul|fma|add|sub|div)(\.rn)?\.f64", ptx)  # at most the conversion of the argument
