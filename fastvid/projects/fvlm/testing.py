"""Validation of a stage, and the test of both models: measures, answers, pictures and the saved models."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fastvid.data import Batch, Source
from fastvid.projects.fvlm.config import FvlmConfig
from fastvid.projects.fvlm.controls import COARSE, FINE, conditions
from fastvid.projects.fvlm.data import Clips
from fastvid.projects.fvlm.evaluation import EvalBatch, Evaluator
from fastvid.projects.fvlm.generate import Answer
from fastvid.projects.fvlm.measures import legacy_ratio
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.pictures import Shown, write_pictures, write_video
from fastvid.projects.fvlm.recipe_files import COARSE_MODEL, GAZE_VIDEO, MODEL, RESULT
from fastvid.projects.fvlm.reconstruct import Reconstructor, model_in
from fastvid.projects.fvlm.reconstruct_measures import measure_reconstruction
from fastvid.projects.fvlm.results import Sample, by_task, measured
from fastvid.projects.fvlm.saved import save
from fastvid.report.records import RunRecords
from fastvid.train.session import Session

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Test:
    """The tests of a run.

    Attributes:
        session: of the run.
        config: of the run.
        clips: its batches.
        tokenizer: of its models.
        cast: makes the autocast context of forward passes.
    """

    session: Session
    config: FvlmConfig
    clips: Clips
    tokenizer: Any
    cast: Callable[[], AbstractContextManager[object]]

    def evaluator(self, part: Source, check: Callable[[], None] = lambda: None) -> Evaluator:
        """Return what tests a model on a part of the clips."""
        return Evaluator(lambda: self.clips.evaluated(part), self.tokenizer.eos_token_id, self.cast, check)

    def validate(self, name: str, module: FoveatedVLM | Reconstructor, mode: Mode, step: int) -> dict[str, float]:
        """Return the measures of the validation clips, to record."""
        model, again = model_in(module), self.rebuilt(module, self.clips.data.val, mode)
        again = {name: error for name, error in again.items() if name in (FINE, COARSE)}
        # A request to stop waits for the end of a validation: the step before it is to be saved.
        found = self.evaluator(self.clips.data.val)(model, mode, {}, look=False)
        passes = (COARSE,) if mode == "coarse" else (FINE, COARSE)
        tables = {which: by_task(found.answers[which], intervals=False) for which in passes}
        said = "; ".join(
            f"{which} " + ", ".join(f"{task} {100 * one['accuracy']:.1f} %" for task, one in table.items())
            for which, table in tables.items()
        )
        log.info("%s step %d, validation accuracy: %s", name, step, said)
        if again:
            log.info("%s step %d, squared error: %s", name, step, ", ".join(f"{k} {v:.4f}" for k, v in again.items()))
        return {f"val_reconstruction_{which}": error for which, error in again.items()} | {
            f"val_{measure}_{which}_{task}": one[measure]
            for which, table in tables.items()
            for task, one in table.items()
            for measure in ("accuracy", "ce")
        }

    def rebuilt(
        self, module: FoveatedVLM | Reconstructor, part: Source, mode: Mode, check: Callable[[], None] = lambda: None
    ) -> dict[str, Any]:
        """Return the errors of reconstructed frames; nothing of a model that reconstructs none."""
        if not isinstance(module, Reconstructor):
            return {}
        return measure_reconstruction(module.eval(), self.clips.evaluated(part), mode, self.cast, check)

    def write(self, module: FoveatedVLM | Reconstructor, alone: FoveatedVLM | None, attempts: Sequence[str]) -> None:
        """Save the models, test them, and write what was found, unless that was done.

        Args:
            module: the model as it is used.
            alone: the one whose coarse pass alone was trained, or None.
            attempts: stages that were given up, and the one that trained the model.
        """
        run, config, model = self.session.run, self.config, model_in(module)
        assert run is not None
        if run.read_json(RESULT) is not None:
            log.info("this run is tested already: see %s", RESULT)
            return
        data, mode = self.clips.data, config.model.mode
        first = next(self.clips.evaluated(data.test), None)
        question = config.data.prompt
        if data.has_tasks and first is not None:
            question = first.batch.text[0].conversations[0].turns[0].question
        saved: list[tuple[str, FoveatedVLM | None, Mode]] = [(MODEL, model, mode), (COARSE_MODEL, alone, "coarse")]
        for folder, one, of in saved:
            if one is not None:
                save(run.path / folder, one, self.tokenizer, self._about(of, question))
        evaluate = self.evaluator(data.test, self.session.signals.check)
        truth = first is not None and bool((first.batch.extra["truth"] >= 0).any())
        controls = conditions(mode, truth)
        found = evaluate(model, mode, controls)
        opponent = None if alone is None else evaluate(alone, "coarse", {}, look=False)
        shown = list(self._shown(model, mode, found.answers[FINE].tasks))
        samples = [Sample(one.key, one.question, one.answer, one.said, self._right(one)) for one in shown]
        keys = [sample.key for sample in data.test.samples]
        values = measured(found, opponent, controls, samples, keys, accepts=data.has_tasks)
        write_pictures(run.path / "pictures", shown)
        write_video(run.path / GAZE_VIDEO, shown)
        records = RunRecords.read(run.path)
        facts = {
            "project": "fvlm", "seed": config.run.seed, "mode": mode, "layout": config.model.layout,
            "query": config.model.query, "first_query": config.model.first_query,
            "coarse_weight": config.loss.coarse_weight, "frames": data.views.frames, "clips": data.counts(),
            "legacy_ratio": legacy_ratio(records, attempts[-1]), "stage": attempts[-1],
            "given_up": [records.last(name, "val_accuracy_fine_all") for name in attempts[:-1]],
            "restart": dataclasses.asdict(config.restart), "told": config.reconstruct.told,
        }  # fmt: skip
        again = self.rebuilt(module, data.test, mode, self.session.signals.check)
        run.write_json(RESULT, {**facts, **values, "reconstruction": again})
        for row in values["acceptance"]:
            log.info(
                "%s: %s, %s: %s, wanted %s %g: %s", row["task"], row["measure"], row["condition"],
                "-" if row["value"] is None else f"{row['value']:.3f}", row["kind"], row["bound"],
                "met" if row["met"] else "NOT MET",
            )  # fmt: skip

    def _about(self, mode: Mode, question: str) -> dict[str, Any]:
        """Return what a saved model says of itself: how it reads videos, and what it was asked."""
        views = dataclasses.asdict(self.clips.data.views)
        data = self.config.data
        return {
            "views": views, "max_fps": self.clips.fps, "question": question, "mode": mode,
            "image_looks": data.image_looks, "token_ids": data.token_ids,
        }  # fmt: skip

    def _shown(self, model: FoveatedVLM, mode: Mode, tasks: Sequence[str]) -> Iterator[Shown]:
        """Yield the first test questions of each task, one of a clip, answered word by word in the fine and the coarse
        pass."""
        left = dict.fromkeys(tasks, self.config.test.shown)
        for test in self.clips.evaluated(self.clips.data.test):
            first = 0  # question of the clip, among all of the batch
            for clip, text in enumerate(test.batch.text):
                if text.conversations and left[test.tasks[first]]:
                    left[test.tasks[first]] -= 1
                    yield self._answered(model, mode, test, clip)
                first += len(text.conversations)
            if not any(left.values()):
                return

    def _answered(self, model: FoveatedVLM, mode: Mode, test: EvalBatch, clip: int) -> Shown:
        batch, chat = test.batch, self.clips.chat
        assert batch.clips is not None
        talk = batch.text[clip].conversations[0]
        frames, looks = seen(batch, clip)
        asked = chat.asked(talk)
        attention, said = {}, {}
        for name, of in {FINE: mode, COARSE: "coarse"}.items():
            answer = Answer(
                model.eval(), chat, asked.before, asked.after, mode=of, most=self.config.test.tokens, look=True
            )
            said[name] = "".join(answer.about(frames, looks)).strip()
            layers = zip(*answer.attention, strict=True)
            attention[name] = np.stack([torch.stack(list(looks)).float().numpy() for looks in layers])
        frames = frames.repeat(looks, 1, 1, 1)
        return Shown(
            batch.keys[clip], asked.question, asked.answer, frames.cpu().numpy(),
            model.encoder.patches(*frames.shape[1:3]), batch.extra["truth"][clip, 0][: len(frames)].tolist(),
            attention, said,
        )  # fmt: skip

    def _right(self, one: Shown) -> dict[str, bool]:
        """Return whether each answer is the true one, as the tokenizer spells it."""
        ids = self.tokenizer(one.answer, add_special_tokens=False)["input_ids"]
        spelled = self.tokenizer.decode(ids).split()
        return {name: said.split() == spelled for name, said in one.said.items()}


def seen(batch: Batch, clip: int) -> tuple[torch.Tensor, int]:
    """Return the frames of a clip of a batch, uint8 [T, H, W, 3], and the number of looks at each.

    A still image is one frame, and has as many looks as it has places in the batch.
    """
    assert batch.clips is not None
    stored, real = batch.clips[clip], batch.extra["frames"][clip]
    if len(stored) == len(real):
        return stored[real], 1
    return stored, int(real.sum())
