"""The recipe: tokens of all videos; each worker in turn, the rest of the 2 x 2 and the controls; the measures."""

import dataclasses
import functools
import logging
import time
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import torch

from fastvid.command import user_errors
from fastvid.data import LoaderState
from fastvid.eval.attention import AttentionRatio
from fastvid.eval.early import early_ceiling
from fastvid.files import cache_dir
from fastvid.projects.trajectory.baselines import baselines
from fastvid.projects.trajectory.batches import Draws, TokenLoader, shuffle_labels, targets_of
from fastvid.projects.trajectory.config import TrajectoryConfig
from fastvid.projects.trajectory.footage import open_videos
from fastvid.projects.trajectory.loss import TrajectoryLoss
from fastvid.projects.trajectory.measures import flat_scores, mean_loss, measure, scores
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.pictures import write_pictures
from fastvid.projects.trajectory.predictions import Predictor, TrackTable
from fastvid.projects.trajectory.progress_files import write_attention_metrics, write_progress
from fastvid.projects.trajectory.recipe_files import EFFICIENCY, RESULT
from fastvid.projects.trajectory.saved import Metadata, load, save
from fastvid.projects.trajectory.savings import crop_flops, rows_of, savings, time_preparation, wall_clock
from fastvid.projects.trajectory.stop import why_stop
from fastvid.projects.trajectory.tokens import TokenConfig, TokenSet, load_tokens, make_extractor
from fastvid.projects.trajectory.tracker_scores import tracker_scores
from fastvid.projects.trajectory.videos import Split, class_names, split_rows
from fastvid.projects.trajectory.workers import Model, models_of
from fastvid.report.records import RunRecords
from fastvid.train.engine import Engine, Stage
from fastvid.train.loader import Loader
from fastvid.train.optim import limit_epochs
from fastvid.train.rundir import RunDir
from fastvid.train.session import Session

log = logging.getLogger(__name__)

_TIMED, _SHOWN = 16, 4  # test videos whose time is measured, and that are drawn


def run(session: Session, config: TrajectoryConfig) -> None:
    """Run the whole recipe, continuing where the run directory says it stopped."""
    recipe = _Recipe(session, config)
    for model in recipe.models:
        recipe.train(model)
        if session.run is not None:
            recipe.measure(model, session.run)
    if session.run is not None:
        recipe.finish(session.run)
    recipe.engine.close()


