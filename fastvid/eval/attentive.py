"""An attentive probe: a learnt query reads all tokens, as V-JEPA's frozen evaluation does."""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from fastvid.command import UserError
from fastvid.eval.accuracy import Accuracy
from fastvid.eval.classification import average_views
from fastvid.eval.features import Features
from fastvid.eval.knn import classes_in

_LEARNING_RATES = (3e-4, 1e-3, 3e-3)


class AttentiveClassifier(nn.Module):
    """One learnt query attends to all tokens, then an MLP and a linear classifier: V-JEPA's frozen evaluation.

    The query is the same for every clip, so its product with the key projection is learnt as one vector per head, and
    values are projected after they have been averaged: no token is ever multiplied by a matrix, which computes the same
    family of functions at a fraction of the cost.

    Args:
        dim: width of the tokens; a multiple of ``heads``.
        classes: number of classes.
        heads: number of attention heads.
    """

    def __init__(self, dim: int, classes: int, heads: int):
        super().__init__()
        self.query = nn.Parameter(torch.empty(heads, dim))
        self.value = nn.Parameter(torch.empty(heads, dim // heads, dim))
        self.out = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.classifier = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.query, std=0.02)
        nn.init.xavier_uniform_(self.value.view(dim, dim))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map [B, N, D] to [B, classes]."""
        tokens = F.layer_norm(tokens, tokens.shape[-1:])  # an affine norm's scale and shift are in the matrices
        attention = (tokens @ self.query.T).softmax(1)  # [B, N, heads]
        read = attention.transpose(1, 2) @ tokens  # [B, heads, D]
        x = self.out(torch.einsum("bhe,hde->bhd", read, self.value).flatten(1))
        x = x + self.mlp(self.norm(x))
        return self.classifier(x)


def attentive_probe(
    train: Features,
    test: Features,
    *,
    epochs: int = 20,
    batch: int = 128,
    seed: int = 0,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> Accuracy:
    """Train an :class:`AttentiveClassifier` on frozen tokens with AdamW and a cosine schedule.

    Classifiers with several learning rates are trained on four fifths of the training videos; the one that does best
    on the remaining fifth is tested. Test videos whose tokens were not kept for want of memory are left out.
    ``check`` is called each epoch and may raise to stop.
    """
    labels, held = train.with_tokens(), require_tokens(train, test)
    classes = classes_in(train, test)
    dim = train.tokens.shape[-1]
    heads = next(h for h in (12, 8, 6, 4, 3, 2, 1) if (dim % h == 0 and dim // h >= 16) or h == 1)
    best: tuple[int, nn.Module] | None = None
    for rate in _LEARNING_RATES:
        # The same weights and order for each rate; the caller's generators stay as they are.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            model = AttentiveClassifier(dim, classes, heads).to(device)
            _train(model, train.tokens[~held], labels[~held], rate, epochs, batch, check)
        correct = int((_predict(model, train.tokens[held], device) == labels[held]).sum())
        if best is None or correct > best[0]:
            best = (correct, model)
    assert best is not None
    return Accuracy.from_predictions(_predict(best[1], test.tokens, device, test.views), test.with_tokens())


def require_tokens(train: Features, test: Features) -> torch.Tensor:
    """Return bool [m], the training videos with tokens that are held out for the choice of settings: every fifth.

    Raises:
        UserError: there are too few videos.
    """
    fitted, tested = len(train.with_tokens()), len(test.with_tokens())
    if fitted < 5 or not tested:
        raise UserError(
            f"an attentive probe needs at least 5 training videos and a test video that can be decoded; there are "
            f"{fitted} and {tested}: give more videos, or see bad_samples.jsonl"
        )
    return torch.arange(fitted) % 5 == 4


def _train(model: nn.Module, tokens, labels, rate: float, epochs: int, batch: int, check) -> None:
    device = next(model.parameters()).device
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01)
    steps, step = epochs * math.ceil(len(labels) / batch), 0
    with torch.enable_grad():
        for _ in range(epochs):
            check()
            for rows in torch.randperm(len(labels)).split(batch):
                for group in optimizer.param_groups:
                    group["lr"] = rate * 0.5 * (1 + math.cos(math.pi * step / steps))
                step += 1
                scores = model(tokens[rows].to(device).float())
                loss = F.cross_entropy(scores, labels[rows].to(device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    model.eval()


@torch.no_grad()
def _predict(model: nn.Module, tokens: torch.Tensor, device: torch.device, views: int = 1) -> torch.Tensor:
    """Return the likeliest class of each video, int64 [n], by the mean over its views of the softmax."""
    parts = tokens.split(views * max(1, 256 // views))
    scores = torch.cat([model(part.to(device).float()).cpu() for part in parts])
    return average_views(scores.unflatten(0, (-1, views))).argmax(1)
