"""Fine-tuning of V-JEPA 2 video classifiers (arXiv 2506.09985) by head, pooler, LoRA, or all of them.

    features:          what the frozen parts make of each view, computed once
    stage "finetune":  what the approach trains; the weights of the best validated epoch are kept
    test, report:      of those weights

``python -m fastvid.train vjepa2`` does all of it on the demo data set.
"""

import logging
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal, cast

from fastvid.command import user_errors
from fastvid.data import EvaluationDraws, LoaderState, ViewDraws
from fastvid.data.loader.decode_ahead import NO_VIEW
from fastvid.data.splits.split import labels_of
from fastvid.data.worker_pool import most_threads
from fastvid.eval.classifier import Evaluation, EvaluationData
from fastvid.files import cache_dir
from fastvid.latents import LatentLoader, LatentStore
from fastvid.latents.compute import FrozenEncoder, FrozenModule, TrainingDraws
from fastvid.latents.features import FeatureSet, FeatureStorage, Where, choose_place, features_bytes, make_features
from fastvid.nn.augment import Augment
from fastvid.projects.vjepa2.approach import apply_approach
from fastvid.projects.vjepa2.checkpoint import frozen_hash, save_classifier
from fastvid.projects.vjepa2.config import VJepa2Config
from fastvid.projects.vjepa2.features import frozen_part
from fastvid.projects.vjepa2.load import drawn_from, load_vjepa2
from fastvid.projects.vjepa2.loss import ClassifierLoss
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.projects.vjepa2.pictures import mistakes, training_views
from fastvid.projects.vjepa2.result import RESULTS, STAGE, write_out
from fastvid.report.confusion import confusion_csv, confusion_png
from fastvid.report.records import RunRecords
from fastvid.train.data import check_data, epoch_sampler, open_quarantine, train_loader
from fastvid.train.decoder import choose_decoder
from fastvid.train.distributed import broadcast_text
from fastvid.train.engine import Engine, Loader, Stage
from fastvid.train.labelled import LabelledData, lost_classes, open_labelled
from fastvid.train.logs import progress
from fastvid.train.optim import limit_epochs
from fastvid.train.session import Session, UserError

log = logging.getLogger(__name__)

_PARTS = {"train": "training", "val": "validation", "test": "test"}


def run(session: Session, config: VJepa2Config) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    recipe = _Recipe(session, config)
    if recipe.is_tested():
        log.info("this run is finished and tested already: see result.json")
        recipe.engine.close()
        return
    recipe.make_features()
    recipe.train()
    if session.run is not None:
        recipe.test()
    recipe.engine.close()


