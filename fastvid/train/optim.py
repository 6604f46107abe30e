"""Optimizer, schedules, and what they are set by."""

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import nn

from fastvid.ranges import Count, Natural, NotNegative, Positive, Range

Beta = Annotated[float, Range(0, 1, open_high=True)]


@dataclass(frozen=True)
class OptimConfig:
    """Optimisation of one stage."""

    steps: Natural = 10_000
    """Optimizer updates."""
    max_epochs: Natural = 0
    """Fewer updates where the data would be seen more often than this; 0 for no limit."""
    batch: Count = 32
    """Clips per optimizer update, over all processes and micro-batches."""
    accumulate: Count = 1
    """Micro-batches per optimizer update; batch must divide by it."""
    lr: Positive = 3e-4
    """Peak learning rate."""
    min_lr: NotNegative = 3e-5
    """Learning rate at the end of the cosine."""
    warmup: Natural = 500
    """Optimizer updates of linear warm-up."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's betas."""
    weight_decay: NotNegative = 0.04
    """Weight decay at the start; norms, biases, positions and mask tokens have none."""
    weight_decay_end: NotNegative = 0.4
    """Weight decay at the end of its cosine."""
    clip_grad: NotNegative = 1.0
    """Greatest norm of the gradient; 0 for no limit."""

    def with_rate(self, lr: float | None, min_lr: float | None) -> "OptimConfig":
        """Return the same with another peak or final learning rate; None keeps its own."""
        return dataclasses.replace(
            self, lr=self.lr if lr is None else lr, min_lr=self.min_lr if min_lr is None else min_lr
        )

    def __post_init__(self) -> None:
        if self.accumulate > 0 and self.batch % self.accumulate:  # ranges are compared elsewhere
            raise ValueError(f"optim: a batch of {self.batch} does not divide into {self.accumulate} micro-batches")

    @property
    def micro_batch(self) -> int:
        """Return the clips of a forward pass, over all processes."""
        return self.batch // self.accumulate

    def check_processes(self, count: int) -> None:
        """Raise ValueError unless ``count`` processes can share a micro-batch."""
        if self.micro_batch % count:
            raise ValueError(f"optim: micro-batches of {self.micro_batch} clips do not divide among {count} processes")


def limit_epochs(config: OptimConfig, samples: int) -> OptimConfig:
    """Return the configuration with ``steps`` and ``warmup`` lowered so that ``samples`` are seen ``max_epochs``
    times. The last batch is filled up from the next epoch.
    """
    most = math.ceil(config.max_epochs * samples / config.batch)
    if not config.max_epochs or config.steps <= most:
        return config
    return dataclasses.replace(config, steps=most, warmup=min(config.warmup, most // 10))


def learning_rate(config: OptimConfig, step: int) -> float:
    """Return the learning rate of a step: linear from lr / warmup to lr, then a cosine to min_lr at the last step."""
    if step < config.warmup:
        return config.lr * (step + 1) / config.warmup
    return _cosine(config.lr, config.min_lr, step - config.warmup, config.steps - config.warmup)


def weight_decay(config: OptimConfig, step: int) -> float:
    """Return the weight decay of a step: a cosine from weight_decay to weight_decay_end over all steps."""
    return _cosine(config.weight_decay, config.weight_decay_end, step, config.steps)


def _cosine(start: float, end: float, step: int, steps: int) -> float:
    progress = min(1.0, step / max(1, steps - 1))
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * progress))


def make_optimizer(
    module: nn.Module, config: OptimConfig, rates: Mapping[str, OptimConfig] | None = None
) -> torch.optim.AdamW:
    """Make a fused AdamW in which matrices decay, and vectors and tokens do not.

    Args:
        module: its parameters that require a gradient are trained.
        config: how.
        rates: configurations whose learning rates parts of the module have, by the name of a submodule.
    """
    rates = rates or {}
    members: dict[tuple[str | None, bool], list[nn.Parameter]] = {
        (part, decayed): [] for part in (None, *rates) for decayed in (True, False)
    }
    for name, parameter in module.named_parameters():
        if parameter.requires_grad:
            part = next((part for part in rates if part in name.split(".")), None)
            members[part, decays(name, parameter)].append(parameter)
    groups = [
        {
            "params": found, "weight_decay": config.weight_decay if decayed else 0.0, "decays": decayed,
            "rates": None if part is None else rates[part],
        }
        for (part, decayed), found in members.items()
    ]  # fmt: skip
    return torch.optim.AdamW(groups, lr=config.lr, betas=config.betas, fused=True)


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Return whether a parameter gets weight decay."""
    return parameter.ndim > 1 and not any(part in name for part in ("positions", "mask_token", "cls_token"))


def set_schedules(optimizer: torch.optim.Optimizer, config: OptimConfig, step: int) -> tuple[float, float]:
    """Set the learning rates and weight decay of a step (counted from 0), and return the rate and the decay that the
    configuration itself has."""
    lr, decay = learning_rate(config, step), weight_decay(config, step)
    for group in optimizer.param_groups:
        group["lr"] = lr if group["rates"] is None else learning_rate(group["rates"], step)
        group["weight_decay"] = decay if group["decays"] else 0.0
    return lr, decay
