"""Retrieval: is what belongs to a query among its nearest neighbours?"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from fastvid.command import UserError
from fastvid.eval.accuracy import Accuracy
from fastvid.eval.features import Features
from fastvid.eval.knn import directions, standardise

DEPTHS = (1, 5, 10)
"""The numbers k of neighbours that are looked at, for R@k."""

Recalls = dict[int, tuple[Accuracy, float]]
"""R@k and the chance of it, by k."""


def recalls(
    similarity: torch.Tensor,
    relevant: torch.Tensor,
    depths: Sequence[int] = DEPTHS,
    *,
    independent: int | None = None,
) -> Recalls:
    """Compute R@k: the share of the queries with something relevant among their k most similar items.

    Chance is that of k items drawn at random without replacement, its mean over the queries. Of equally similar items
    the less relevant come first, so that features that are all alike find nothing.

    Args:
        similarity: float [Q, G], of each query to each item of the gallery; -inf where an item is not in the gallery of
            this query.
        relevant: bool [Q, G].
        depths: the numbers k.
        independent: number of independent units among the queries, None where each is one.

    Raises:
        ValueError: no query.
    """
    if not len(similarity):
        raise ValueError("retrieval needs at least one query")
    there = similarity > -math.inf
    relevant = relevant & there
    best = similarity.masked_fill(~relevant, -math.inf).max(1, keepdim=True).values
    before = (there & ~relevant & (similarity >= best)).sum(1)  # what ranks before the first relevant item
    found = relevant.any(1)
    items, good = there.sum(1).tolist(), relevant.sum(1).tolist()
    result: Recalls = {}
    for k in depths:
        chance = sum(1 - _miss(n, r, k) for n, r in zip(items, good, strict=True)) / len(items)
        result[k] = Accuracy(int((found & (before < k)).sum()), len(items), independent), chance
    return result


def label_retrieval(train: Features, test: Features) -> Recalls:
    """Retrieve training videos for each test video by the cosine of standardised features; those of the same label are
    relevant.

    Source: the protocol of Xu et al., CVPR 2019, on UCF-101 and HMDB-51.
    """
    gallery, queries = directions(train, test)
    return recalls(queries @ gallery.T, test.labels[:, None] == train.labels[None])


def pair_retrieval(train: Features, test: Features, groups: Sequence[str | None]) -> Recalls:
    """Retrieve test videos for each test video; those of the same group are relevant, such as two cuts of one scene.

    Two cuts are each other's answer, and found or missed together: the interval counts groups.

    Args:
        train: for the standardisation of the features.
        test: gallery and queries.
        groups: group of each test video, None for one that is only in the gallery.

    Raises:
        UserError: no two test videos share a group.
    """
    numbers = {name: number for number, name in enumerate(sorted({group for group in groups if group is not None}))}
    ids = torch.tensor([-1 if group is None else numbers[group] for group in groups])
    relevant = (ids[:, None] == ids[None]) & (ids[:, None] >= 0)
    relevant.fill_diagonal_(False)
    queries = relevant.any(1)
    if not queries.any():
        raise UserError("no two of the test videos have the same id in --retrieval.pairs: there is nothing to retrieve")
    _, directed = directions(train, test)
    similarity = (directed @ directed.T).fill_diagonal_(-math.inf)
    return recalls(similarity[queries], relevant[queries], independent=len(ids[queries].unique()))


def text_retrieval(
    train: Features, test: Features, train_texts: torch.Tensor, test_texts: torch.Tensor
) -> dict[str, Recalls]:
    """Retrieve test videos for captions, and captions for test videos.

    An encoder that was trained on video alone does not share a space with texts. So a ridge regression from its
    standardised features to the captions' embeddings is fitted on the training videos, its penalty chosen on every
    fifth of them. Equal embeddings are of one caption: all videos that have it are relevant to it.

    Args:
        train: n training videos.
        test: m test videos.
        train_texts: float [n, E], embedding of each training video's caption.
        test_texts: float [m, E].

    Returns:
        Recalls of "text to video" and of "video to text".
    """
    a, b = (
        _of_videos(x, part.views) for x, part in zip(standardise(train.pooled, test.pooled), (train, test), strict=True)
    )
    texts = F.normalize(train_texts.float(), dim=1)
    centre = texts.mean(0)
    held = torch.arange(len(a)) % 5 == 4
    penalties = (1e-2, 1e-1, 1.0, 10.0, 100.0)  # times the number of videos
    if held.any() and not held.all():
        errors = [
            (a[held] @ _ridge(a[~held], texts[~held] - centre, penalty) + centre - texts[held]).square().mean().item()
            for penalty in penalties
        ]
        penalty = penalties[min(range(len(penalties)), key=errors.__getitem__)]
    else:
        penalty = 1.0
    videos = F.normalize(b @ _ridge(a, texts - centre, penalty), dim=1)
    captions, of = torch.unique(F.normalize(test_texts.float(), dim=1), dim=0, return_inverse=True)
    similarity = F.normalize(captions - centre, dim=1) @ videos.T  # [captions, videos]
    relevant = torch.arange(len(captions))[:, None] == of[None]
    return {
        "text to video": recalls(similarity, relevant),
        "video to text": recalls(similarity.T, relevant.T),
    }


def _of_videos(features: torch.Tensor, views: int) -> torch.Tensor:
    return features if views == 1 else features.unflatten(0, (-1, views)).mean(1)


def _ridge(x: torch.Tensor, y: torch.Tensor, penalty: float) -> torch.Tensor:
    """Return the weights [D, E] that minimise |x W - y|^2 + penalty n |W|^2, from the smaller of the two systems."""
    x, y = x.double(), y.double()
    n, dim = x.shape
    if n < dim:
        return (x.T @ torch.linalg.solve(x @ x.T + penalty * n * torch.eye(n, dtype=x.dtype), y)).float()
    return torch.linalg.solve(x.T @ x + penalty * n * torch.eye(dim, dtype=x.dtype), x.T @ y).float()


def _miss(items: int, relevant: int, k: int) -> float:
    """Return the chance that none of k items drawn from ``items`` is one of the ``relevant``."""
    miss = 1.0
    for drawn in range(min(k, items)):
        miss *= max(0, items - relevant - drawn) / (items - drawn)
    return miss
