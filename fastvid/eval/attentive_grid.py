"""V-JEPA 2's attentive probe: four blocks over all tokens, trained with a grid of learning rates and weight decays."""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import Block
from torch import nn

from fastvid.eval.accuracy import Accuracy
from fastvid.eval.attentive import require_tokens
from fastvid.eval.classification import average_views
from fastvid.eval.features import Features
from fastvid.eval.knn import classes_in
from fastvid.nn.cross_block import CrossBlock

LEARNING_RATES = (5e-3, 3e-3, 1e-3, 3e-4, 1e-4)
WEIGHT_DECAYS = (0.01, 0.1, 0.4, 0.8)
GRID = tuple(itertools.product(LEARNING_RATES, WEIGHT_DECAYS))
"""V-JEPA 2's (learning rate, weight decay) of each head."""

_DEPTH, _HEADS = 4, 16


class AttentiveHead(nn.Module):
    """Three blocks of self-attention over all tokens, one learnt query that attends to them, and a linear classifier.

    There are 16 attention heads as published, or as many as divide the width into parts of at least 16.

    Args:
        dim: width of the tokens.
        classes: number of classes.

    Source: Assran et al., "V-JEPA 2", arXiv 2506.09985, section 5.
    """

    def __init__(self, dim: int, classes: int):
        super().__init__()
        heads = max(h for h in range(1, _HEADS + 1) if dim % h == 0 and (dim // h >= 16 or h == 1))
        self.blocks = nn.ModuleList(Block(dim, heads, qkv_bias=True) for _ in range(_DEPTH - 1))
        self.context_norm = nn.LayerNorm(dim)
        self.query = nn.Parameter(torch.empty(1, 1, dim))
        self.read = CrossBlock(dim, heads)
        self.classifier = nn.Linear(dim, classes)
        nn.init.trunc_normal_(self.query, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for number, block in enumerate((*self.blocks, self.read), 1):  # the published rescaling by depth
            for name, weight in block.named_parameters():
                if name.endswith(("proj.weight", "fc2.weight")):
                    weight.data.div_(math.sqrt(2 * number))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Map [B, N, D] to [B, classes]."""
        for block in self.blocks:
            tokens = block(tokens)
        return self.classifier(self.read(self.query.expand(len(tokens), -1, -1), self.context_norm(tokens))[:, 0])


@dataclass(frozen=True)
class GridResult:
    """The results of a grid's heads.

    Attributes:
        accuracy: on the test videos, of the head that does best on the training videos held out for the choice.
        heads: learning rate, weight decay, accuracy on these (``held``) and on the test videos (``test``) of every
            head. The greatest ``test`` is what V-JEPA 2 reports; it was chosen on the test videos.
    """

    accuracy: Accuracy
    heads: list[dict[str, float]]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**self.accuracy.as_dict(), "heads": self.heads}


def attentive_grid_probe(
    train: Features,
    test: Features,
    *,
    epochs: int = 20,
    batch: int = 128,
    seed: int = 0,
    device: torch.device,
    check: Callable[[], None] = lambda: None,
) -> GridResult:
    """Train an :class:`AttentiveHead` for each learning rate and weight decay of :data:`GRID`, all in one pass.

    Each batch of tokens is brought to the device once, and every head takes its step on it: AdamW, a cosine schedule
    without warm-up, no decay of biases, norms and the query. All heads start from the same weights and are trained on
    four fifths of the training videos.

    Args:
        train: features with tokens, of one view of each video.
        test: features with tokens; the softmax is averaged over a video's views.
        epochs: times that each video is shown.
        batch: videos of a step.
        seed: seed of weights and order.
        device: where the heads are trained.
        check: called each epoch; may raise to stop.

    Raises:
        UserError: too few videos.
    """
    labels = train.with_tokens()
    held = require_tokens(train, test)
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        first = AttentiveHead(train.tokens.shape[-1], classes_in(train, test)).to(device)
        heads = [first] + [AttentiveHead(train.tokens.shape[-1], classes_in(train, test)) for _ in GRID[1:]]
        for head in heads[1:]:
            head.to(device).load_state_dict(first.state_dict())
        _train(heads, train.tokens[~held], labels[~held], epochs, batch, check)
    on_held = _correct(heads, train.tokens[held], labels[held], 1, device)
    on_test = _correct(heads, test.tokens, test.with_tokens(), test.views, device)
    best = max(range(len(heads)), key=on_held.__getitem__)
    counts = int(held.sum()), len(test.with_tokens())
    return GridResult(
        Accuracy(on_test[best], counts[1]),
        [
            {"lr": rate, "weight_decay": decay, "held": a / counts[0], "test": b / counts[1]}
            for (rate, decay), a, b in zip(GRID, on_held, on_test, strict=True)
        ],
    )


def _train(heads: list[AttentiveHead], tokens: torch.Tensor, labels: torch.Tensor, epochs: int, batch: int, check):
    device = heads[0].query.device
    optimizers = [_optimizer(head, rate, decay) for head, (rate, decay) in zip(heads, GRID, strict=True)]
    steps, step = epochs * math.ceil(len(labels) / batch), 0
    with torch.enable_grad():
        for _ in range(epochs):
            check()
            for rows in torch.randperm(len(labels)).split(batch):
                x, y = tokens[rows].to(device), labels[rows].to(device)
                share = 0.5 * (1 + math.cos(math.pi * step / steps))
                step += 1
                for head, optimizer, (rate, _) in zip(heads, optimizers, GRID, strict=True):
                    for group in optimizer.param_groups:
                        group["lr"] = rate * share
                    loss = F.cross_entropy(_scores(head, x), y)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
    for head in heads:
        head.eval()


def _optimizer(head: AttentiveHead, rate: float, decay: float) -> torch.optim.Optimizer:
    decayed = [weight for weight in head.parameters() if weight.ndim == 2]
    others = [weight for weight in head.parameters() if weight.ndim != 2]
    return torch.optim.AdamW([{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0}], rate)


def _scores(head: AttentiveHead, tokens: torch.Tensor) -> torch.Tensor:
    with torch.autocast(tokens.device.type, torch.bfloat16, enabled=tokens.is_cuda):
        scores = head(tokens.float())
    return scores.float()


@torch.no_grad()
def _correct(
    heads: list[AttentiveHead], tokens: torch.Tensor, labels: torch.Tensor, views: int, device: torch.device
) -> list[int]:
    """Return each head's number of right answers about videos with ``views`` views each."""
    right = [0] * len(heads)
    videos = max(1, 128 // views)
    for x, y in zip(tokens.split(videos * views), labels.split(videos), strict=True):
        x = x.to(device)
        for number, head in enumerate(heads):
            predicted = average_views(_scores(head, x).unflatten(0, (-1, views))).argmax(1)
            right[number] += int((predicted.cpu() == y).sum())
    return right
