"""Conditions under which a trained model is tested: its modes, and controls that take away what it needs."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from fastvid.projects.fvlm.encoder import Keys
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.output import Output, another_questions, partners

FINE, COARSE = "fine", "coarse"


@dataclass(frozen=True)
class Trial:
    """One batch under test.

    Attributes:
        model: the model.
        inputs: clips and questions.
        keys: of the clips, computed once for all conditions.
        mode: in which the model was trained.
        fine: what it said in that mode.
    """

    model: FoveatedVLM
    inputs: Inputs
    keys: Keys
    mode: Mode
    fine: Output

    def other_mode(self) -> Output:
        """Answer in the fine mode that was not trained."""
        return self.model(self.inputs, "parallel" if self.mode == "stream" else "stream", keys=self.keys)

    def uniform_gaze(self) -> Output:
        """Answer with queries that attend to all tokens of a frame alike."""
        return self.model(self.inputs, self.mode, gaze="uniform", keys=self.keys)

    def anothers_gaze(self) -> Output:
        """Answer with the queries of another question of the same clip, or of another clip's where it has one only."""
        queries = another_questions(self.fine.queries, self.inputs.questions)
        return self.model(self.inputs, self.mode, queries=queries, keys=self.keys)

    def oracle_gaze(self) -> Output:
        """Answer with queries that look where the answer is."""
        return self.model(self.inputs, self.mode, gaze="oracle", keys=self.keys)

    def no_frames(self) -> Output:
        """Answer from the question alone."""
        blind = replace(self.inputs, frames=torch.zeros_like(self.inputs.frames))
        return self.model(blind, self.mode, keys=self.keys)

    def shuffled_question(self) -> Output:
        """Answer another question, and be judged by the answer to this one."""
        return self.model(with_other_words(self.inputs), self.mode, keys=self.keys)


@dataclass(frozen=True)
class Condition:
    """A condition of the test.

    Attributes:
        words: what it is, for the report.
        run: makes the answers.
    """

    words: str
    run: Callable[[Trial], Output]


def conditions(mode: Mode, truth: bool) -> dict[str, Condition]:
    """Return the conditions beside the fine and the coarse pass, by name.

    Args:
        mode: in which the model was trained.
        truth: whether the data says where the answers are.
    """
    other = (
        Condition("all frames at once, with queries that the coarse pass predicts", Trial.other_mode)
        if mode == "stream"
        else Condition("frame after frame, without a coarse pass", Trial.other_mode)
    )
    found = {
        "parallel" if mode == "stream" else "stream": other,
        "uniform gaze": Condition("every query attends to all of a frame alike", Trial.uniform_gaze),
        "another's gaze": Condition("the queries of another question", Trial.anothers_gaze),
        "shuffled question": Condition("another question's words, this one's answer", Trial.shuffled_question),
        "no frames": Condition("the question alone", Trial.no_frames),
    }
    if truth:
        found["oracle"] = Condition("every query looks where the answer is", Trial.oracle_gaze)
    return found


def with_other_words(inputs: Inputs) -> Inputs:
    """Exchange the words in front of the answers among questions, as :func:`partners` pairs them.

    What stands behind the video up to the first learnt token is exchanged too; the answers stay.
    """
    partner = partners(inputs.questions).flatten().tolist()
    shape = inputs.questions.shape
    after, mask, labels = (x.flatten(0, 1) for x in (inputs.after, inputs.after_mask, inputs.labels))
    starts = [int(row.int().argmax()) if row.any() else len(row) for row in labels != -100]
    rows = []
    for row, other in enumerate(partner):
        head, tail = slice(0, starts[other]), slice(starts[row], int(mask[row].sum()))
        rows.append([torch.cat([x[other, head], x[row, tail]]) for x in (after, labels)])
    most = max(len(ids) for ids, _ in rows)
    new = torch.zeros(len(rows), most, dtype=after.dtype, device=after.device)
    new_mask = torch.zeros(len(rows), most, dtype=torch.bool, device=after.device)
    new_labels = torch.full_like(new, -100)
    for row, (ids, learnt) in enumerate(rows):
        new[row, : len(ids)], new_labels[row, : len(ids)] = ids, learnt
        new_mask[row, : len(ids)] = True
    which = torch.tensor(partner, device=inputs.before.device)

    def exchanged(x: torch.Tensor) -> torch.Tensor:
        rows: torch.Tensor = x.flatten(0, 1)[which].unflatten(0, shape)
        return rows

    return replace(
        inputs, before=exchanged(inputs.before), before_mask=exchanged(inputs.before_mask),
        after=new.unflatten(0, shape), after_mask=new_mask.unflatten(0, shape), labels=new_labels.unflatten(0, shape),
    )  # fmt: skip
