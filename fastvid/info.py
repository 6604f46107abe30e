"""``python -m fastvid.info``: versions, how the native core was built, and what is usable here.

Paste its output in bug reports.

``python -m fastvid.info RUN`` says how a run ended. ``python -m fastvid.info --decode DATA`` measures every decoder on
some videos of a folder or of shards, prints the table, and says which one to use.
"""

import importlib.metadata
import importlib.util
import os
import platform
import sys
from pathlib import Path

import torch

import fastvid
from fastvid import _native
from fastvid.command import command, user_errors
from fastvid.ops import _dispatch
from fastvid.units import size

_PACKAGES = (
    "torch",
    "triton",
    "numpy",
    "timm",
    "transformers",
    "peft",
    "av",
    "safetensors",
    "torchcodec",
    "nvidia-dali-cuda130",
    "wandb",
)


def facts() -> dict[str, dict[str, str]]:
    """Return everything this command prints: sections of names and values."""
    return {
        "versions": {"fastvid": fastvid.__version__, "python": platform.python_version(), **_versions()},
        "system": {
            "platform": platform.platform(),
            "processor": _processor(),
            "usable processors": str(len(os.sched_getaffinity(0))),
            "shared memory": _shared_memory(),
        },
        "native core": _core(),
        "usable now": {
            "gpu": _gpus(),
            "triton": _triton(),
            "decoders": _decoders(),
            "ops on cpu": "native" if _native.CORE is not None else "reference (plain PyTorch)",
            "ops on cuda": _ops_on_cuda(),
        },
    }


def as_text(sections: dict[str, dict[str, str]]) -> str:
    """Format the sections of names and values as text, with the values in one column."""
    width = max(len(name) for values in sections.values() for name in values)
    lines = []
    for section, values in sections.items():
        lines += [f"{section}:", *(f"  {name:{width}s}  {value}" for name, value in values.items())]
    return "\n".join(lines)


def _ops_on_cuda() -> str:
    rest = "Triton" if _dispatch.HAS_TRITON else "reference (plain PyTorch)"
    return f"{', '.join(sorted(_dispatch.CUDA_OPS))} CUDA, others {rest}" if _native.HAS_CUDA_KERNELS else rest


def _versions() -> dict[str, str]:
    out = {}
    for name in _PACKAGES:
        try:
            out[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            out[name] = "not installed"
    return out


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _shared_memory() -> str:
    try:
        stat = os.statvfs("/dev/shm")
    except OSError:
        return "none"
    return f"{size(stat.f_frsize * stat.f_blocks)} (fastvid does not need it)"


def _core() -> dict[str, str]:
    if _native.CORE is None:
        return {"state": _native.MISSING_REASON}
    build = _native.BUILD_INFO
    cuda = f"nvcc {build['cuda_version']}, archs {build['cuda_archs']}" if build["cuda"] else "not compiled"
    return {
        "compiler": f"{build['compiler']}, {build['build_type']}",
        "cuda kernels": cuda,
        "instruction set": f"{_native.CORE.isa()} (can run: {', '.join(_native.CORE.usable_isas())})",
    }


def _gpus() -> str:
    if not torch.cuda.is_available():
        built = f"torch is built for CUDA {torch.version.cuda}" if torch.version.cuda else "torch is built without CUDA"
        return f"none ({built})"
    names = []
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        names.append(f"{p.name}, sm_{p.major}{p.minor}, {p.total_memory / 2**30:.0f} GB")
    return "; ".join(names)


def _triton() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    return "usable" if torch.cuda.is_available() else "installed, but it needs a GPU"


def _decoders() -> str:
    from fastvid.video.decoders import DECODERS, why_not

    usable, others = [], []
    for name in DECODERS:
        reason = why_not(name)
        if reason is None:
            usable.append(name)
        else:
            others.append(f"not {name}: {reason}")
    return "; ".join([", ".join(usable), *others])


def measure_decoders(path: str, videos: int = 8) -> str:
    """Measure the decoders and return the table that ``--decode`` prints, with a conclusion.

    Raises:
        FileNotFoundError: nothing is at ``path``.
        ValueError: no videos are there, or none can be decoded.
    """
    from fastvid.data.loader.sample_views import sample_views
    from fastvid.data.sources.open import open_parts
    from fastvid.video import ViewSpec
    from fastvid.video.measure_decoders import choose, measure, table

    source, spec = open_parts(path), ViewSpec()
    samples, left_out = sample_views(source, spec, videos)
    rows = measure(samples)
    best = choose(rows)
    head = f"{len(samples)} of {source.description}, {spec.frames} frames of each cut to {spec.size} x {spec.size}"
    return "\n".join([head, *left_out, table(rows), f"fastest: {best.decoder}"])


@command
def main(arguments: list[str]) -> int:
    """Print the facts, or how the run in a directory ended."""
    if arguments and arguments[0] in ("-h", "--help"):
        print(__doc__)
        return 0
    if arguments[0:1] == ["--decode"]:
        if len(arguments) != 2:
            print("give one folder of videos or of tar shards: python -m fastvid.info --decode DATA", file=sys.stderr)
            return 2
        with user_errors(ValueError):
            table = measure_decoders(arguments[1])
        print(table)
        return 0
    if arguments:
        from fastvid.train.rundir import how_it_ended

        print(f"{arguments[0]}: {how_it_ended(Path(arguments[0]))}")
        return 0
    print(as_text(facts()))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
