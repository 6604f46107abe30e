"""Is it any good: probes on frozen features, signs of collapse, a classifier's scores and their comparison."""

import importlib

_HOMES = {
    "Accuracy": "accuracy",
    "ClassScores": "classification",
    "Classification": "classification",
    "attentive_probe": "attentive",
    "average_views": "classification",
    "extract": "features",
    "holm": "paired",
    "knn_probe": "knn",
    "linear_probe": "linear",
    "mcnemar_exact": "paired",
    "paired_bootstrap": "paired",
    "paired_permutation": "paired",
    "rank_me": "health",
    "wilson_interval": "accuracy",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str):
    if name in _HOMES:
        return getattr(importlib.import_module(f"fastvid.eval.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'fastvid.eval' has no attribute {name!r}")
