"""Every GPU kernel, compiled for every architecture on a machine without a GPU: no float64, and under the compilers in
resources.json no spills and no more registers or shared memory than it says.

``FASTVID_UPDATE_RESOURCES=1 pytest tests/ahead_of_time`` writes the figures of the compilers at hand into that file.
Under any other compiler they are reported in warnings, and only float64 fails.
"""

import os
import re
from pathlib import Path

import pytest

from fastvid import _native
from fastvid.ops._dispatch import CUDA_OPS
from tests.ahead_of_time.compilation import (
    ARCHS,
    caught_launches,
    cuobjdump,
    cuobjdump_version,
    resource_usage,
    triton_compiler,
)
from tests.ahead_of_time.resources import Resources
from tests.ahead_of_time.workloads import WORKLOADS


@pytest.fixture(scope="module")
def resources():
    update = os.environ.get("FASTVID_UPDATE_RESOURCES") == "1"
    resources = Resources(Path(__file__).with_name("resources.json"), update)
    yield resources
    if update:
        resources.save()


@pytest.mark.parametrize("name", WORKLOADS)
def test_triton_kernels(name, resources, tmp_path):
    with caught_launches() as launches:
        WORKLOADS[name]()()
    assert launches
    for launch in launches:
        usage = {}
        for arch in ARCHS:
            compiled = launch.compile(arch)
            assert ".f64" not in compiled.asm["ptx"], f"{launch.name} computes in float64"
            cubin = tmp_path / f"{launch.name}.cubin"
            cubin.write_bytes(compiled.asm["cubin"])
            ((found),) = resource_usage(cubin).values()
            usage[f"sm_{arch}"] = found._replace(shared=compiled.metadata.shared)
        resources.judge(triton_compiler(compiled), f"{name}: {launch.name}", usage)


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
def test_cuda_kernels(resources):
    version, archs = _native.BUILD_INFO["cuda_version"], _native.BUILD_INFO["cuda_archs"].split()
    if tuple(map(int, version.split(".")[:2])) > cuobjdump_version():
        pytest.skip(f"triton's cuobjdump, of CUDA {cuobjdump_version()}, may not read what nvcc {version} wrote")
    core = Path(_native.CORE.__file__)
    usage: dict[str, dict] = {}
    for (kernel, sm), found in resource_usage(core).items():
        usage.setdefault(_name(kernel), {})[sm] = found
    assert all(any(op in name for name in usage) for op in CUDA_OPS)
    real = {f"sm_{arch.removesuffix('-real')}" for arch in archs if not arch.endswith("-virtual")}
    for kernel, by_arch in usage.items():
        assert by_arch.keys() == real
        resources.judge(f"nvcc {version}", kernel, by_arch)
    if not all(arch.endswith("-real") for arch in archs):
        ptx = cuobjdump("-ptx", core)
        assert ".entry" in ptx
        assert ".f64" not in ptx
