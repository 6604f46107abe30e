"""SALT: static-teacher masked-latent pretraining (arXiv 2509.24317).

    stage "pixel":  an encoder and a small decoder learn to paint hidden tubelets; the encoder becomes the teacher
    stage "salt":   a student sees the visible tubelets and predicts the frozen teacher's latents of the hidden ones
    probe, report:  what the student has learnt

``python -m fastvid.train salt`` runs all of it on the demo data set.
"""

import logging
import math
from dataclasses import replace
from functools import partial

import torch

from fastvid.command import user_errors
from fastvid.data import LoaderState
from fastvid.latents import LatentCache
from fastvid.models.encoder_checkpoint import save_encoder
from fastvid.models.teachers import (
    DeepTeacher,
    EncoderTeacher,
    Teacher,
    check_grids,
    check_layers,
    load_teacher,
    with_layers,
)
from fastvid.models.vit import VideoViT
from fastvid.nn import LayerFusion, Predictor
from fastvid.projects.salt.cached_targets import CachedTargets, open_latents, token_subset
from fastvid.projects.salt.config import LossConfig, ModelConfig, PredictorConfig, SaltConfig
from fastvid.projects.salt.data import SaltData, TrainingClips, open_data
from fastvid.projects.salt.health import HealthCheck
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import MaskedPrediction, spread_layers
from fastvid.projects.salt.pictures import feature_pictures, mask_pictures, painted_pictures
from fastvid.projects.salt.probe import probe_run
from fastvid.projects.salt.saved import save_predictor
from fastvid.projects.salt.targets import PixelTargets, Targets, TeacherTargets
from fastvid.projects.salt.token_subset import TokenSubset
from fastvid.projects.salt.window_targets import WindowTargets, check_window, remove_window
from fastvid.train.data import check_data, open_quarantine
from fastvid.train.decoder import choose_decoder
from fastvid.train.loader import Loader
from fastvid.train.optim import OptimConfig, limit_epochs
from fastvid.train.session import Session
from fastvid.train.stage import Stage

log = logging.getLogger(__name__)


def run(session: Session, config: SaltConfig) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    seed, world, device = config.run.seed, session.world, session.world.device

    # All that a wrong option can break comes first: `session.begin` makes the run's directory.
    encoder_config = config.model.for_clips(frames=config.data.frames, size=config.data.size)
    with user_errors(ValueError, OSError):
        torch.manual_seed(seed + 1)
        student = VideoViT(encoder_config)  # finds pretrained weights that are missing or do not fit
        drawn = torch.get_rng_state()  # the student's predictor is drawn next, once the width of its targets is known
        pixel_masks = MaskSampler(config.teacher.mask, student.grid, config.teacher.predictor.tokens, seed, "pixel")
        salt_masks = MaskSampler(config.mask, student.grid, config.predictor.tokens, seed, "salt")
        for optim in (config.teacher.optim, config.optim):
            optim.check_processes(world.size)
        teacher = given_teacher(config, student)
        if teacher is None and config.latents is None:  # the pixel teacher is built like the student
            check_layers(config.teacher.layers, len(student.blocks), "the pixel teacher")
    data = open_data(config.data, config.demo, split=config.probe.split)
    check_data(session, data.whole)
    teacher_optim = limited("teacher", config.teacher.optim, data)
    student_optim = limited("student", config.optim, data)
    decoder = choose_decoder(session, config.data, data.train, data.views)
    cache: LatentCache | None = None
    subset: TokenSubset | None = None
    with user_errors(ValueError, OSError):
        if config.latents is not None:
            cache = open_latents(config, data, student, teacher)
            subset = token_subset(cache, salt_masks, config.predictor.tokens, seed)
        if config.latent_window.echo > 1:
            dim = student.dim if teacher is None else teacher.dim
            check_window(config, session.path, data, math.prod(student.grid), dim)
    trains_teacher = teacher is None and cache is None
    session.begin()

    quarantine = open_quarantine(session, config.data)
    engine = session.engine({**({"pixel": teacher_optim.steps} if trains_teacher else {}), "salt": student_optim.steps})
    clips = TrainingClips(session, config.data, data, decoder, quarantine)
    stage = partial(Stage, evaluate_every=config.health.every, results=("probe.json",), compile=config.run.compile)

    # Stage 1: an encoder learns to paint the hidden tubelets, and becomes the teacher.
    if trains_teacher:
        torch.manual_seed(seed)
        encoder = VideoViT(encoder_config)
        pixels = PixelTargets(encoder.patch_embed)
        options = config.teacher.predictor, config.teacher.loss, config.model
        module = with_predictor(encoder, pixels, pixel_masks, *options).to(device)
        loss = StageLoss(config.teacher.loss, pixel_masks, pixels, world, draws=micro_batches(teacher_optim))
        loader = partial(batches, clips, pixels, teacher_optim.micro_batch)
        health = HealthCheck("pixel", module, loss, data, config.health.clips, quarantine, device)
        if session.run is not None:
            mask_pictures(session, data, loss, "masks-of-stage-pixel", quarantine)
        engine.train(stage("pixel", module, loss, teacher_optim, loader, health))
        if session.run is not None:
            save_encoder(encoder, session.path / "teacher")
            painted_pictures(session, data, module, loss, quarantine)
        teacher = with_layers(EncoderTeacher(encoder), config.teacher.layers)

    # Stage 2: the student sees the visible tubelets, and predicts the frozen teacher's latents of the hidden ones.
    targets: Targets
    if teacher is not None:
        teacher.to(device)
    if cache is not None:
        targets = CachedTargets(cache, seed, device)
    else:
        assert teacher is not None
        if config.latent_window.echo > 1:
            targets = WindowTargets(teacher, session.path, config, data, engine.precision, device)
        else:
            targets = TeacherTargets(teacher, device, compile=config.run.compile)
    torch.set_rng_state(drawn)
    module = with_predictor(student, targets, salt_masks, config.predictor, config.loss, config.model).to(device)
    loss = StageLoss(config.loss, salt_masks, targets, world, subset, draws=micro_batches(student_optim))
    loader = partial(batches, clips, targets, student_optim.micro_batch)
    health = HealthCheck("salt", module, loss, data, config.health.clips, quarantine, device)
    if session.run is not None:
        mask_pictures(session, data, loss, "masks-of-stage-salt", quarantine)
    engine.train(stage("salt", module, loss, student_optim, loader, health))
    remove_window(session.path)

    # What the student has learnt.
    if session.run is not None:
        save_encoder(student, session.path / "student")
        save_predictor(module, session.path / "student")
        feature_pictures(session, data, student, quarantine)
        shown = teacher.teacher if isinstance(teacher, DeepTeacher) else teacher
        probe_run(session, config, data, student, shown, partial(untrained_student, config), quarantine)
    engine.close()


