"""Is it any good: probes on frozen features, signs of collapse, a classifier's scores and their comparison."""

from typing import TYPE_CHECKING

from fastvid.lazy import lazy_names

_HOMES = {
    "Accuracy": "accuracy",
    "ClassScores": "classification",
    "Classification": "classification",
    "arrow_probe": "temporal",
    "attentive_grid_probe": "attentive_grid",
    "attentive_probe": "attentive",
    "average_views": "classification",
    "extract": "features",
    "holm": "paired",
    "knn_probe": "knn",
    "label_retrieval": "retrieval",
    "linear_probe": "linear",
    "mcnemar_exact": "paired",
    "order_probe": "temporal",
    "paired_bootstrap": "paired",
    "paired_permutation": "paired",
    "rank_me": "health",
    "text_retrieval": "retrieval",
    "wilson_interval": "accuracy",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from fastvid.eval.accuracy import Accuracy as Accuracy
    from fastvid.eval.accuracy import wilson_interval as wilson_interval
    from fastvid.eval.attentive import attentive_probe as attentive_probe
    from fastvid.eval.attentive_grid import attentive_grid_probe as attentive_grid_probe
    from fastvid.eval.classification import Classification as Classification
    from fastvid.eval.classification import ClassScores as ClassScores
    from fastvid.eval.classification import average_views as average_views
    from fastvid.eval.features import extract as extract
    from fastvid.eval.health import rank_me as rank_me
    from fastvid.eval.knn import knn_probe as knn_probe
    from fastvid.eval.linear import linear_probe as linear_probe
    from fastvid.eval.paired import holm as holm
    from fastvid.eval.paired import mcnemar_exact as mcnemar_exact
    from fastvid.eval.paired import paired_bootstrap as paired_bootstrap
    from fastvid.eval.paired import paired_permutation as paired_permutation
    from fastvid.eval.retrieval import label_retrieval as label_retrieval
    from fastvid.eval.retrieval import text_retrieval as text_retrieval
    from fastvid.eval.temporal import arrow_probe as arrow_probe
    from fastvid.eval.temporal import order_probe as order_probe

__getattr__ = lazy_names(__name__, _HOMES)
