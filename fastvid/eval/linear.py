"""A linear probe: multinomial logistic regression on pooled features."""

import torch
import torch.nn.functional as F

from fastvid.eval.accuracy import Accuracy
from fastvid.eval.features import Features
from fastvid.eval.knn import standardise

_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # on the mean loss: lambda / 2 * |W|^2


def linear_probe(train: Features, test: Features) -> Accuracy:
    """Fit a logistic regression on standardised pooled features, to convergence.

    The L2 penalty is chosen on every fifth training video, the fit is then repeated on all of them, and the test videos
    are looked at once.
    """
    a, b = standardise(train.pooled, test.pooled)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    held = torch.arange(len(a)) % 5 == 4
    best, penalty = -1, _PENALTIES[0]
    if held.any() and not held.all():
        for candidate in _PENALTIES:
            weight = _fit(a[~held], train.labels[~held], classes, candidate)
            correct = int((_scores(a[held], weight).argmax(1) == train.labels[held]).sum())
            if correct > best:
                best, penalty = correct, candidate
    weight = _fit(a, train.labels, classes, penalty)
    return Accuracy.from_predictions(_scores(b, weight).argmax(1), test.labels)


def _scores(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return x @ weight[:-1] + weight[-1]


def _fit(x: torch.Tensor, labels: torch.Tensor, classes: int, penalty: float) -> torch.Tensor:
    """Fit the weights [D + 1, classes]; the last row is the bias."""
    weight = torch.zeros(x.shape[1] + 1, classes, requires_grad=True)
    solver = torch.optim.LBFGS([weight], max_iter=100, tolerance_grad=1e-5, line_search_fn="strong_wolfe")

    def closure():
        solver.zero_grad()
        loss = F.cross_entropy(_scores(x, weight), labels) + 0.5 * penalty * weight[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    return weight.detach()