def given_teacher(config: SaltConfig, student: VideoViT) -> Teacher | None:
    """Load the teacher that the configuration names, or return None where the pixel stage trains one.

    Raises:
        ValueError: its token grid is not the student's, or it cannot be used.
        OSError: it cannot be read.
    """
    if config.teacher.source == "pixel":
        return None
    patch, tubelet = student.patch_embed.patch, student.patch_embed.tubelet
    teacher = load_teacher(
        config.teacher.source, frames=config.data.frames, size=config.data.size, patch=patch, tubelet=tubelet
    )
    check_grids(teacher, student)
    return with_layers(teacher, config.teacher.layers)


def with_predictor(
    encoder: VideoViT,
    targets: Targets,
    masks: MaskSampler,
    config: PredictorConfig,
    loss: LossConfig,
    model: ModelConfig,
) -> MaskedPrediction:
    """Return the encoder with a new predictor of these targets, which has a mask token for each mask, and a head for
    visible tokens where the loss asks for them. Targets of several layers are predicted from as many of the encoder's.
    """
    predictor = Predictor(
        encoder.dim, targets.layers * targets.dim, encoder.grid, config,
        mask_tokens=len(masks.specs), context=loss.context > 0, init=model.init,
    )  # fmt: skip
    encoder.checkpointing = predictor.checkpointing = model.checkpointing
    if targets.layers == 1:
        return MaskedPrediction(encoder, predictor)
    layers = spread_layers(len(encoder.blocks), targets.layers)
    return MaskedPrediction(encoder, predictor, layers, LayerFusion(encoder.dim, len(layers), model.init))


def micro_batches(optim: OptimConfig) -> int:
    """Return the number of micro-batches of a stage."""
    return optim.steps * optim.accumulate


def batches(clips: TrainingClips, targets: Targets, batch: int, state: LoaderState) -> Loader:
    """Return the batches of a stage from a state on, with what its targets read from them."""
    return targets.batches(partial(clips.loader, batch, state))


def untrained_student(config: SaltConfig) -> VideoViT:
    """Return the student at random initialisation; without pretraining, as it was before its first step."""
    torch.manual_seed(config.run.seed + 1)
    options = replace(config.model, pretrained=False)
    return VideoViT(options.for_clips(frames=config.data.frames, size=config.data.size)).eval()


def limited(who: str, optim: OptimConfig, data: SaltData) -> OptimConfig:
    """Return the options of a stage with no more steps than ``max_epochs`` allows."""
    videos = len(data.train.samples)
    result = limit_epochs(optim, videos)
    if result is not optim:
        log.info(
            "%s: %d steps instead of %d, which would show each of the %d videos more than %d times",
            who, result.steps, optim.steps, videos, optim.max_epochs,
        )  # fmt: skip
    return result
