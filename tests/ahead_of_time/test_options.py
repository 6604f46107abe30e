"""Every launch a kernel may be tuned to, compiled without a GPU: under the compilers in resources.json none spills, and
each fits the shared memory of its cards."""

import functools
import warnings
from pathlib import Path

import pytest

from benchmarks.harness.launch_workloads import KERNELS, WORKLOADS, Place
from fastvid.ops._launch import PATH, Launch, Options, choosing, read
from tests.ahead_of_time.compilation import caught_launches, resource_usage, triton_compiler
from tests.ahead_of_time.resources import Resources
from tests.ahead_of_time.workloads import WORKLOADS as DEFAULTS

SHARED = {89: 99 << 10, 90: 227 << 10}  # bytes that a block may have
RECORDED = Resources(Path(__file__).with_name("resources.json")).recorded


def options_of(call) -> dict[str, Options]:
    """The options of every kernel that a call launches."""
    seen = {}

    def note(options: Options) -> Launch:
        seen[options.kernel] = options
        return options.launches[0]

    with caught_launches(), choosing(note):
        call()
    return seen


@functools.cache
def made(number: int):
    """The call of a workload, and the options of its kernels."""
    call = WORKLOADS[number].make(Place("meta"))
    return call, options_of(call)


CASES = [
    pytest.param(number, kernel, launch, id=f"{kernel}, {workload.size}: {'-'.join(map(str, launch.values()))}")
    for number, workload in enumerate(WORKLOADS)
    for kernel in workload.kernels
    for launch in made(number)[1][kernel].launches[1:]  # the defaults are compiled in test_kernels.py
]


@pytest.mark.parametrize(("number", "kernel", "launch"), CASES)
def test_no_option_spills_or_takes_too_much_shared_memory(number, kernel, launch, tmp_path):
    with caught_launches() as launches, choosing(lambda o: launch if o.kernel == kernel else o.launches[0]):
        made(number)[0]()
    (caught,) = [caught for caught in launches if caught.name == kernel]
    for arch, allowed in SHARED.items():
        compiled = caught.compile(arch)
        assert ".f64" not in compiled.asm["ptx"]
        assert compiled.metadata.shared <= allowed, f"{compiled.metadata.shared} bytes of shared memory for sm_{arch}"
        cubin = tmp_path / "kernel.cubin"
        cubin.write_bytes(compiled.asm["cubin"])
        ((found),) = resource_usage(cubin).values()
        said = f"{kernel} with {launch} spills {found.spilled} bytes for sm_{arch} under {triton_compiler(compiled)}"
        if triton_compiler(compiled) in RECORDED:
            assert found.spilled == 0, said
        elif found.spilled:
            warnings.warn(said, stacklevel=1)


def test_a_workload_lists_the_kernels_it_launches_and_every_kernel_is_tuned_once_for_a_class():
    tuned = [(kernel, made(number)[1][kernel].shape) for number, w in enumerate(WORKLOADS) for kernel in w.kernels]
    assert len(set(tuned)) == len(tuned)
    launched = {kernel for make in DEFAULTS.values() for kernel in options_of(make())}
    assert launched == set(KERNELS)


def test_the_table_holds_options_of_the_kernels_for_architectures_by_name():
    """A launch that is no option any more has not been compiled or compared: tune that architecture again."""
    options = {(o.kernel, o.shape): o for number in range(len(WORKLOADS)) for o in made(number)[1].values()}
    for architecture, kernels in read(PATH).items():
        assert architecture.startswith("sm_")
        for kernel, shapes in kernels.items():
            for shape, row in shapes.items():
                assert row["launch"] in options[kernel, shape].launches[1:]
