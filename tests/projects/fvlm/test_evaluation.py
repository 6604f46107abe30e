"""The test of a model: answers are scored without their end, controls take away what they say, looks are compared."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fastvid.data.text.rows import ClipText
from fastvid.eval.attention_maps import Hits
from fastvid.projects.fvlm.controls import COARSE, FINE, conditions, with_other_words
from fastvid.projects.fvlm.evaluation import EvalBatch, Evaluator
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.measures import ALL, Answers, answers_of, ce_ratio, joined, legacy_ratio
from fastvid.projects.fvlm.output import partners
from fastvid.report.records import RunRecords
from tests.projects.fvlm.batches import END, PATCHES, batch, tiny

TASKS = ["tiles", "chain", "tiles"]


@pytest.fixture(scope="module")
def found():
    model, test = tiny(), EvalBatch(batch(), [4, 7], TASKS)
    evaluate = Evaluator(lambda: [test, test], END, nullcontext)
    return model, evaluate(model, "stream", conditions("stream", truth=True))


def test_an_answer_is_scored_token_by_token_and_its_end_is_no_word():
    model, inputs = tiny(), Inputs.of(batch())
    output = model(inputs, "coarse")
    answers = answers_of(output, inputs, [4, 7], TASKS, END)
    assert answers.clip.tolist() == [4, 4, 7]
    assert answers.tokens.tolist() == [3, 2, 4]
    assert answers.words.tolist() == [2, 1, 3]
    assert answers.loss.sum() == pytest.approx(float(output.losses.detach().sum()), rel=1e-6)
    right = output.right & (output.labels != END)
    assert answers.right.sum() == int(right.sum())


def test_frames_that_are_padding_in_every_clip_are_left_out():
    whole = batch()
    whole.extra["frames"][:, 2] = False
    shorter = replace(whole, text=[ClipText([], (4, 9, 9)), ClipText([], (0, 0, 0))])
    inputs = Inputs.of(shorter)
    assert inputs.clips.shape[1] == inputs.frames.shape[1] == inputs.truth.shape[2] == 2
    model = tiny()
    with torch.no_grad():
        cut, padded = (model(one, "stream").losses for one in (inputs, Inputs.of(whole)))
    assert torch.allclose(cut, padded, atol=1e-5)


def test_a_perfect_model_and_one_that_only_ends():
    model, inputs = tiny(), Inputs.of(batch())
    output = model(inputs, "coarse")
    output.logits = torch.nn.functional.one_hot(output.labels, output.logits.shape[1]) * 100.0
    perfect = answers_of(output, inputs, [0, 1], TASKS, END).as_dict()
    assert perfect["accuracy"] == perfect["exact"] == 1
    assert perfect["ce"] == pytest.approx(0, abs=1e-6)
    ends = model(inputs, "coarse")
    ends.logits = torch.nn.functional.one_hot(torch.full_like(ends.labels, END), ends.logits.shape[1]) * 100.0
    assert answers_of(ends, inputs, [0, 1], TASKS, END).as_dict()["accuracy"] == 0


def test_measures_are_of_tasks_and_intervals_over_clips():
    count = np.full(40, 2)
    right = np.where(np.arange(40) < 30, 2, 0)
    answers = Answers(np.arange(40) // 2, ["a"] * 20 + ["b"] * 20, np.full(40, 0.5), count + 1, right, count)
    assert answers.tasks == ["a", "b"]
    assert answers.of("a").as_dict()["accuracy"] == 1
    whole = answers.of(ALL).as_dict()
    assert whole["accuracy"] == whole["exact"] == 0.75
    assert whole["clips"] == 20
    assert whole["accuracy_low"] < 0.7 < 0.8 < whole["accuracy_high"]
    assert whole["ce"] == pytest.approx(0.5 / 3)


def test_the_fair_ratio_is_that_of_sums_on_the_same_clips():
    clip, ones = np.arange(10), np.ones(10, int)
    loss = np.linspace(1, 4, 10)
    fine = Answers(clip, ["a"] * 10, loss, ones, ones, ones)
    coarse = Answers(clip, ["a"] * 10, 2 * loss, ones, ones, ones)
    assert ce_ratio(coarse, fine) == pytest.approx({"ratio": 2, "low": 2, "high": 2})  # paired: no spread at all


def test_the_legacy_ratio_is_the_mean_of_recorded_ratios():
    records = [
        {"stage": "fine", "step": step, "coarse_loss": coarse, "fine_loss": 2.0}
        for step, coarse in enumerate([2.0, 6.0])
    ]
    run = RunRecords(Path(), {}, {}, records, None, None, [], {})
    assert legacy_ratio(run, "fine") == pytest.approx((1 + 3) / 2)
    assert legacy_ratio(run, "coarse") is None


def test_partners_are_other_questions_of_the_clip_or_of_the_next():
    questions = torch.tensor([[True, True, True], [True, False, False], [False, False, False], [True, False, False]])
    assert partners(questions).tolist() == [[1, 2, 0], [9, 4, 5], [6, 7, 8], [0, 10, 11]]


def test_other_words_leave_the_answers_where_they_are():
    inputs = Inputs.of(batch())
    other = with_other_words(inputs)
    assert other.before[0, 0].tolist() == inputs.before[0, 1].tolist()
    assert other.before[1, 0].tolist() == inputs.before[0, 0].tolist()
    learnt = other.labels != -100
    assert torch.equal(other.labels[learnt], inputs.labels[inputs.labels != -100])
    assert torch.equal(other.after[learnt], other.labels[learnt])
    assert (other.after_mask | ~learnt).all()


def test_words_behind_the_video_are_exchanged_too():
    """Video first: the question stands in ``after``, in front of what is learnt."""
    inputs = Inputs.of(batch())
    longer = torch.nn.functional.pad(inputs.after, (1, 0), value=9)  # the first question is a word longer
    longer[0, 1, :-1] = inputs.after[0, 1]
    mask = torch.nn.functional.pad(inputs.after_mask, (1, 0), value=True)
    mask[0, 1, :-1] = inputs.after_mask[0, 1]
    mask[0, 1, -1] = False
    labels = torch.nn.functional.pad(inputs.labels, (1, 0), value=-100)
    labels[0, 1, :-1] = inputs.labels[0, 1]
    labels[0, 1, -1] = -100
    given = Inputs(**{**vars(inputs), "after": longer, "after_mask": mask & longer.ne(0), "labels": labels})
    other = with_other_words(given)
    assert other.after[0, 0].tolist()[:5] == [1, 2, 10, 11, END]
    assert other.after[0, 1].tolist()[:5] == [9, 1, 2, 12, END]
    assert other.labels[0, 1].tolist()[:5] == [-100, -100, -100, 12, END]


def test_every_condition_is_measured_on_the_same_questions(found):
    _, evaluation = found
    assert list(evaluation.answers) == [
        FINE, COARSE, "parallel", "uniform gaze", "another's gaze", "shuffled question", "no frames", "oracle"
    ]  # fmt: skip
    for answers in evaluation.answers.values():
        assert answers.clip.tolist() == [4, 4, 7] * 2
        assert answers.tokens.tolist() == [3, 2, 4] * 2
        assert np.isfinite(answers.loss).all()


def test_conditions_are_what_they_say(found):
    model, evaluation = found
    inputs = Inputs.of(batch())
    with torch.no_grad():
        for name, wanted in {
            "uniform gaze": model(inputs, "stream", gaze="uniform"),
            "another's gaze": model(inputs, "stream", gaze="shuffled"),
            "oracle": model(inputs, "stream", gaze="oracle"),
            "parallel": model(inputs, "parallel"),
            COARSE: model(inputs, "coarse"),
        }.items():
            loss = answers_of(wanted, inputs, [4, 7], TASKS, END).loss
            assert evaluation.answers[name].loss[:3] == pytest.approx(loss, rel=1e-4), name
    assert evaluation.answers["shuffled question"].loss != pytest.approx(evaluation.answers[FINE].loss)


def test_without_frames_the_pixels_do_not_matter():
    model, one, other = tiny(), batch(), batch()
    other.clips = other.clips.flip(-1)
    found = []
    for test in (one, other):
        evaluate = Evaluator(lambda test=test: [EvalBatch(test, [0, 1], TASKS)], END, nullcontext)
        found.append(evaluate(model, "stream", conditions("stream", truth=True), look=False))
    blind, seeing = ([evaluation.answers[name].loss.tolist() for evaluation in found] for name in ("no frames", FINE))
    assert blind[0] == pytest.approx(blind[1])
    assert seeing[0] != pytest.approx(seeing[1])


def test_looks_are_compared_with_the_truth_and_with_uniform_attention(found):
    model, evaluation = found
    looks = evaluation.looks[FINE].as_dict()
    inputs = Inputs.of(batch())
    with torch.no_grad():
        output = model(inputs, "stream", look=True)
    weights = output.attention[0][inputs.questions].numpy()
    target = (inputs.truth + model.encoder.prefix)[inputs.questions].numpy()
    target[2, 2] = -1  # padding
    hits = Hits.from_weights(weights, target)
    assert looks["hits"][ALL]["hit_rate"] == pytest.approx(hits.hit.mean())
    assert looks["hits"][ALL]["looks"] == 2 * 8
    assert looks["hits"]["chain"]["looks"] == 2 * 3
    assert looks["entropy"]["tokens"] == PATCHES + model.encoder.prefix
    assert 0 < looks["entropy"]["mean"] <= looks["entropy"]["uniform"]
    assert looks["diversity"]["frames of a question"] > 0
    coarse = evaluation.looks[COARSE].as_dict()
    assert coarse["diversity"]["frames of a question"] == pytest.approx(0, abs=1e-6)


def test_the_answers_of_batches_are_joined_in_order():
    one = Answers(np.array([0]), ["a"], np.array([1.0]), *np.ones((3, 1), int))
    two = Answers(np.array([1]), ["b"], np.array([2.0]), *np.ones((3, 1), int))
    both = joined([one, two])
    assert (both.clip.tolist(), list(both.task), both.loss.tolist()) == ([0, 1], ["a", "b"], [1.0, 2.0])