class _Recipe:
    """The pieces of a run, built from its configuration."""

    def __init__(self, session: Session, config: TrajectoryConfig):
        self.session, self.config, self.device = session, config, session.world.device
        with user_errors(ValueError, OSError):
            self.models = models_of(config.workers, config.tokens.features, config.pretrained, config.controls)
            config.optim.check_processes(session.world.size)
            started = time.perf_counter()
            # Features take turns: what the workers need first is made first, and all of it before a run is begun.
            self.tokens = {
                (features, split): self._load(features, split)
                for features in dict.fromkeys(model.features for model in self.models)
                for split in ("train", "val", "test")
            }
        self.seconds = time.perf_counter() - started
        self.classes = class_names(config.task)
        count = len(self._of(self.models[0], "train"))
        self.optim = limit_epochs(config.optim, count)
        self.epoch = max(1, round(count / self.optim.batch))  # steps
        session.begin()
        self.engine: Engine = session.engine({model.name: self.optim.steps for model in self.models})

    def train(self, model: Model) -> None:
        """Train one model."""
        config, world = self.config, self.session.world
        tokens, seed = self._of(model, "train"), config.run.seed + model.seed
        if model.shuffled:
            tokens = shuffle_labels(tokens, config.task, seed)
        module = self._new(model)
        supervision = config.supervision
        draws = Draws(seed, supervision.prefix, supervision.curriculum_epochs)

        def loader(state: LoaderState) -> Loader:
            return TokenLoader(
                tokens, config.task, draws, batch=self.optim.micro_batch, state=state, rank=world.rank,
                world=world.size, device=self.device,
            )  # fmt: skip

        def evaluate(step: int) -> dict[str, float]:
            values = self._validated(model, module, step)
            current = {"stage": model.name, "step": step, **values}
            write_progress(self.session.path, self.models, config.stop, current)
            return values

        def stop(step: int, values: dict[str, float]) -> str | None:
            return why_stop(config.stop, step, self.epoch, values)

        warmup = supervision.warmup_epochs * self.epoch * self.optim.accumulate
        results = [f"model-{model.name}", RESULT, EFFICIENCY, *(["model"] if model == self.models[0] else [])]
        stage = Stage(
            model.name, module, TrajectoryLoss(model.term, supervision, warmup), self.optim, loader, evaluate,
            self.epoch, stop=stop if config.stop.every else None, results=results, compile=config.run.compile,
        )  # fmt: skip
        self.engine.train(stage)
        self._trained = module

    def measure(self, model: Model, run: RunDir) -> None:
        """Measure the model that was just trained on the test videos, unless that was done."""
        folder = run.path / f"model-{model.name}"
        if (folder / "metrics.json").exists():
            return
        whole = model.role == "worker"
        found = measure(
            self._predictor(self._trained), self._of(model, "val"), self._of(model, "test"), self.config.measure,
            ceiling=self._ceiling, whole=whole,
        )  # fmt: skip
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / "test.npz", **found.arrays)  # type: ignore[arg-type]
        if whole:
            about = self._about(model, found.values["early"]["temperatures"])
            for place in (folder, *([run.path / "model"] if model == self.models[0] else [])):
                save(place, self._trained, about)
        right = found.arrays["target_rows"][:, : len(self.classes)].sum(1).astype(int).tolist()
        run.write_json(f"{folder.name}/metrics.json", {**asdict(model), **found.values, "right": right})
        log.info("%s on %d test videos: %s", model.name, len(self._of(model, "test")), _in_words(found.values))

    def finish(self, run: RunDir) -> None:
        """Write what the run found, and the files that are read from it."""
        if run.read_json(RESULT) is None:
            run.write_json(RESULT, self._result(run))
        write_progress(run.path, self.models, self.config.stop)
        first, test = self.models[0], self._of(self.models[0], "test")
        with np.load(run.path / f"model-{first.name}" / "test.npz") as file:
            arrays = dict(file)
        write_attention_metrics(run.path, first.name, test, arrays)
        if run.read_json(EFFICIENCY) is None:
            run.write_json(EFFICIENCY, self._efficiency(run, test, arrays["left"]))
        self._pictures(run, test, arrays)

    def _efficiency(self, run: RunDir, test: TokenSet, left: np.ndarray) -> dict[str, Any]:
        """Return what the first worker's early decisions save, and how long that takes on a few videos."""
        first = self.models[0]
        data, tokens = self.config.data, self._options(first.features)
        videos = open_videos(data)
        train = split_rows(videos, (data.train, data.val, data.test), self.config.task)["train"]
        extractor = make_extractor(tokens, videos, train, cache_dir() / "trajectory", self.device)
        few = test.subset(np.arange(min(_TIMED, len(test))))
        seconds = time_preparation(videos, rows_of(videos, few), tokens, extractor, self.device)
        predict = self._predictor(load(run.path / "model").model.to(self.device))
        metrics = run.read_json(f"model-{first.name}/metrics.json")
        return {
            "worker": first.name, **savings(test, left, self.config.model, crop_flops(extractor, self.device)),
            "wall_clock": wall_clock(predict, few, left[: few.offsets[-1]], *seconds),
            "target_change": metrics["early"]["target_change"],
        }  # fmt: skip

    def _pictures(self, run: RunDir, test: TokenSet, arrays: dict[str, np.ndarray]) -> None:
        table = TrackTable.of(test)
        before = self._predictor(self._new(self.models[0]))(test, table).attention
        lengths = np.repeat(test.counts, test.counts)
        for name, weights in (("untrained", before), ("trained", arrays["attention"])):
            for kind, mask in (("persistent", test.persistent), ("transient", ~test.persistent)):
                arrays[f"{name} {kind}"] = (weights * lengths)[mask].mean()
        for model in self.models:
            with np.load(run.path / f"model-{model.name}" / "test.npz") as file:
                arrays[f"log_ratios {model.name}"] = file["log_ratios"]
        shown = test.subset(np.arange(min(_SHOWN, len(test))))
        videos = open_videos(self.config.data)
        frames = videos.read(rows_of(videos, shown)).frames
        records, found = RunRecords.read(run.path), run.read_json(RESULT)
        write_pictures(run.path / "pictures", records, found, shown, frames, arrays)

    def _result(self, run: RunDir) -> dict[str, Any]:
        config, test = self.config, self._of(self.models[0], "test")
        untrained = self._new(self.models[0])
        table = TrackTable.of(test)
        said = self._predictor(untrained)(test, table)
        uniform = np.repeat(1 / np.maximum(1, np.diff(test.offsets)), np.diff(test.offsets))
        checkpoints, videos = self.engine.checkpoints, open_videos(config.data)
        return {
            "project": "trajectory", "variant": config.data.variant, "task": config.task, "seed": config.run.seed,
            "classes": self.classes, "keys": test.keys, "tracker": config.tokens.tracker,
            "videos": {split: len(self._of(self.models[0], split)) for split in ("train", "val", "test")},
            "tokens": len(test.frame), "tracks": len(table), "frames": test.frames,
            "persistent_tokens": float(test.persistent.mean()), "persistent_tracks": float(table.persistent.mean()),
            "models": {m.name: run.read_json(f"model-{m.name}/metrics.json") for m in self.models},
            "steps": {m.name: max(checkpoints.steps(m.name), default=0) for m in self.models},
            "epoch_steps": self.epoch,
            "untrained": scores(test, table, said, config.task),
            "uniform": AttentionRatio.of(uniform, test.persistent, test.offsets).as_dict(),
            "baselines": self._baselines, "stop": asdict(config.stop), "token_seconds": self.seconds,
            "tracking": tracker_scores(videos, rows_of(videos, test), config.tokens),
        }  # fmt: skip

    @functools.cached_property
    def _known(self) -> list[TokenSet] | None:
        """Return the training and test videos' tokens of true tracks, or None where the objects are not known."""
        if open_videos(self.config.data).read(np.arange(1)).truth is None:
            return None
        true = replace(self._options("pixels"), tracker="truth")
        splits: tuple[Split, Split] = ("train", "test")
        return [load_tokens(self.config.data, true, split, task=self.config.task) for split in splits]

    @functools.cached_property
    def _baselines(self) -> dict[str, Any]:
        train, test = (self._load("pixels", split) for split in ("train", "test"))
        return baselines(train, test, *(self._known or (None, None)))

    @functools.cached_property
    def _ceiling(self) -> np.ndarray:
        """Return the ceiling of early decisions: of what the tracks tell, or true ones would.

        A tracker that loses an object begins a second track, and other tracks lawfully tell that it is one.
        """
        sets = [self._of(self.models[0], "test"), *([] if self._known is None else self._known[1:])]
        tables = [TrackTable.of(tokens) for tokens in sets]
        told = self._baselines["one_frame"]
        ceilings = [early_ceiling(t.seen, t.persistent, t.birth, one_frame=told) for t in tables]
        return functools.reduce(np.fmax, ceilings)

    def _load(self, features: str, split: Split) -> TokenSet:
        options = self._options(features)
        return load_tokens(self.config.data, options, split, task=self.config.task, device=self.device)

    def _options(self, features: str) -> TokenConfig:
        source = self.config.tokens.source if features in ("resnet18", "salt") else None
        return replace(self.config.tokens, features=features, source=source)  # type: ignore[arg-type]

    def _of(self, model: Model, split: Split) -> TokenSet:
        return self.tokens[model.features, split]

    def _new(self, model: Model) -> TrajectoryModel:
        torch.manual_seed(self.config.run.seed + model.seed)
        width = self._of(model, "train").dim
        return TrajectoryModel(self.config.model, width, len(self.classes)).to(self.device)

    def _predictor(self, module: TrajectoryModel) -> Predictor:
        return Predictor(module, self.config.task, self.config.measure.batch, self.device, self.engine.cast)

    def _validated(self, model: Model, module: TrajectoryModel, step: int) -> dict[str, float]:
        val = self._of(model, "val")
        table = TrackTable.of(val)
        said = self._predictor(module)(val, table)
        found = scores(val, table, said, self.config.task)
        epochs = {"epochs": step / self.epoch, "max_epochs": self.optim.steps / self.epoch}
        log.info("%s, epoch %.3g, validation: %s", model.name, epochs["epochs"], _in_words(found))
        return {**epochs, "val_loss": mean_loss(said, table, targets_of(val, self.config.task)), **flat_scores(found)}

    def _about(self, model: Model, temperatures: list[float]) -> Metadata:
        config, test = self.config, self._of(model, "test")
        return Metadata(
            worker=model.name, task=config.task, classes=self.classes, features=model.features, features_dim=test.dim,
            tracker=config.tokens.tracker, frames=test.frames, temperatures=temperatures,
            confidence=config.measure.confidence, model=dataclasses.asdict(config.model),
            data=dataclasses.asdict(config.data),
            tokens=dataclasses.asdict(self._options(model.features)),
        )  # fmt: skip


def _in_words(found: dict[str, Any]) -> str:
    attention = found["attention"]
    ratio = "no video has both kinds" if attention["ratio"] is None else (
        f"ratio {attention['ratio']:.2f}, consistency {100 * attention['consistency']:.0f} %"
    )  # fmt: skip
    return (
        f"class {100 * found['target']['balanced_accuracy']:.1f} %, "
        f"verdicts {100 * found['verdict']['balanced_accuracy']:.1f} % (balanced), {ratio}"
    )
