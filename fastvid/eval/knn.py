"""k-nearest-neighbour classification: nothing is trained, so nothing but the features can be at fault."""

import torch
import torch.nn.functional as F

from fastvid.eval.accuracy import Accuracy
from fastvid.eval.features import Features


def knn_probe(train: Features, test: Features, *, neighbours: int = 20, temperature: float = 0.07) -> Accuracy:
    """Classify by weighted kNN on standardised, L2-normalised pooled features.

    Each of the ``neighbours`` most similar training videos votes with ``exp(cosine / temperature)`` (Wu et al., CVPR
    2018, as DINO uses it).
    """
    a, b = directions(train, test)
    classes = classes_in(train, test)
    predicted = []
    for rows in b.split(1024):
        similarity, index = (rows @ a.T).topk(min(neighbours, len(a)), dim=1)
        votes = torch.zeros(len(rows), classes)
        votes.scatter_add_(1, train.labels[index], (similarity / temperature).exp())
        predicted.append(votes.argmax(1))
    return Accuracy.from_predictions(torch.cat(predicted), test.labels)


def directions(train: Features, test: Features) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the standardised features of training and test videos as vectors of length 1, [n, D] each: the mean over a
    video's views. Their products are cosines.
    """
    a, b = standardise(train.pooled, test.pooled)
    return _mean_direction(a, train.views), _mean_direction(b, test.views)


def _mean_direction(features: torch.Tensor, views: int) -> torch.Tensor:
    directions = F.normalize(features, dim=1)
    return directions if views == 1 else F.normalize(directions.unflatten(0, (-1, views)).mean(1), dim=1)


def classes_in(train: Features, test: Features) -> int:
    """Return the number of classes that the labels of both parts name."""
    return int(max(train.labels.max(), test.labels.max())) + 1


def standardise(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift and scale each dimension of [n, D] features to mean 0 and deviation 1 on the training rows; a single row
    has no deviation, and is shifted alone.
    """
    mean = train.mean(0)
    std = train.std(0).clamp(min=1e-6) if len(train) > 1 else torch.ones_like(mean)
    return (train - mean) / std, (test - mean) / std
