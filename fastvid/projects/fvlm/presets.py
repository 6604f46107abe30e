"""Presets of the fVLM recipe."""

from dataclasses import replace

from fastvid.projects.fvlm.config import (
    BackboneConfig,
    CurriculumConfig,
    FvlmConfig,
    RestartConfig,
    TestConfig,
    TextDataConfig,
)
from fastvid.projects.fvlm.loss_config import LossConfig
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.reconstruct_config import ReconstructConfig
from fastvid.projects.fvlm.scenes import SceneConfig
from fastvid.train.config import RunConfig
from fastvid.train.optim import OptimConfig

_TOKEN_SCALE = 0.14  # of visual tokens in the published models


def _optim(steps: int) -> OptimConfig:
    return OptimConfig(
        steps=steps, batch=32, lr=2e-3, min_lr=1e-4, warmup=100, betas=(0.9, 0.98), weight_decay=0.02,
        weight_decay_end=0.02,
    )  # fmt: skip


def _adamw(*, lr: float, min_lr: float = 0.0, **options: int) -> OptimConfig:
    """Return the optimisation of the published runs."""
    return OptimConfig(
        lr=lr, min_lr=min_lr, betas=(0.9, 0.999), weight_decay=0.01, weight_decay_end=0.01, clip_grad=1.0, **options
    )


def demo() -> FvlmConfig:
    """Return a configuration that makes clips of tiles with letters, and trains and tests both models in a few minutes
    on two processor cores."""
    return FvlmConfig(
        demo=SceneConfig(),
        # One layer, whose attention is measured: with two, some seeds come to read in the second.
        model=ModelConfig(init="tiny", tiny_encoder_layers=1),
        loss=LossConfig(coarse_weight=0.3, entropy_floor=0.7, entropy_weight=2.0, entropy_from=250, entropy_steps=650),
        optim=_optim(900),
        restart=RestartConfig(step=300),
        coarse_optim=_optim(900),
        run=RunConfig(checkpoint_every=250, precision="float32", threads=1),
    )


def proof() -> FvlmConfig:
    """Return the demo with more tiles on a moving background."""
    base = demo()
    return replace(
        base,
        demo=replace(base.demo, tiles=12, background="moving", train=24_000),
        curriculum=CurriculumConfig(one_tile=50, one_frame=300, two_frames=500),
        loss=replace(base.loss, entropy_from=350, entropy_steps=1250),
        optim=_optim(1600),
        restart=RestartConfig(step=400),
        coarse_optim=_optim(1600),
    )


def phase2() -> FvlmConfig:
    """Return the published reconstruction of action videos behind their captions: 16 frames, coarse and fine, a shallow
    query, a cosine in the place of its constant rate; 3,000 updates of 16 clips."""
    return FvlmConfig(
        data=TextDataConfig(frames=16, size=256, questions=1, longest=96),
        model=ModelConfig(mode="parallel", query="shallow", first_query="learnt", marks=True, token_scale=_TOKEN_SCALE),
        reconstruct=ReconstructConfig(weight=1.0, coarse_weight=1.0, told=True),
        optim=_adamw(steps=3000, batch=16, accumulate=4, lr=1e-4, warmup=500),
        coarse_alone=False,
        test=TestConfig(every=500, questions=1),
    )


def joint() -> FvlmConfig:
    """Return the published captions with half of the reconstruction: 8 frames, looked at twice by queries that the
    frames alone predict, while the coarse pass is measured every tenth step and not trained."""
    return FvlmConfig(
        data=TextDataConfig(frames=8, size=256, questions=1, longest=96),
        model=ModelConfig(
            mode="parallel", iterations=2, layout="video-first", first_query="learnt", marks=True, aim="frames",
            token_scale=_TOKEN_SCALE,
        ),
        loss=LossConfig(coarse_weight=0.0),
        reconstruct=ReconstructConfig(weight=0.5),
        optim=_adamw(steps=49_000, batch=16, lr=3e-5, min_lr=3e-5, warmup=500),
        coarse_alone=False,
        test=TestConfig(every=1000, questions=1),
    )  # fmt: skip


def stage1() -> FvlmConfig:
    """Return the published alignment: all text behind the frames is learnt, of up to 64 frames, one a second; the
    connector's rate falls to the rate that the encoder's and the language model's rise to."""
    return FvlmConfig(
        data=TextDataConfig(frames=64, max_fps=1.0, questions=1),
        model=ModelConfig(mode="parallel", layout="video-first", first_query="learnt", token_scale=_TOKEN_SCALE),
        loss=LossConfig(learn="all", coarse_weight=0.0),
        optim=_adamw(steps=31_250, batch=32, accumulate=4, lr=1e-3, min_lr=3e-5, warmup=937),
        backbone=BackboneConfig(lr=1e-5, min_lr=3e-5),
        coarse_alone=False,
        test=TestConfig(every=500, questions=1),
    )


def stage2() -> FvlmConfig:
    """Return the published fine-tuning after :func:`stage1`, whose run ``--start`` names: answers alone are learnt, at
    one rate that falls to 0."""
    base = stage1()
    return replace(
        base,
        data=replace(base.data, image_looks=8),
        loss=LossConfig(coarse_weight=0.0),
        optim=replace(base.optim, lr=3e-5, min_lr=0.0),
        backbone=BackboneConfig(),
        test=TestConfig(every=250, questions=1),
    )


PRESETS = {"demo": demo, "proof": proof, "phase2": phase2, "joint": joint, "stage1": stage1, "stage2": stage2}
