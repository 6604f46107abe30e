"""Presets of the fVLM recipe."""

from dataclasses import replace

from fastvid.projects.fvlm.config import CurriculumConfig, FvlmConfig, RestartConfig, TestConfig
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.scenes import SceneConfig
from fastvid.train.config import RunConfig
from fastvid.train.optim import OptimConfig


def _optim(steps: int) -> OptimConfig:
    return OptimConfig(
        steps=steps, batch=16, lr=2e-3, min_lr=1e-4, warmup=100, betas=(0.9, 0.98), weight_decay=0.02,
        weight_decay_end=0.02,
    )  # fmt: skip


def demo() -> FvlmConfig:
    """Return a configuration that makes clips of tiles with letters, and trains and tests both models in a few minutes
    on two processor cores."""
    return FvlmConfig(
        demo=SceneConfig(),
        model=ModelConfig(init="tiny"),
        curriculum=CurriculumConfig(one_frame=250, few_tiles=300),
        loss=LossConfig(coarse_weight=0.3, entropy_floor=0.7, entropy_from=250, entropy_steps=650),
        optim=_optim(1000),
        restart=RestartConfig(step=300),
        coarse_optim=_optim(600),
        run=RunConfig(checkpoint_every=250, precision="float32", threads=1),
    )


def proof() -> FvlmConfig:
    """Return the demo with more tiles on a moving background."""
    base = demo()
    return replace(
        base,
        demo=replace(base.demo, tiles=12, background="moving", train=30_000),
        optim=_optim(6000),
        restart=RestartConfig(step=500),
        coarse_optim=_optim(2000),
        test=TestConfig(every=500),
    )


PRESETS = {"demo": demo, "proof": proof}
