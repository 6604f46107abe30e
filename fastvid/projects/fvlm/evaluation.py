"""The test of a trained model: its answers under every condition, and where it looked."""

import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from fastvid.data import Batch
from fastvid.eval.attention_maps import AttentionEntropy, Hits, diversity
from fastvid.projects.fvlm.controls import COARSE, FINE, Condition, Trial
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.measures import ALL, Answers, answers_of, joined
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.output import Output


@dataclass(frozen=True)
class EvalBatch:
    """A batch whose answers are measured.

    Attributes:
        batch: clips and questions.
        clips: number of each clip among all.
        tasks: task of each real question, in order.
    """

    batch: Batch
    clips: Sequence[int]
    tasks: Sequence[str]


@dataclass
class Looks:
    """The looks of one pass, over all batches.

    Attributes:
        task: task of each question.
        entropy: float32 [L, n, T, h] of each batch.
        frames: bool [n, T] of each batch, real frames.
        hits: of each batch: whether the first layer's attention, averaged over heads, is greatest where the answer is.
        queries: float32 [n, T, D] of each batch.
        questions: questions of each clip.
        tokens: N, of a frame.
    """

    task: list[str] = field(default_factory=list)
    entropy: list[np.ndarray] = field(default_factory=list)
    frames: list[np.ndarray] = field(default_factory=list)
    hits: list[Hits] = field(default_factory=list)
    queries: list[np.ndarray] = field(default_factory=list)
    questions: list[int] = field(default_factory=list)
    tokens: int = 0

    def add(self, output: Output, inputs: Inputs, tasks: Sequence[str], prefix: int) -> None:
        """Add a batch's looks.

        Args:
            output: with its attention.
            inputs: the batch.
            tasks: task of each real question.
            prefix: tokens in front of the patches.
        """
        assert output.attention is not None
        assert output.entropy is not None
        real = inputs.questions.cpu()
        frames = inputs.frames.cpu()[:, None].expand(-1, real.shape[1], -1)[real]
        first = output.attention[0].float().cpu()[real]  # [n, T, h, N]
        target = torch.full(frames.shape, -1)
        if inputs.truth is not None:
            truth = inputs.truth.cpu()[real]
            target = torch.where((truth >= 0) & frames, truth + prefix, -1)
        self.tokens = first.shape[-1]
        self.task += tasks
        self.entropy.append(output.entropy.float().cpu()[:, real].numpy())
        self.frames.append(frames.numpy())
        self.hits.append(Hits.from_weights(first.numpy(), target.numpy()))
        self.queries.append(output.queries.float().cpu()[real].numpy())
        self.questions += real.sum(1).tolist()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON: entropy, hits by task, and the diversity of queries."""
        frames = np.concatenate(self.frames)
        entropy = AttentionEntropy.from_looks(np.concatenate(self.entropy, 1), frames, self.tokens)
        hits = Hits.joined(self.hits)
        tasks = np.array(self.task)
        return {
            "entropy": entropy.as_dict(),
            "hits": {task: hits.of(tasks == task).as_dict() for task in sorted(set(self.task))}
            | {ALL: hits.as_dict()},
            "diversity": self._diversity(frames),
        }  # fmt: skip

    def _diversity(self, frames: np.ndarray) -> dict[str, float | None]:
        queries = np.concatenate(self.queries)
        n, T = frames.shape
        place = np.arange(n * T).reshape(n, T)
        starts = np.cumsum([0, *self.questions])
        flat = queries.reshape(n * T, -1)
        of_a_clip = [
            place[first:end, t][frames[first:end, t]] for first, end in itertools.pairwise(starts) for t in range(T)
        ]
        return {
            "frames of a question": diversity(flat, [place[i][frames[i]] for i in range(n)]),
            "questions of a clip": diversity(flat, of_a_clip),
        }


@dataclass(frozen=True)
class Evaluation:
    """Answers and looks of a model.

    Attributes:
        answers: by condition, the fine and the coarse pass first.
        looks: of the fine and of the coarse pass.
    """

    answers: Mapping[str, Answers]
    looks: Mapping[str, Looks]


@dataclass(frozen=True)
class Evaluator:
    """Tests models on batches.

    Attributes:
        batches: makes the batches, in the same order each time.
        end: id of the end token.
        cast: makes the autocast context of forward passes.
        check: called before each batch; raises where the process is to stop.
    """

    batches: Callable[[], Iterable[EvalBatch]]
    end: int
    cast: Callable[[], AbstractContextManager[object]]
    check: Callable[[], None] = lambda: None

    @torch.no_grad()
    def __call__(
        self, model: FoveatedVLM, mode: Mode, conditions: Mapping[str, Condition], *, look: bool = True
    ) -> Evaluation:
        """Test a model in the mode that it was trained in, in the coarse pass, and under further conditions."""
        parts: dict[str, list[Answers]] = {FINE: [], COARSE: [], **{name: [] for name in conditions}}
        looks = {FINE: Looks(), COARSE: Looks()}
        for test in self.batches():
            self.check()
            inputs = Inputs.of(test.batch)
            with self.cast():
                keys = model.encode(inputs.clips)
                fine = model(inputs, mode, coarse=mode != "coarse", look=look, keys=keys)
                outputs = {FINE: fine, COARSE: fine.coarse or fine}
                trial = Trial(model, inputs, keys, mode, fine)
                outputs |= {name: condition.run(trial) for name, condition in conditions.items()}
            for name, output in outputs.items():
                parts[name].append(answers_of(output, inputs, test.clips, test.tasks, self.end))
            if look:
                for name, seen in looks.items():
                    seen.add(outputs[name], inputs, test.tasks, model.encoder.prefix)
        return Evaluation({name: joined(part) for name, part in parts.items()}, looks if look else {})
