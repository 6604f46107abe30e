"""Every GPU kernel, compiled for every architecture on a machine without a GPU: no spills, no float64, and no more
registers or shared memory than resources.json says.

``FASTVID_UPDATE_RESOURCES=1 pytest tests/ahead_of_time`` writes that table anew. It holds for the compilers it names;
under others the figures are not compared, which a warning says, and spills and float64 still fail.
"""

import json
import os
import re
import subprocess
import warnings
from pathlib import Path

import pytest
import triton

from fastvid import _native
from fastvid.ops._dispatch import CUDA_OPS
from tests.ahead_of_time.compilation import ARCHS, CUOBJDUMP, caught_launches, resource_usage
from tests.ahead_of_time.workloads import WORKLOADS

TABLE = Path(__file__).with_name("resources.json")
UPDATE = os.environ.get("FASTVID_UPDATE_RESOURCES") == "1"


@pytest.fixture(scope="module")
def table():
    recorded = json.loads(TABLE.read_text()) if TABLE.exists() else {}
    measured: dict = {}
    yield recorded, measured
    if UPDATE:
        TABLE.write_text(json.dumps({**recorded, **measured}, indent=1, sort_keys=True) + "\n")


def check(table, compiler: str, version: str, name: str, arch: int, found: dict[str, int]) -> None:
    """Compares one kernel's figures with the table's, or notes them for a new one."""
    recorded, measured = table
    assert found["spilled"] == 0, f"{name} for sm_{arch} spills {found['spilled']} bytes"
    rows = measured.setdefault(compiler, {"version": version, "kernels": {}})["kernels"]
    rows.setdefault(name, {})[f"sm_{arch}"] = [found["registers"], found["shared"]]
    if UPDATE:
        return
    registers, shared = recorded[compiler]["kernels"][name][f"sm_{arch}"]
    if recorded[compiler]["version"] != version:  # another compiler allocates otherwise
        warnings.warn(
            f"resources.json is of {compiler} {recorded[compiler]['version']}, and this is {version}: registers and "
            "shared memory are not compared",
            stacklevel=2,
        )
        return
    assert found["registers"] <= registers, f"{name} for sm_{arch}: {found['registers']} registers, {registers} allowed"
    assert found["shared"] <= shared, f"{name} for sm_{arch}: {found['shared']} shared bytes, {shared} allowed"


@pytest.mark.parametrize("name", WORKLOADS)
def test_triton_kernels(name, table, tmp_path):
    with caught_launches() as launches:
        WORKLOADS[name]()()
    assert launches
    for launch in launches:
        for arch in ARCHS:
            compiled = launch.compile(arch)
            assert ".f64" not in compiled.asm["ptx"], f"{launch.name} computes in float64"
            cubin = tmp_path / f"{launch.name}.cubin"
            cubin.write_bytes(compiled.asm["cubin"])
            ((found),) = resource_usage(cubin).values()
            found["shared"] = compiled.metadata.shared
            check(table, "triton", triton.__version__, f"{name}: {launch.name}", arch, found)


def test_every_triton_kernel_has_a_workload():
    source = Path(_native.__file__).parent / "ops"
    kernels = {
        name
        for path in source.glob("*/triton*.py")
        for name in re.findall(r"^def (\w+_kernel)\(", path.read_text(), re.MULTILINE)
    }
    compiled = set()
    for run in WORKLOADS.values():
        with caught_launches() as launches:
            run()()
        compiled |= {launch.name for launch in launches}
    assert compiled == kernels


def _name(mangled: str) -> str:
    """The name of a CUDA kernel, with the dtype it is made for."""
    name, rest = re.search(r"\d([a-z_]+_kernel)(\w*)", mangled).groups()
    types = {"Ih": " uint8", "If": " fp32", "BFloat16": " bf16", "Float16": " fp16"}
    return name + next((dtype for code, dtype in types.items() if rest.startswith("I") and code in rest[:99]), "")


@pytest.mark.skipif(not _native.HAS_CUDA_KERNELS, reason="built without nvcc")
def test_cuda_kernels(table):
    core = Path(_native.CORE.__file__)
    usage = resource_usage(core)
    names = {kernel: _name(kernel) for kernel, _ in usage}
    assert all(any(op in name for name in names.values()) for op in CUDA_OPS)
    assert {arch for _, arch in usage} >= {str(arch) for arch in ARCHS}
    version = _native.BUILD_INFO["cuda_version"]
    for (kernel, arch), found in usage.items():
        check(table, "nvcc", version, names[kernel], int(arch), found)
    ptx = subprocess.run([CUOBJDUMP, "-ptx", core], capture_output=True, text=True, check=True).stdout
    assert ".entry" in ptx
    assert ".f64" not in ptx
