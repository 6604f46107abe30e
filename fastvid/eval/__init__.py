"""Is the encoder any good: probes on frozen features, and signs of collapse."""

import importlib

_HOMES = {
    "Accuracy": "accuracy",
    "attentive_probe": "attentive",
    "extract": "features",
    "knn_probe": "knn",
    "linear_probe": "linear",
    "rank_me": "health",
    "wilson_interval": "accuracy",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.eval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.eval' has no attribute {name!r}")
