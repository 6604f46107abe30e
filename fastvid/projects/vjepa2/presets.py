"""Presets of the V-JEPA 2 recipe."""

from fastvid.data.demo.render import DemoSize, DemoSpec
from fastvid.projects.vjepa2.config import FeaturesConfig, VJepa2Config, VJepa2ModelConfig
from fastvid.train.config import LabelledDataConfig, RunConfig
from fastvid.train.optim import OptimConfig

_UNLIMITED = 1_000_000  # steps; max_epochs says when it ends


def _optim(batch: int, epochs: int, warmup: int, lr: float = 2e-4) -> OptimConfig:
    return OptimConfig(
        steps=_UNLIMITED, max_epochs=epochs, batch=batch, lr=lr, min_lr=lr / 100, warmup=warmup, betas=(0.9, 0.999),
        weight_decay=0.01, weight_decay_end=0.01,
    )  # fmt: skip


def demo() -> VJepa2Config:
    """Return a configuration that trains a small model on the demo data set, from random weights, in a minute or two
    on two processor cores.
    """
    spec = DemoSpec(frames=16, texture=0.05, drift=0.2, radius=(0.14, 0.22))
    return VJepa2Config(
        approach="pooler+lora",
        data=LabelledDataConfig(frames=8, size=64, sampling="span", scale=(0.6, 1.0), flip=0.5),
        demo=DemoSize(train=1040, test=400, spec=spec),
        model=VJepa2ModelConfig(init="tiny"),
        optim=_optim(batch=16, epochs=10, warmup=20, lr=1e-3),
        features=FeaturesConfig(views=2),
        run=RunConfig(log_every=10, checkpoint_every=100, keep=1),
    )


def vitl() -> VJepa2Config:
    """Return a configuration that trains V-JEPA 2 ViT-L, as fine-tuned on SSv2, on your labelled videos."""
    return VJepa2Config(
        data=LabelledDataConfig(size=256, sampling="stride", stride=4),
        optim=_optim(batch=16, epochs=10, warmup=50),
        features=FeaturesConfig(views=2),
    )


PRESETS = {"demo": demo, "vitl": vitl}
