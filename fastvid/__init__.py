"""Fast building blocks for video models: kernels, data, training.

Importing this package is cheap: sub-packages load when they are first used.
"""

import importlib

__version__ = "0.1.0"

_PACKAGES = ("data", "eval", "models", "nn", "ops", "report", "train", "video")


def __getattr__(name: str):
    if name in _PACKAGES:
        return importlib.import_module(f"fastvid.{name}")
    raise AttributeError(f"module 'fastvid' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_PACKAGES]
