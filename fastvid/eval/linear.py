"""A linear probe: multinomial logistic regression on pooled features."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F

from fastvid.eval.accuracy import Accuracy
from fastvid.eval.classification import average_views
from fastvid.eval.features import Features
from fastvid.eval.knn import classes_in

_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)  # on the mean loss: lambda / 2 * |W|^2


@dataclass(frozen=True)
class LinearClassifier:
    """A logistic regression on standardised features.

    Attributes:
        mean: float32 [D], of the features that it was fitted on.
        std: float32 [D], likewise.
        weight: float32 [D + 1, C]; the last row is the bias.
    """

    mean: torch.Tensor
    std: torch.Tensor
    weight: torch.Tensor

    def probabilities(self, pooled: torch.Tensor, views: int = 1) -> torch.Tensor:
        """Return probabilities float32 [n, C] for pooled features [n * views, D], averaged over each video's views."""
        return average_views(_scores((pooled - self.mean) / self.std, self.weight).unflatten(0, (-1, views)))

    def predict(self, pooled: torch.Tensor, views: int = 1) -> torch.Tensor:
        """Return the likeliest class of each video, int64 [n]."""
        return self.probabilities(pooled, views).argmax(1)


def fit_linear(
    pooled: torch.Tensor, labels: torch.Tensor, classes: int, videos: torch.Tensor | None = None
) -> LinearClassifier:
    """Fit a logistic regression on standardised features, to convergence.

    The L2 penalty is chosen on every fifth video, and the fit is then repeated on all of them.

    Args:
        pooled: float32 [n, D].
        labels: int64 [n].
        classes: C, number of classes.
        videos: int64 [n], number of the video that each row is of, so that none is on both sides; None where each is
            one.
    """
    mean, std = pooled.mean(0), pooled.std(0).clamp(min=1e-6)
    a = (pooled - mean) / std
    held = (torch.arange(len(a)) if videos is None else videos) % 5 == 4
    best, penalty = -1, _PENALTIES[0]
    if held.any() and not held.all():
        for candidate in _PENALTIES:
            weight = _fit(a[~held], labels[~held], classes, candidate)
            correct = int((_scores(a[held], weight).argmax(1) == labels[held]).sum())
            if correct > best:
                best, penalty = correct, candidate
    return LinearClassifier(mean, std, _fit(a, labels, classes, penalty))


def fit_labels(train: Features, test: Features) -> LinearClassifier:
    """Fit :func:`fit_linear` to the labels of the training videos; ``test`` may have classes that they lack."""
    return fit_linear(train.pooled, train.labels, classes_in(train, test))


def linear_probe(train: Features, test: Features) -> Accuracy:
    """Fit a logistic regression on the training videos and look at the test videos once."""
    fitted = fit_labels(train, test)
    return Accuracy.from_predictions(fitted.predict(test.pooled, test.views), test.labels)


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
