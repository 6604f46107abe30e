"""Builds the native core with CMake. Everything else about the package is in pyproject.toml.

Environment variables read here:
    FASTVID_NATIVE=0      install without the native core: ops run as plain PyTorch
    FASTVID_CUDA=0|1      never, or always, compile the CUDA kernels (default: when nvcc is found)
    FASTVID_CUDA_ARCHS    semicolon-separated CUDA architectures instead of the supported list
"""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()


class CMakeBuild(build_ext):
    """Runs CMake with Ninja and puts fastvid/_C next to the package's Python files."""

    def build_extension(self, ext):
        if importlib.util.find_spec("pybind11") is None:
            sys.exit(
                "fastvid's build needs pybind11, cmake and ninja: drop --no-build-isolation, or "
                "`pip install pybind11 cmake ninja` first, or set FASTVID_NATIVE=0 to build without the native core"
            )
        import pybind11

        cuda = {"": "auto", "0": "off", "1": "on"}.get(os.environ.get("FASTVID_CUDA", ""))
        if cuda is None:
            sys.exit(f"FASTVID_CUDA is {os.environ['FASTVID_CUDA']!r}: use 0, 1 or leave it unset")
        output = Path(self.get_ext_fullpath(ext.name)).resolve().parent
        # Kept in the tree, so that the next installation compiles only what changed; pip's own folder would be deleted.
        build = ROOT / "build" / f"native-{sysconfig.get_platform()}-{sys.implementation.cache_tag}"
        build.mkdir(parents=True, exist_ok=True)
        forget_tools(build)
        configure = [
            "cmake", "-S", str(ROOT), "-B", str(build), "-G", "Ninja",
            f"-DFASTVID_OUTPUT_DIR={output}",
            f"-DFASTVID_CUDA={cuda}",
            f"-DFASTVID_CUDA_ARCHS={os.environ.get('FASTVID_CUDA_ARCHS', '')}",
            f"-DPython_EXECUTABLE={sys.executable}",
            f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
        ]  # fmt: skip
        subprocess.run(configure, check=True)
        subprocess.run(["cmake", "--build", str(build)], check=True)


def forget_tools(build):
    """Delete what CMake remembers of an earlier build's tools, which pip has deleted; the objects stay."""
    (build / "CMakeCache.txt").unlink(missing_ok=True)
    for found in build.glob("CMakeFiles/[0-9]*"):
        shutil.rmtree(found)


native = os.environ.get("FASTVID_NATIVE", "1") != "0"
if not native:
    for earlier in (ROOT / "fastvid").glob("_C.*"):  # a core built in place before would still be loaded
        earlier.unlink()
setup(
    ext_modules=[Extension("fastvid._C", sources=[])] if native else [],
    cmdclass={"build_ext": CMakeBuild},
)
