"""The checks of the smoke test: which there are, and how one is run."""

from typing import NamedTuple

import torch

from fastvid.ops._dispatch import INTERPRETED, Backend, why_no_native, why_no_triton
from tests.conformance.cases import CASES
from tests.conformance.checks import SEEDS, SPECS, check_error, check_masks, poisoned_memory
from tests.gpu.behaviour import CHECKS, check_compiled_step
from tests.gpu.calls import CALLS
from tools.gpu.scale import Scale, scale

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
BACKENDS: tuple[Backend, ...] = ("triton", "native")
GRIDS = (((8, 14, 14), 1176, 392), ((3, 7, 5), 60, 30))
LIMIT = 75.0  # seconds of one check


class SmokeCheck(NamedTuple):
    """One check.

    Attributes:
        what: "against float64", "masks", a key of :data:`tests.gpu.behaviour.CHECKS`, "compiled step" or "SALT step".
        name: of the case, the mask spec, the call or the variant.
        dtype: a key of :data:`DTYPES`.
        backend: of the kernel; "auto" where the call says it, or it is the user's default.
        rehearsed: runs on a CPU.
    """

    what: str
    name: str
    dtype: str
    backend: Backend
    rehearsed: bool

    def __str__(self) -> str:
        return f"{self.name}, {self.dtype}, {self.backend}: {self.what}"


def missing(kind: str) -> dict[str, str]:
    """Return the backends whose kernels cannot run here, with the reason. Their checks are left out and reported."""
    capability = torch.cuda.get_device_capability() if kind == "cuda" else None
    found = {"triton": why_no_triton(kind, capability), "native": why_no_native("multiblock_mask", kind, capability)}
    return {backend: why for backend, why in found.items() if why}


def all_checks(which: Scale) -> list[SmokeCheck]:
    """Return the checks to run on a device, the longest first."""
    kind, rehearsed = which.device.kind, which.device.kind == "cpu"
    gone = missing(kind)
    backends = [backend for backend in BACKENDS if backend not in gone]

    def runs(op: str, backend: str) -> bool:
        capability = torch.cuda.get_device_capability() if kind == "cuda" else None
        return backend == "triton" or why_no_native(op, kind, capability) is None

    dtypes = [name for name in DTYPES if not (INTERPRETED and name == "bfloat16")]  # the interpreter gets it wrong
    if not which.smoke_everything:
        dtypes = dtypes[:1]
    names = [name for name in CASES if " far" not in name]  # gigabytes: the stage "suites" has them
    if not which.smoke_everything:
        names = [next(name for name in names if name.split()[0] == op) for op in {name.split()[0]: 0 for name in names}]
    usual = "float32" if rehearsed else "bfloat16"  # of a step, and of how ops behave
    checks = [SmokeCheck("SALT step", variant, usual, "auto", rehearsed) for variant in VARIANTS]
    checks += [SmokeCheck("compiled step", "several ops", dtype, "auto", rehearsed) for dtype in dtypes]
    checks += [
        SmokeCheck("against float64", name, dtype, backend, rehearsed)
        for name in sorted(names, key=lambda name: "glimpse" not in name)
        for dtype in dtypes
        for backend in backends
        if runs(name.split()[0], backend)
    ]
    checks += [
        SmokeCheck("masks", spec, "float32", backend, rehearsed)
        for spec in list(SPECS)[: None if which.smoke_everything else 2]
        for backend in backends
        if runs("multiblock_mask", backend)
    ]
    checks += [
        SmokeCheck(what, call, usual, "auto", rehearsed)
        for call in CALLS
        if not (call.endswith("in CUDA") and "native" in gone)
        and not (call.endswith("in Triton") and ("triton" in gone or INTERPRETED))  # its sizes take the latter minutes
        for what in CHECKS
    ]
    return checks


def native_checks(which: Scale) -> list[SmokeCheck]:
    """Return the checks of the native core's kernels alone, for the sanitizer: it slows everything."""
    return [
        check
        for check in all_checks(which)
        if check.backend == "native" or (check.what == "two runs agree" and check.name.endswith("in CUDA"))
    ]


# Compiled here, side by side with the checks, so that the stage "steps" finds them compiled.
VARIANTS = ("recommended", "subset, budget")


def run_check(check: SmokeCheck) -> None:
    """Run one check, and raise what is wrong."""
    which = scale(check.rehearsed)
    device, dtype = which.device, DTYPES[check.dtype]
    torch.manual_seed(0)
    if check.what == "SALT step":
        from tools.gpu.steps import salt_step_is_finite

        salt_step_is_finite(check.name, which)
    elif check.what == "compiled step":
        check_compiled_step(dtype, device)
    elif check.what == "against float64":
        with poisoned_memory():
            check_error(check.name, dtype, check.backend, device.kind)
    elif check.what == "masks":
        grids = GRIDS[1:] if INTERPRETED else GRIDS
        for grid, masked, visible in grids:
            with poisoned_memory():
                check_masks(check.name, grid, masked, visible, check.backend, device.kind, SEEDS)
    else:
        CHECKS[check.what](CALLS[check.name](dtype, device.kind), device)


def healthy() -> None:
    """Raise an error where this process has lost the device."""
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()
