"""Presets of the trajectory recipe."""

from dataclasses import replace

from fastvid.projects.trajectory.config import ModelConfig, TokenConfig, TrajectoryConfig
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.train.config import RunConfig
from fastvid.train.optim import OptimConfig

_UNLIMITED = 1_000_000  # steps; max_epochs says when it ends


def _optim(epochs: int) -> OptimConfig:
    return OptimConfig(
        steps=_UNLIMITED, max_epochs=epochs, batch=64, lr=2e-3, min_lr=2e-5, warmup=30, betas=(0.9, 0.999),
        weight_decay=0.01, weight_decay_end=0.01,
    )  # fmt: skip


def demo() -> TrajectoryConfig:
    """Return a configuration that makes videos, finds their objects, and trains and measures both workers and all
    controls in a few minutes on two processor cores."""
    return TrajectoryConfig(
        data=SceneConfig(train=2048, val=512, test=512),
        tokens=TokenConfig(features="pixels"),
        model=ModelConfig(width=128, heads=4, dropout=0.0),
        optim=_optim(epochs=10),
        run=RunConfig(checkpoint_every=100),
    )


def hard() -> TrajectoryConfig:
    """Return the demo preset on videos in which no single frame tells persistent and transient objects apart."""
    base = demo()
    return replace(base, data=replace(base.data, variant="hard"), optim=_optim(epochs=20))


def full() -> TrajectoryConfig:
    """Return a configuration with 10,000 videos and the transformer in full width, for a GPU."""
    base = demo()
    return replace(
        base, data=SceneConfig(train=8000, val=1000, test=1000), model=ModelConfig(), optim=_optim(epochs=50)
    )


PRESETS = {"demo": demo, "hard": hard, "full": full}
