"""Results of a run: the measures of each model, and the files and pictures that its users read."""

import dataclasses
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from fastvid.eval.attention import AttentionRatio
from fastvid.files import cache_dir
from fastvid.projects.trajectory.config import TrajectoryConfig
from fastvid.projects.trajectory.footage import open_videos
from fastvid.projects.trajectory.measures import measure, scores
from fastvid.projects.trajectory.model import TrajectoryModel
from fastvid.projects.trajectory.pictures import write_pictures
from fastvid.projects.trajectory.predictions import Predictor
from fastvid.projects.trajectory.progress_files import write_attention_metrics, write_progress
from fastvid.projects.trajectory.recipe_files import EFFICIENCY, RESULT
from fastvid.projects.trajectory.run_tokens import SPLITS, RunTokens
from fastvid.projects.trajectory.saved import Metadata, load, save
from fastvid.projects.trajectory.savings import crop_flops, rows_of, savings, time_preparation, wall_clock
from fastvid.projects.trajectory.tokens import TokenSet, make_extractor
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.tracker_scores import tracker_scores
from fastvid.projects.trajectory.videos import class_names, split_rows
from fastvid.projects.trajectory.workers import Model
from fastvid.report.records import RunRecords
from fastvid.train.rundir import RunDir

log = logging.getLogger(__name__)

_TIMED, _SHOWN = 16, 4  # test videos whose time is measured, and that are drawn


