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
    a, b = standardise(train.pooled, test.pooled)
    a, b = F.normalize(a, dim=1), F.normalize(b, dim=1)
    classes = int(max(train.labels.max(), test.labels.max())) + 1
    predicted = []
    for rows in b.split(1024):
        similarity, index = (rows @ a.T).topk(min(neighbours, len(a)), dim=1)
        votes = torch.zeros(len(rows), classes)
        votes.scatter_add_(1, train.labels[index], (similarity / temperature).exp())
        predicted.append(votes.argmax(1))
    return Accuracy.from_predictions(torch.cat(predicted), test.labels)


def standardise(train: torch.Tensor, test: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Shift and scale each dimension of [n, D] features to mean 0 and deviation 1 on the training rows."""
    mean, std = train.mean(0), train.std(0).clamp(min=1e-6)
    return (train - mean) / std, (test - mean) / std