class _Recipe:
    """The pieces of a run, built from its configuration."""

    def __init__(self, session: Session, config: VJepa2Config):
        self.session, self.config, self.device = session, config, session.world.device
        self.data: LabelledData = open_labelled(config.data, config.demo, config.run.seed)
        check_data(session, self.data.whole)
        self.optim = limit_epochs(config.optim, len(self.data.train.samples))
        self.decoder = choose_decoder(session, config.data, self.data.train, self.data.views)
        self.threads = config.data.threads or most_threads()  # nothing else is going on while features are made
        with user_errors(ValueError, OSError):
            self.optim.check_processes(session.world.size)
            self.model = self._model().to(self.device)
            self.augment = self._augment()
            self.judged = replace(self.data.views, crop=config.evaluate.crop)
            self.evaluation_draws = EvaluationDraws(self.judged, config.evaluate.clips, config.evaluate.crops)

        self.frozen = frozen_hash(self.model)
        self._compare_with_start()
        session.begin()
        self.quarantine = open_quarantine(session, config.data)
        self.engine: Engine = session.engine({STAGE: self.optim.steps})
        self.stores: dict[str, LatentStore] = {}
        self.lost: set[tuple[str, str]] = set()  # parts and classes that were named
        self._validate: Evaluation

    def is_tested(self) -> bool:
        """Return whether the weights of the best of all epochs asked for were tested, and as asked for."""
        run = self.session.run
        answer = "no"
        if run is not None:
            found = run.read_json("result.json")
            if found is not None and found["optim"]["steps"] == self.optim.steps:
                answer = "yes" if found["evaluate"] == asdict(self.config.evaluate) else "no"
        return broadcast_text(self.session.world, answer) == "yes"

    def make_features(self) -> None:
        """Make features of all three parts, if the encoder is frozen and there is room for them."""
        if not self.model.backbone_trains:
            module = frozen_part(self.model)
            place, folder = self._place(module)
            if place != "none":
                self._make_features(module, place, folder)
            if self.stores:
                self._name_lost_classes("train", "val", "test")
        # A request to stop waits for the end of a validation: the step before it is to be saved.
        self._validate = replace(self._evaluation("val"), check=lambda: None)
        if self.session.run is not None:
            draws = self._training_draws()
            if not self.stores:  # each epoch draws views of its own
                draws = replace(draws, seed=self.config.run.seed, count=2)
            path = self.session.path / "pictures" / "training-views.png"
            training_views(path, self.data.train, draws, self.evaluation_draws)

    def train(self) -> None:
        """Train what the approach trains, to the last epoch."""
        config, world = self.config, self.session.world
        micro = self.optim.micro_batch
        store = self.stores.get("train")

        def loader(state: LoaderState) -> Loader:
            if store is not None:
                return LatentLoader.from_store(
                    store, labels_of(self.data.train), batch=micro, seed=config.run.seed, state=state, rank=world.rank,
                    world=world.size, device=self.device,
                )  # fmt: skip
            draws = ViewDraws(self.data.views, config.run.seed, no_flip=self.data.no_flip)
            sampler = epoch_sampler(self.session, config.data, self.data.train, batch=micro, state=state)
            return train_loader(
                self.session, config.data, self.data.train, draws, sampler, decoder=self.decoder,
                quarantine=self.quarantine,
            )  # fmt: skip

        loss = ClassifierLoss(
            self.data.classes, config.augment, self.augment, config.run.seed, pooled=not self.model.pooler_trains
        )
        every = max(1, round(len(self.data.train.samples) / self.optim.batch))
        stage = Stage(
            STAGE, self.model, loss, self.optim, loader, self._validated, every, keep_best="val_accuracy",
            results=RESULTS, compile=config.run.compile,
        )  # fmt: skip
        self.engine.train(stage)

    def test(self) -> None:
        """Test the weights of the best epoch and write what is left of the run."""
        run = self.session.run
        assert run is not None
        if run.read_json("result.json") is not None:  # of a test that was made otherwise
            for name in RESULTS:
                run.set_aside(name)
        best = self.engine.checkpoints.load_best(STAGE, self.model)
        evaluation = self._evaluation("test")
        val = self._validate()
        test = replace(evaluation(), inference_ms_per_clip=evaluation.milliseconds())
        self._name_lost_classes("train", "test")
        log.info("tested with the weights of step %d:\n%s", best, test.table())
        save_classifier(run.path / "classifier", self.model, self._about())
        confusion_csv(run.path / "confusion.csv", test.classes, test.confusion)
        confusion_png(run.path / "pictures" / "confusion.png", test.classes, test.confusion)
        mistakes(run.path / "pictures" / "mistakes.png", self.data.test, test, self.evaluation_draws)
        result = write_out(
            self.config, self.optim, self.data, self.model, RunRecords.read(run.path), best=best, val=val, test=test,
            precision=self.engine.precision,
        )  # fmt: skip
        run.write_json("result.json", result)

    def _make_features(self, module: FrozenModule, place: Where, folder: Path) -> None:
        sets = self._feature_sets(shared=self.config.features.dir is not None)
        f, world = self.config.features, self.session.world
        encoder = FrozenEncoder(module, self.device, self.engine.precision, f.batch)
        storage = FeatureStorage(place, folder, f.form)
        started = time.perf_counter()
        with progress(sum(len(one.source.samples) for one in sets), 0, "features") as bar:
            for one in sets:
                self.stores[one.name] = make_features(
                    encoder, one, storage, threads=self.threads, quarantine=self.quarantine, world=world,
                    progress=bar.update, check=self.session.signals.check,
                )  # fmt: skip
        run = self.session.run
        if run is not None and "features" not in run.facts():  # those of the start that made them
            run.note(features={"place": place, "seconds": time.perf_counter() - started})

    def _model(self) -> VJepa2Classifier:
        config = self.config
        model = load_vjepa2(
            config.model.source, num_classes=len(self.data.classes), frames=config.data.frames, size=config.data.size,
            init=config.model.init, init_seed=config.model.init_seed, head_seed=config.run.seed,
            keep_head=config.model.keep_head, classes=self.data.classes,
        )  # fmt: skip
        with drawn_from(config.run.seed):  # the adapters
            apply_approach(model, config.approach, config.lora)
        model.checkpointing = config.model.checkpointing
        return model

    def _augment(self) -> Augment:
        a = self.config.augment
        return Augment(
            brightness=a.brightness, contrast=a.contrast, saturation=a.saturation, hue=a.hue,
            randaugment=(a.randaugment, a.magnitude) if a.randaugment else None, seed=self.config.features.seed,
        )  # fmt: skip

    def _compare_with_start(self) -> None:
        """Check that a run that goes on finds the same frozen weights as before, because they are not in the
        checkpoints.
        """
        facts = {} if self.session.run is None else self.session.run.facts()
        approach = facts.get("approach", self.config.approach)
        if approach != self.config.approach:
            raise UserError(f"this run trains with the approach {approach}; for {self.config.approach} begin a new run")
        if facts.get("frozen", self.frozen) != self.frozen:
            raise UserError(
                f"the frozen weights of {self.config.model.source} are not those that this run began with: restore "
                "them, or begin a new run"
            )
        self.session.note(approach=approach, frozen=self.frozen)

    def _training_draws(self) -> TrainingDraws:
        f, data = self.config.features, self.data
        return TrainingDraws(data.views, f.seed, f.views, data.no_flip, self.augment)

    def _feature_sets(self, *, shared: bool) -> list[FeatureSet]:
        data = self.data
        return [
            FeatureSet("train", data.pool if shared else data.train, self._training_draws()),
            FeatureSet("val", data.val, self.evaluation_draws),
            FeatureSet("test", data.test, self.evaluation_draws),
        ]

    def _place(self, module: FrozenModule) -> tuple[Where, Path]:
        """Choose where features are kept: once, by the main process. A resumed run keeps the choice."""
        f = self.config.features
        folder = Path(f.dir).expanduser() if f.dir is not None else cache_dir() / "features"
        if f.keep != "auto":
            return f.keep, folder
        if f.dir is not None:
            return "disk", folder
        place: str | None = None
        run = self.session.run
        if run is not None:
            place = run.facts().get("features_place")
        if run is not None and place is None:
            sets = self._feature_sets(shared=False)
            needed = sum(
                features_bytes(one.manifest(module, precision=self.engine.precision, form=f.form)) for one in sets
            )
            # Several processes each make a share and read all of it.
            memory = int(f.ram_gb * 1e9) if self.session.world.size == 1 else 0
            place, why = choose_place(needed, memory=memory, disk=int(f.disk_gb * 1e9), folder=folder)
            log.info("%s", why)
            run.note(features_place=place)
        return cast(Where, broadcast_text(self.session.world, place)), folder

    def _evaluation(self, part: str) -> Evaluation:
        source = self.data.val if part == "val" else self.data.test
        data = EvaluationData(source, self.evaluation_draws, self.stores.get(part), self.threads, self.quarantine)
        return Evaluation(
            self.model, data, self.data.classes, self.device, self.engine.cast, self.config.features.batch,
            self.session.signals.check,
        )  # fmt: skip

    def _name_lost_classes(self, *parts: Literal["train", "val", "test"]) -> None:
        """Log once, as soon as it is known, each class whose videos in a part are all unusable.

        Raises:
            UserError: of the training videos that is so for all classes but one, and the features of all are there.
        """
        for part in parts:
            source, store = getattr(self.data, part), self.stores.get(part)
            if store is None:
                usable = labels_of(source).keys() - self.quarantine.bad.keys()
            else:
                usable = {key for key, hashes in store.clips() if NO_VIEW not in hashes}
            lost = lost_classes(source, usable)
            if part == "train" and store is not None and len(lost) > len(self.data.classes) - 2:
                raise UserError(
                    f"training needs two classes, and no training video of {', '.join(lost)} can be used: see "
                    "bad_samples.jsonl"
                )
            new = [name for name in lost if (part, name) not in self.lost]
            self.lost.update((part, name) for name in new)
            if new:
                log.warning(
                    "%d of %d classes have no %s video that can be used: %s; see bad_samples.jsonl",
                    len(new), len(self.data.classes), _PARTS[part], ", ".join(new),
                )  # fmt: skip

    def _validated(self, step: int) -> dict[str, float]:
        result = self._validate()
        values = {"val_accuracy": result.accuracy.value, "val_loss": result.nll}
        self._name_lost_classes("train", "val")
        epoch = step * self.optim.batch / len(self.data.train.samples)
        log.info("epoch %.3g: validation %s", epoch, result.accuracy)
        return values

    def _about(self) -> ClassifierMetadata:
        c, views = self.config, self.judged
        return ClassifierMetadata(
            source="tiny" if c.model.init == "tiny" else c.model.source, classes=tuple(self.data.classes),
            init=c.model.init, init_seed=c.model.init_seed, sampling=views.sampling, stride=views.stride, fps=views.fps,
            crop=views.crop, clips=c.evaluate.clips, crops=c.evaluate.crops, frozen=self.frozen,
        )  # fmt: skip
