"""Fast building blocks for video models: kernels, data, training.

Importing this package is cheap: sub-packages load when they are first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING

__version__ = "0.1.0"

# While Python looks for the module of `python -m fastvid...`, sys.argv[0] is "-m": a Ctrl-C during the imports that
# follow ends the command without a traceback. Programs that import fastvid are left alone.
if sys.argv[0:1] == ["-m"] and any(part.partition(".")[0] == "fastvid" for part in sys.orig_argv[1:]):
    from fastvid.command import interrupt_quietly

    interrupt_quietly()

_PACKAGES = ("data", "eval", "latents", "models", "nn", "ops", "projects", "report", "train", "video")

if TYPE_CHECKING:
    from fastvid import data as data
    from fastvid import eval as eval
    from fastvid import latents as latents
    from fastvid import models as models
    from fastvid import nn as nn
    from fastvid import ops as ops
    from fastvid import projects as projects
    from fastvid import report as report
    from fastvid import train as train
    from fastvid import video as video
    from fastvid.projects.load import load as load


def __getattr__(name: str):
    if name in _PACKAGES:
        return importlib.import_module(f"fastvid.{name}")
    if name == "load":
        return importlib.import_module("fastvid.projects.load").load
    raise AttributeError(f"module 'fastvid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_PACKAGES, "load"]
