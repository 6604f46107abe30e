"""Presets of the SALT recipe."""

from dataclasses import replace

from fastvid.data.demo.render import DemoSize, DemoSpec
from fastvid.projects.salt.config import (
    HealthConfig,
    LossConfig,
    MaskConfig,
    ModelConfig,
    PredictorConfig,
    ProbeConfig,
    SaltConfig,
    TeacherConfig,
)
from fastvid.train.config import DataConfig
from fastvid.train.optim import OptimConfig

# Single moments are hidden, all of the frame at once: where the shape is then can only be told from how it moved
# before and after.
_HIDDEN_MOMENTS = MaskConfig(specs=("multiblock",), ratio=0.375, temporal=(0.125, 0.125), area=(1.0, 1.0))


def demo() -> SaltConfig:
    """Return a configuration that trains on the demo data set in a few minutes on two processor cores."""
    # As many frames as a clip has: half the work of making and decoding them. Large shapes on a quiet background: the
    # plateau, on which only the background is learnt, ends in time.
    data = DemoSize(spec=DemoSpec(frames=16, texture=0.05, drift=0.2, radius=(0.14, 0.22)))
    probe = ProbeConfig(train=1024, attentive_epochs=10, time_videos=384)
    config = _on_demo(teacher_steps=800, steps=1100, demo=data, probe=probe)
    # VideoMAE's positions: the exported encoder is then a VideoMAEModel of transformers, without code of its own.
    return replace(config, model=replace(config.model, positions="sinusoid"))


def proof() -> SaltConfig:
    """Return the demo preset with more steps and more videos."""
    data = DemoSize(train=4096, test=2048)
    return _on_demo(teacher_steps=4000, steps=4000, demo=data, probe=ProbeConfig(train=4096))


def _on_demo(teacher_steps: int, steps: int, demo: DemoSize, probe: ProbeConfig) -> SaltConfig:
    optim = OptimConfig(
        steps=steps, max_epochs=100, batch=16, lr=2e-3, min_lr=1e-4, warmup=50, betas=(0.9, 0.99), weight_decay_end=0.04
    )
    # Strong positions: the predictor looks at once at the same place just before and after the hidden moment.
    predictor = PredictorConfig(width=64, depth=2, heads=2, tokens=32, temperature=20.0, position_scale=4.0)
    return SaltConfig(
        data=DataConfig(size=64, sampling="span", scale=(1.0, 1.0), ratio=(1.0, 1.0), flip=0.0, cache_gb=2.0),
        model=ModelConfig(name="vit_tiny_patch16_224", width=64, depth=3, heads=2, init="mimetic"),
        teacher=TeacherConfig(
            mask=_HIDDEN_MOMENTS,
            predictor=predictor,
            # Pixels as they are: normalising each tubelet would give the dull background the weight of the shape.
            loss=LossConfig(normalize_target=False),
            optim=replace(optim, steps=teacher_steps),
        ),
        mask=_HIDDEN_MOMENTS,
        predictor=predictor,
        optim=optim,
        probe=probe,
        health=HealthConfig(every=250),
        demo=demo,
    )


def small_real() -> SaltConfig:
    """Return a configuration that trains a small ViT on hundreds to thousands of your clips, on one consumer GPU or
    overnight on a CPU: an encoder of images says what is seen in every moment, and the student predicts it for moments
    and places that it does not see."""
    # Little data: small crops of it would be of nothing, and the same clip is shown often, so that decoded clips stay.
    data = DataConfig(size=112, sampling="fps", fps=12.0, scale=(0.4, 1.0), cache_gb=8.0)
    optim = OptimConfig(steps=6_000, max_epochs=400, batch=32, lr=1e-3, min_lr=1e-5, warmup=300, betas=(0.9, 0.98))
    masks = MaskConfig(specs=("multiblock",), ratio=0.75)
    predictor = PredictorConfig(width=96, depth=4, heads=3)
    return SaltConfig(
        data=data,
        model=ModelConfig(name="vit_tiny_patch16_224", depth=6),
        teacher=TeacherConfig(source="hf:facebook/dinov2-small", mask=masks, predictor=predictor, optim=optim),
        mask=masks,
        predictor=predictor,
        loss=LossConfig(kind="l1"),
        optim=optim,
    )


def vit_small() -> SaltConfig:
    """Return a configuration that trains a ViT-S on your videos; 24 GB of GPU memory are ample."""
    optim = OptimConfig(steps=50_000, batch=64, lr=5e-4, min_lr=1e-6, warmup=2_000)
    return SaltConfig(
        model=ModelConfig(name="vit_small_patch16_224"),
        teacher=TeacherConfig(mask=_OFFICIAL_MASKS, predictor=PredictorConfig(192, 4, 6), optim=optim),
        mask=_OFFICIAL_MASKS,
        predictor=PredictorConfig(192, 12, 6),
        loss=LossConfig(kind="l1"),
        optim=optim,
    )


def vit_base() -> SaltConfig:
    """Return a configuration that trains a ViT-B on your videos."""
    optim = OptimConfig(steps=100_000, batch=128, accumulate=2, lr=5e-4, min_lr=1e-6, warmup=4_000)
    return SaltConfig(
        model=ModelConfig(name="vit_base_patch16_224"),
        teacher=TeacherConfig(mask=_OFFICIAL_MASKS, predictor=PredictorConfig(384, 4, 12), optim=optim),
        mask=_OFFICIAL_MASKS,
        loss=LossConfig(kind="l1"),
        optim=optim,
    )


def vit_large() -> SaltConfig:
    """Return a configuration that trains a ViT-L on your videos, with activation checkpointing."""
    optim = OptimConfig(steps=200_000, batch=256, accumulate=8, lr=5e-4, min_lr=1e-6, warmup=10_000)
    return SaltConfig(
        model=ModelConfig(name="vit_large_patch16_224", checkpointing=True),
        teacher=TeacherConfig(mask=_OFFICIAL_MASKS, predictor=PredictorConfig(384, 4, 12), optim=optim),
        mask=_OFFICIAL_MASKS,
        loss=LossConfig(kind="l1"),
        optim=optim,
    )


def seed_vit_base() -> SaltConfig:
    """Return the configuration published with SALT-VLA; its teacher comes with ``--teacher.source hf:NAME``."""
    optim = OptimConfig(
        steps=100_000, batch=32, lr=3e-4, min_lr=3e-5, warmup=500, betas=(0.9, 0.95),
        weight_decay=0.04, weight_decay_end=0.4, clip_grad=0.02,
    )  # fmt: skip
    masks = MaskConfig(specs=("salt",), ratio=0.75)
    return SaltConfig(
        model=ModelConfig(name="vit_base_patch16_224", positions="learned"),
        teacher=TeacherConfig(mask=masks, predictor=PredictorConfig(384, 4, 12), optim=optim),
        mask=masks,
        predictor=PredictorConfig(width=384, depth=12, heads=12),
        loss=LossConfig(kind="mse"),
        optim=optim,
    )


# V-JEPA's two masks a step: 8 small blocks and 2 large ones.
_OFFICIAL_MASKS = MaskConfig(specs=("vjepa_short", "vjepa_long"))

PRESETS = {
    "demo": demo,
    "proof": proof,
    "small-real": small_real,
    "vit-small": vit_small,
    "vit-base": vit_base,
    "vit-large": vit_large,
    "seed-vit-base": seed_vit_base,
}
