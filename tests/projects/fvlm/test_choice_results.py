"""Accuracies of multiple-choice answers, and the controls that tell seeing from guessing."""

import numpy as np
import pytest

from fastvid.data.text.choices import Choice
from fastvid.eval import wilson_interval
from fastvid.projects.fvlm.choice_results import Answered, as_text, decided, measured
from fastvid.projects.fvlm.choice_test import by_option
from fastvid.projects.fvlm.multiple_choice import BLIND

OPTIONS = ("cat", "dog", "cow", "hen")


def cyclic(by_place, by_option):
    """Log-likelihoods [4, 4] of options that have an own value, and one of the place they stand at in each order."""
    rows = [[by_place[(option - order) % 4] + by_option[option] for option in range(4)] for order in range(4)]
    return np.array(rows, dtype=np.float64)


def questions(by_place, strength, count=8):
    """Questions whose right answers are evenly spread, which a model sees in the mode stream only."""
    found = []
    for number in range(count):
        answer = number % 4
        sees = [strength * (option == answer) for option in range(4)]
        choice = Choice(("v.mp4",), "what?", OPTIONS, answer, groups=("odd" if number % 2 else "even",))
        total = {"stream": cyclic(by_place, sees) - 9, BLIND: cyclic(by_place, [0] * 4) - 9}
        found.append(Answered(choice, f"clip {number}", total, np.ones((4, 4), dtype=np.int64)))
    return found


def test_a_model_that_only_likes_a_letter_is_found_out():
    values = measured(questions([0, 0, 1, 0], 0.0), ["stream", BLIND], letters=True)
    assert values["accuracy"]["stream"]["all"]["accuracy"] == 0.25
    letters = values["letters"]["stream"]
    assert letters["chosen"] == {"C": 1.0}
    assert letters["every"]["correct"] == letters["same"]["correct"] == 0
    assert values["seeing"]["stream"] == {"gain": 0.0, "p": 1.0}
    assert values["chance"] == 0.25
    assert values["one_letter"]["accuracy"] == 0.25


def test_a_model_that_sees_through_a_dislike_of_letters():
    values = measured(questions([0, 0, 1, 0], 0.5), ["stream", BLIND], letters=True)
    letters = values["letters"]["stream"]
    assert letters["averaged"]["accuracy"] == 1.0  # over all orders each option has had each letter
    assert values["accuracy"]["stream"]["all"]["accuracy"] == 0.25
    strong = measured(questions([0, 0, 1, 0], 2.0), ["stream", BLIND], letters=True)
    assert strong["accuracy"]["stream"]["all"]["accuracy"] == 1.0
    assert strong["letters"]["stream"]["every"]["accuracy"] == strong["letters"]["stream"]["same"]["accuracy"] == 1.0
    assert strong["letters"]["stream"]["chosen"] == dict.fromkeys("ABCD", 0.25)
    assert strong["seeing"]["stream"] == {"gain": 0.75, "p": pytest.approx(2 / 2**6)}


def test_accuracies_have_wilson_intervals_by_kind_of_question():
    values = measured(questions([0, 0, 1, 0], 2.0), ["stream", BLIND], letters=True)
    odd = values["accuracy"][BLIND]["odd"]
    assert (odd["correct"], odd["total"]) == (0, 4)
    even = values["accuracy"][BLIND]["even"]
    assert (even["low"], even["high"]) == wilson_interval(2, 4)
    text = as_text(values)
    assert "even" in text
    assert "50.0 [15.0, 85.0]" in text
    assert "what seeing adds, stream: +75.0 points (McNemar's exact test: p = 0.031)" in text
    assert "letters chosen, stream: A 25 %, B 25 %, C 25 %, D 25 %" in text


def test_values_of_places_become_values_of_options():
    listed = [OPTIONS, ("dog", "cow", "hen", "cat"), ("cow", "hen", "cat", "dog")]  # three cyclic orders
    values = {"cat": 1, "dog": 2, "cow": 3, "hen": 4}
    rows = [np.array([*(values[option] for option in order), -1]) for order in listed]  # and a place without an option
    assert by_option(rows, 4).tolist() == [[1, 2, 3, 4]] * 3


def test_a_kind_of_question_counts_each_question_once():
    choice = Choice(("v.mp4",), "what?", ("x", "y"), 0, groups=("all", "odd", "odd"))
    one = Answered(choice, "clip", {"coarse": np.array([[-1.0, -2.0]])}, np.array([[1, 1]]))
    accuracy = measured([one, one], ["coarse"], letters=False)["accuracy"]["coarse"]
    assert {group: found["total"] for group, found in accuracy.items()} == {"all": 2, "odd": 2}


def test_a_tie_is_no_answer():
    assert decided(np.array([1.0, 2.0, 2.0])) == -1
    assert decided(np.array([1.0, 2.0, -np.inf])) == 1
    values = measured(questions([0, 0, 0, 0], 0.0), [BLIND], letters=True)
    assert values["accuracy"][BLIND]["all"]["correct"] == 0
    assert values["undecided"] == {BLIND: 8}
    assert "undecided, no frames: 8 questions" in as_text(values)


def test_texts_are_compared_per_token_and_by_their_sum():
    choice = Choice(("v.mp4",), "what?", ("a long one", "short"), 0)
    one = Answered(choice, "clip", {"coarse": np.array([[-6.0, -3.0]])}, np.array([[4, 1]]))
    values = measured([one], ["coarse"], letters=False)
    assert values["accuracy"]["coarse"]["all"]["correct"] == 1  # -1.5 a token against -3
    assert values["accuracy_by_sum"]["coarse"]["all"]["correct"] == 0
    assert values["ce"]["coarse"]["ce"] == 1.5
    assert "letters" not in values
    assert values["items"] == [{"video": "clip", "question": "what?", "answer": 0, "chosen": {"coarse": 0}}]
