"""The Triton kernels compile for every GPU that is supported, on a machine without one: nothing spills, no float64."""

import os
import re
import subprocess

import pytest

from fastvid.ops import _dispatch

pytestmark = pytest.mark.skipif(
    not _dispatch.HAS_TRITON or _dispatch.INTERPRETED, reason="needs Triton's compiler, not its interpreter"
)

SIZES = dict.fromkeys(("T", "G", "H", "W", "size", "count"), "i32")
STRIDES = dict.fromkeys(("batch_stride", "frame_stride", "row_stride"), "i64")
FLOATS = ("ratio", "gain0", "gain1", "gain2", "pivot0", "pivot1", "pivot2")
POINTERS = dict.fromkeys(("center", "scale", "partial", "to_center", "to_scale"), "*fp32")
KERNELS = {
    "kernel": ("frames", "out", 16),
    "gaze_kernel": ("frames", "grad", 8),
    "frames_kernel": ("to_frames", "grad", 8),
    "sum_kernel": ("partial", "partial", 0),
}


def compile_kernel(name, arch, pixels, glimpses, scalars, zeros):
    import triton
    from triton.backends.compiler import GPUTarget

    from fastvid.ops.foveated_glimpse import triton as kernels

    kernel = getattr(kernels, f"foveated_glimpse_{name}")
    first, second, block_y = KERNELS[name]
    types = {**SIZES, **STRIDES, **dict.fromkeys(FLOATS, scalars), first: pixels, second: glimpses, **POINTERS}
    constants = {"LEVELS": 3, "ZEROS": zeros, "ANTIALIAS": True, "BLOCK_Y": block_y, "BLOCK_X": 32, "BLOCK": 128}
    constants = {k: v for k, v in constants.items() if k in kernel.arg_names}
    signature = {k: "constexpr" if k in constants else types[k] for k in kernel.arg_names}
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", arch, 32), options={"num_warps": 4})


@pytest.mark.filterwarnings("ignore:TRITON_DEFAULT_FP_FUSION")
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("arch", [80, 89, 90, 100, 120])
def test_kernels_compile_without_spills(name, arch, tmp_path):
    import triton

    tool = os.path.join(os.path.dirname(triton.__file__), "backends", "nvidia", "bin", "cuobjdump")
    variants = [("*u8", "*bf16", "fp32", True), ("*fp32", "*fp32", "fp64", False)]
    for pixels, glimpses, scalars, zeros in variants:
        compiled = compile_kernel(name, arch, pixels if name != "frames_kernel" else "*fp16", glimpses, scalars, zeros)
        # A float argument that comes in as float64 may be narrowed, never computed with.
        assert scalars == "fp64" or ".f64" not in compiled.asm["ptx"]
        assert not re.search(r"\b(add|sub|mul|fma|div|min|max|setp)[.\w]*\.f64", compiled.asm["ptx"])
        binary = tmp_path / "kernel.cubin"
        binary.write_bytes(compiled.asm["cubin"])
        usage = subprocess.run([tool, "-res-usage", str(binary)], capture_output=True, text=True, check=True).stdout
        registers, stack, local = re.search(r"REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)", usage).groups()
        assert (int(stack), int(local)) == (0, 0), usage
        assert int(registers) <= 128, usage