@dataclass(frozen=True)
class Results:
    """Writes what a run found into its directory.

    Attributes:
        run: the run's directory.
        config: configuration of the run.
        models: the models, in the order in which they are trained.
        tokens: their tokens.
        predictor: makes the predictor of a model.
        device: where models are.
    """

    run: RunDir
    config: TrajectoryConfig
    models: Sequence[Model]
    tokens: RunTokens
    predictor: Callable[[TrajectoryModel], Predictor]
    device: torch.device

    def measure(self, model: Model, module: TrajectoryModel) -> None:
        """Measure a trained model on the test videos, unless that was done, and save the model of a worker."""
        folder = self.run.path / f"model-{model.name}"
        if (folder / "metrics.json").exists():
            return
        whole, test = model.role == "worker", self.tokens.of(model, "test")
        found = measure(
            self.predictor(module), self.tokens.of(model, "val"), test, self.config.measure,
            ceiling=self.tokens.ceiling, whole=whole,
        )  # fmt: skip
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / "test.npz", **found.arrays)  # type: ignore[arg-type]
        if whole:
            about = self._metadata(model, test, found.values["early"]["temperatures"])
            for place in (folder, *([self.run.path / "model"] if model == self.models[0] else [])):
                save(place, module, about)
        right = found.arrays["target_rows"][:, : found.arrays["target_rows"].shape[1] // 2].sum(1)
        values = {**asdict(model), **found.values, "right": right.astype(int).tolist()}
        self.run.write_json(f"{folder.name}/metrics.json", values)
        log.info("%s on %d test videos: %s", model.name, len(test), in_words(found.values))

    def write(self, untrained: TrajectoryModel, training: dict[str, Any]) -> None:
        """Write the run's result, and the files and pictures that are made of it.

        Args:
            untrained: the first model before its first step.
            training: what the result says of the training.
        """
        first, test = self.models[0], self.tokens.of(self.models[0], "test")
        table = TrackTable.from_tokens(test)
        said = self.predictor(untrained)(test, table)
        if self.run.read_json(RESULT) is None:
            before = scores(test, table, said, self.config.task)
            self.run.write_json(RESULT, {**self._result(test, table), **training, "untrained": before})
        write_progress(self.run.path, self.models, self.config.stop)
        with np.load(self.run.path / f"model-{first.name}" / "test.npz") as file:
            arrays = dict(file)
        write_attention_metrics(self.run.path, first.name, test, arrays)
        if self.run.read_json(EFFICIENCY) is None:
            self.run.write_json(EFFICIENCY, self._efficiency(test, arrays["left"]))
        self._pictures(test, said.attention, arrays)

    def _result(self, test: TokenSet, table: TrackTable) -> dict[str, Any]:
        config, videos = self.config, open_videos(self.config.data)
        uniform = np.repeat(1 / np.maximum(1, np.diff(test.offsets)), np.diff(test.offsets))
        return {
            "project": "trajectory", "variant": config.data.variant, "task": config.task, "seed": config.run.seed,
            "classes": class_names(config.task), "keys": test.keys, "tracker": config.tokens.tracker,
            "videos": {split: len(self.tokens.of(self.models[0], split)) for split in SPLITS},
            "tokens": len(test.frame), "tracks": len(table), "frames": test.frames,
            "persistent_tokens": float(test.persistent.mean()), "persistent_tracks": float(table.persistent.mean()),
            "models": {m.name: self.run.read_json(f"model-{m.name}/metrics.json") for m in self.models},
            "uniform": AttentionRatio.from_weights(uniform, test.persistent, test.offsets).as_dict(),
            "baselines": self.tokens.rules, "stop": asdict(config.stop),
            "tracking": tracker_scores(videos, rows_of(videos, test), config.tokens),
        }  # fmt: skip

    def _efficiency(self, test: TokenSet, left: np.ndarray) -> dict[str, Any]:
        """Return what the first worker's early decisions save, and how long that takes on a few videos."""
        first, data, videos = self.models[0], self.config.data, open_videos(self.config.data)
        options = self.tokens.options(first.features)
        train = split_rows(videos, (data.train, data.val, data.test), self.config.task)["train"]
        extractor = make_extractor(options, videos, train, cache_dir() / "trajectory", self.device)
        few = test.subset(np.arange(min(_TIMED, len(test))))
        seconds = time_preparation(videos, rows_of(videos, few), options, extractor, self.device)
        predict = self.predictor(load(self.run.path / "model").model.to(self.device))
        metrics = self.run.read_json(f"model-{first.name}/metrics.json")
        return {
            "worker": first.name, **savings(test, left, self.config.model, crop_flops(extractor, self.device)),
            "wall_clock": wall_clock(predict, few, left[: few.offsets[-1]], *seconds),
            "target_change": metrics["early"]["target_change"],
        }  # fmt: skip

    def _pictures(self, test: TokenSet, before: np.ndarray, arrays: dict[str, np.ndarray]) -> None:
        lengths = np.repeat(test.counts, test.counts)
        for name, weights in (("untrained", before), ("trained", arrays["attention"])):
            for kind, mask in (("persistent", test.persistent), ("transient", ~test.persistent)):
                arrays[f"{name} {kind}"] = (weights * lengths)[mask].mean()
        for model in self.models:
            with np.load(self.run.path / f"model-{model.name}" / "test.npz") as file:
                arrays[f"log_ratios {model.name}"] = file["log_ratios"]
        shown, videos = test.subset(np.arange(min(_SHOWN, len(test)))), open_videos(self.config.data)
        frames = videos.read(rows_of(videos, shown)).frames
        records, found = RunRecords.read(self.run.path), self.run.read_json(RESULT)
        write_pictures(self.run.path / "pictures", records, found, shown, frames, arrays)

    def _metadata(self, model: Model, test: TokenSet, temperatures: list[float]) -> Metadata:
        config = self.config
        return Metadata(
            worker=model.name, task=config.task, classes=class_names(config.task), features=model.features,
            features_dim=test.dim, tracker=config.tokens.tracker, frames=test.frames, temperatures=temperatures,
            confidence=config.measure.confidence, model=dataclasses.asdict(config.model),
            data=dataclasses.asdict(config.data),
            tokens=dataclasses.asdict(self.tokens.options(model.features)),
        )  # fmt: skip


def in_words(found: dict[str, Any]) -> str:
    """Describe scores in one line of the log."""
    attention = found["attention"]
    ratio = "no video has both kinds" if attention["ratio"] is None else (
        f"ratio {attention['ratio']:.2f}, consistency {100 * attention['consistency']:.0f} %"
    )  # fmt: skip
    return (
        f"class {100 * found['target']['balanced_accuracy']:.1f} %, "
        f"verdicts {100 * found['verdict']['balanced_accuracy']:.1f} % (balanced), {ratio}"
    )
