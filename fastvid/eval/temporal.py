"""Probes of time in features: whether a clip runs forwards, and in which order its segments come.

Both are told by linear classifiers on features averaged over space with time kept, as in the linear probe.
"""

import torch

from fastvid.eval.accuracy import Accuracy
from fastvid.eval.clip_versions import ORDERS
from fastvid.eval.features import Features
from fastvid.eval.linear import fit_linear


def arrow_probe(train: Features, test: Features) -> Accuracy:
    """Classify clips as running forwards or backwards; needs the version "reversed".

    Every video is shown in both directions, in training and in the test, so that a constant answer scores exactly 50 %,
    and so does an encoder whose features do not depend on the order of the frames. The interval counts videos.

    Source: Wei et al., "Learning and using the arrow of time", CVPR 2018.
    """
    backwards, tested = train.version("reversed"), test.version("reversed")
    n, m = len(backwards.labels), len(tested.labels)
    pairs = torch.stack([train.pooled[:n], backwards.pooled], 1).flatten(0, 1)
    fitted = fit_linear(pairs, torch.arange(2).repeat(n), 2, torch.arange(n).repeat_interleave(2))
    forwards = test.pooled[: len(tested.pooled)]
    predicted = torch.cat([fitted.predict(shown, test.views) for shown in (forwards, tested.pooled)])
    return Accuracy.from_predictions(predicted, torch.arange(2).repeat_interleave(m), independent=m)


def order_probe(train: Features, test: Features) -> Accuracy:
    """Tell in which of the six orders a clip's three segments are shown; needs the version "shuffled".

    The orders take turns over the videos, so that a constant answer scores 1 in 6.

    Source: Xu et al., "Self-supervised spatiotemporal learning via video clip order prediction", CVPR 2019.
    """
    shown, tested = train.version("shuffled"), test.version("shuffled")
    fitted = fit_linear(shown.pooled, shown.orders, len(ORDERS))
    return Accuracy.from_predictions(fitted.predict(tested.pooled, tested.views), tested.orders)
