"""SALT: static-teacher masked-latent pretraining (arXiv 2509.24317).

    stage "pixel":  an encoder and a small decoder learn to paint hidden tubelets; the encoder becomes the teacher
    stage "salt":   a student sees the visible tubelets and predicts the frozen teacher's latents of the hidden ones
    probe, report:  what the student has learnt

``python -m fastvid.train salt`` runs all of it on the demo data set.
"""

import logging
import math
from dataclasses import replace

import torch

from fastvid.command import user_errors
from fastvid.data import LoaderState, ViewDraws
from fastvid.latents import LatentCache
from fastvid.models.encoder_checkpoint import save_encoder
from fastvid.models.teachers import EncoderTeacher, Teacher, check_grids, load_teacher
from fastvid.models.vit import VideoViT, VideoViTConfig
from fastvid.nn import Predictor
from fastvid.projects.salt.cached_targets import CachedLatents, open_latents, token_subset
from fastvid.projects.salt.config import PredictorConfig, SaltConfig
from fastvid.projects.salt.data import SaltData, centre_clips, open_data
from fastvid.projects.salt.health import HealthCheck
from fastvid.projects.salt.loss import StageLoss
from fastvid.projects.salt.masks import MaskSampler
from fastvid.projects.salt.model import MaskedPrediction
from fastvid.projects.salt.pictures import feature_pictures, mask_pictures, painted_pictures
from fastvid.projects.salt.probe import probe_run
from fastvid.projects.salt.targets import CachedTargets, HealthBatch, KnownLatents, LatentTargets, PixelTargets, Targets
from fastvid.projects.salt.token_subset import TokenSubset
from fastvid.projects.salt.window_targets import WindowTeacher, check_window, remove_window
from fastvid.train.data import check_data, epoch_sampler, open_quarantine, train_loader
from fastvid.train.decoder import choose_decoder
from fastvid.train.engine import Engine, Loader, Stage
from fastvid.train.optim import OptimConfig, limit_epochs
from fastvid.train.session import Session

log = logging.getLogger(__name__)


def run(session: Session, config: SaltConfig) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    recipe = _Recipe(session, config)
    teacher = recipe.teacher()
    student = recipe.student(teacher)
    if session.run is not None:
        probe_run(session, config, recipe.data, student, teacher, recipe.untrained, recipe.quarantine)
    recipe.engine.close()


class _Recipe:
    """The pieces of a run, built from its configuration."""

    def __init__(self, session: Session, config: SaltConfig):
        self.session, self.config, self.device = session, config, session.world.device
        with user_errors(ValueError, OSError):  # everything that a wrong option can break, before anything is made
            self.encoder_config = VideoViTConfig(
                name=config.model.name, frames=config.data.frames, size=config.data.size, tubelet=config.model.tubelet,
                patch=config.model.patch, width=config.model.width, depth=config.model.depth, heads=config.model.heads,
                positions=config.model.positions, init=config.model.init,
                drop_path=config.model.drop_path, pretrained=config.model.pretrained,
            )  # fmt: skip
            untrained = self.untrained()
            if config.model.pretrained:
                VideoViT(self.encoder_config)  # weights that are not there, or do not fit
            self.pixel_masks = self._masks("pixel", untrained.grid)
            self.salt_masks = self._masks("salt", untrained.grid)
            for optim in (config.teacher.optim, config.optim):
                optim.check_processes(session.world.size)
            self.given_teacher = None
            if config.teacher.source != "pixel":
                size = config.data.size
                self.given_teacher = load_teacher(config.teacher.source, frames=config.data.frames, size=size)
                check_grids(self.given_teacher, untrained)
        self.data: SaltData = open_data(config.data, config.demo)
        check_data(session, self.data.whole)
        self.teacher_optim = self._limited("teacher", config.teacher.optim)
        self.student_optim = self._limited("student", config.optim)
        self.decoder = choose_decoder(session, config.data, self.data.train, self.data.views)
        self.cache: LatentCache | None = None
        self.subset: TokenSubset | None = None
        with user_errors(ValueError, OSError):
            if config.latents is not None:
                self.cache = open_latents(config, self.data, untrained, self.given_teacher)
                self.subset = token_subset(self.cache, self.salt_masks, config.predictor.tokens, config.run.seed)
            if config.latent_window.echo > 1:
                dim = untrained.dim if self.given_teacher is None else self.given_teacher.dim
                check_window(config, session.path, self.data, math.prod(untrained.grid), dim)
        session.begin()
        self.quarantine = open_quarantine(session, config.data)
        trains_teacher = config.teacher.source == "pixel" and config.latents is None
        stages = {"pixel": self.teacher_optim.steps} if trains_teacher else {}
        self.engine: Engine = session.engine({**stages, "salt": self.student_optim.steps})

    def teacher(self) -> Teacher | None:
        """Return the frozen teacher: a given one, or the encoder that stage "pixel" trains; None where only its latents
        are given."""
        if self.given_teacher is not None:
            return self.given_teacher.to(self.device)
        if self.cache is not None:
            return None
        torch.manual_seed(self.config.run.seed)
        encoder = VideoViT(self.encoder_config)
        pixels = 3 * encoder.config.tubelet * encoder.patch_embed.patch**2
        module = self._prediction(encoder, self.config.teacher.predictor, pixels, len(self.pixel_masks.specs))
        loss = StageLoss(
            self.config.teacher.loss, self.pixel_masks, PixelTargets(encoder.patch_embed), self.session.world
        )
        self._train("pixel", module, loss, self.teacher_optim, None)
        if self.session.run is not None:
            save_encoder(encoder, self.session.path / "teacher")
            painted_pictures(self.session, self.data, module, loss, self.quarantine)
        return EncoderTeacher(encoder)

    def student(self, teacher: Teacher | None) -> VideoViT:
        """Return the trained student."""
        known = self._known_latents(teacher)
        if known is not None:
            targets: Targets = CachedTargets()
            width = known.manifest.dim
        else:
            assert teacher is not None
            targets, width = LatentTargets(teacher), teacher.dim
        torch.manual_seed(self.config.run.seed + 1)
        encoder = VideoViT(self.encoder_config)
        module = self._prediction(encoder, self.config.predictor, width, len(self.salt_masks.specs))
        loss = StageLoss(
            self.config.loss,
            self.salt_masks,
            targets,
            self.session.world,
            compile=self.config.run.compile and known is None,
            subset=self.subset,
            latents=None if known is None else known.of,
        )
        self._train("salt", module, loss, self.student_optim, teacher, known)
        remove_window(self.session.path)
        if self.session.run is not None:
            save_encoder(encoder, self.session.path / "student")
            feature_pictures(self.session, self.data, encoder, self.quarantine)
        return encoder

    def _known_latents(self, teacher: Teacher | None) -> KnownLatents | None:
        """Open the source of the student's targets, or return None where the teacher runs at every step."""
        if self.cache is not None:
            return CachedLatents(self.cache, self.data, self.config.run.seed, self.device, self.quarantine)
        if self.config.latent_window.echo == 1:
            return None
        assert teacher is not None
        return WindowTeacher(
            teacher, self.session.path, self.config, self.data, self.engine.precision, self.device,
            self.quarantine,
        )  # fmt: skip

    def untrained(self) -> VideoViT:
        """Return the student at random initialisation; without pretraining, as it was before its first step."""
        torch.manual_seed(self.config.run.seed + 1)
        return VideoViT(replace(self.encoder_config, pretrained=False)).eval()

    def _masks(self, stage: str, grid: tuple[int, int, int]) -> MaskSampler:
        config = self.config
        part, predictor = (
            (config.teacher.mask, config.teacher.predictor) if stage == "pixel" else (config.mask, config.predictor)
        )
        return MaskSampler(part, grid, predictor.tokens, config.run.seed, stage)

    def _prediction(self, encoder: VideoViT, config: PredictorConfig, out_dim: int, specs: int) -> MaskedPrediction:
        model = self.config.model
        predictor = Predictor(
            encoder.dim, out_dim, encoder.grid, width=config.width, depth=config.depth, heads=config.heads,
            mask_tokens=specs, layout=config.layout, temperature=config.temperature,
            position_scale=config.position_scale, init=model.init, checkpointing=model.checkpointing,
        )  # fmt: skip
        encoder.checkpointing = model.checkpointing
        return MaskedPrediction(encoder, predictor).to(self.device)

    def _train(
        self,
        name: str,
        module: MaskedPrediction,
        loss: StageLoss,
        optim: OptimConfig,
        teacher: Teacher | None,
        known: KnownLatents | None = None,
    ) -> None:
        run = self.config.run
        if self.session.run is not None:
            mask_pictures(self.session, self.data, loss, f"masks-of-stage-{name}", self.quarantine)
        clips = self.config.health.clips

        def fixed() -> HealthBatch:
            if known is not None:
                return known.health_batch(clips)
            return *centre_clips(self.data, clips, self.quarantine), None

        health = HealthCheck(name, fixed, module.encoder, teacher, module, loss, self.device)
        draws = ViewDraws(self.data.views, self.config.run.seed) if known is None else known.draws

        def loader(state: LoaderState) -> Loader:
            data, train = self.config.data, self.data.train
            echo = 1 if known is None else known.echo
            sampler = epoch_sampler(self.session, data, train, batch=optim.micro_batch, state=state, echo=echo)
            batches = train_loader(
                self.session, data, train, draws, sampler, decoder=self.decoder, quarantine=self.quarantine
            )
            return batches if known is None else known.batches(batches)

        stage = Stage(
            name,
            module,
            loss,
            optim,
            loader,
            health,
            self.config.health.every,
            results=("probe.json",),
            compile=run.compile,
        )
        self.engine.train(stage)

    def _limited(self, who: str, optim: OptimConfig) -> OptimConfig:
        limited = limit_epochs(optim, len(self.data.train.samples))
        if limited is not optim:
            log.info(
                "%s: %d steps instead of %d, which would show each of the %d videos more than %d times",
                who, limited.steps, optim.steps, len(self.data.train.samples), optim.max_epochs,
            )  # fmt: skip
        return limited
