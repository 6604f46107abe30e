"""Early decisions, on cases worked by hand."""

import math

import numpy as np
import pytest

from fastvid.eval.early import (
    above_ceiling,
    balanced_accuracy,
    decide,
    early_accuracy,
    early_ceiling,
    fit_temperature,
    since_birth,
    tokens_left,
)

P, T, nan = True, False, math.nan


def test_rows_begin_with_the_birth():
    shifted = since_birth([[1, 2, 3], [4, 5, 6]], [0, 2])
    assert np.array_equal(shifted, [[1, 2, 3], [6, nan, nan]], equal_nan=True)


def test_a_constant_answer_has_balanced_accuracy_one_half():
    assert balanced_accuracy([T] * 10, [P, *[T] * 9]) == 0.5
    assert balanced_accuracy([P, P, T], [P, P, T]) == 1
    assert math.isnan(balanced_accuracy([P], [P]))


def test_accuracy_after_k_frames():
    """Two persistent, two transient tracks; the last is born in the last frame and known for one frame only.
    k = 1: 1 of 2 persistent, 1 of 2 transient. k = 2: 2 of 2, 1 of 1."""
    p = [[0.4, 0.9], [0.6, 0.9], [0.9, 0.1], [0.2, nan]]
    assert early_accuracy(p, [P, P, T, T]) == pytest.approx([0.5, 1.0])


def tracks(lifetimes, frames):
    return np.arange(frames) < np.asarray(lifetimes)[:, None]


def test_the_ceiling_of_lifetimes_1_to_6_against_12():
    """Transient lifetimes are uniform on 1 to 6, persistent ones at least 12. After k frames, (k - 1) / 6 of the
    transient ones are known to have gone: ceiling 1/2 (1 + (k - 1) / 6)."""
    lives = [12, 14, *[1, 2, 3, 4, 5, 6] * 3]
    kinds = [P, P, *[T] * 18]
    ceiling = early_ceiling(tracks(lives, 16), kinds, [0] * 20)
    assert ceiling[:7] == pytest.approx([(1 + (k - 1) / 6) / 2 for k in range(1, 8)])
    assert ceiling[7:] == pytest.approx(1.0)


def test_where_one_frame_tells_the_kinds_apart_there_is_no_ceiling_and_ends_are_not_known_ahead():
    kinds = [P, T]
    assert early_ceiling(tracks([4, 2], 4), kinds, [0, 0]) == pytest.approx([0.5, 0.5, 1, 1])
    assert early_ceiling(tracks([4, 2], 4), kinds, [0, 0], one_frame=0.55) == pytest.approx([0.55, 0.55, 1, 1])
    assert early_ceiling(tracks([4, 2], 4), kinds, [0, 0], one_frame=0.9) == pytest.approx([1, 1, 1, 1])


def test_a_track_that_is_hidden_for_a_while_was_last_seen_before():
    """Seen at ages 1 and 3, hidden at 2: after two frames it looks like a track that lives for one."""
    ceiling = early_ceiling([[P, T, P], [P, T, T]], [P, T], [0, 0])
    assert ceiling == pytest.approx([0.5, 0.5, 1.0])


def test_a_leak_is_named_only_where_the_lower_bound_is_above():
    assert above_ceiling([0.5, 0.7, 1.0, nan], [0.5, 0.6, 1.0, 1.0]) == [2]


def test_decisions():
    """Decided at frame 2 and right, at frame 1 and wrong, never (and right at the end), at frame 3 and right."""
    p = [[0.6, 0.95, 0.1], [0.92, 0.2, 0.1], [0.6, 0.4, nan], [0.5, 0.5, 0.05]]
    found = decide(p, [P, T, T, T], 0.9)
    assert found.age.tolist() == [2, 1, 0, 3]
    assert found.answers.tolist() == [P, P, T, T]
    assert found.coverage == 0.75
    assert found.mean_age == 2.0
    assert found.wrong == pytest.approx(1 / 3)
    assert found.accuracy == pytest.approx((1 + 2 / 3) / 2)
    none = decide([[0.5]], [P], 0.9).as_dict()
    assert (none["coverage"], none["mean_frames"], none["wrong_early"]) == (0.0, None, None)


def test_tokens_are_dropped_after_the_decision_and_of_transient_verdicts_only():
    """Track 0 is held to be persistent. Track 1 is born in frame 1 and decided to be transient after two frames: its
    tokens of frames 1 and 2 were needed, that of frame 3 is not."""
    found = decide([[0.95, 0.95, 0.95, 0.95], [0.5, 0.02, 0.02, nan]], [P, T])
    left = tokens_left([0, 1, 2, 3, 1, 2, 3], [0, 0, 0, 0, 1, 1, 1], [0, 1], found)
    assert left.tolist() == [1, 1, 1, 1, 1, 1, 0]


def test_the_temperature_makes_overconfident_logits_as_sure_as_they_are_right():
    """Logits of +-4, right in 3 of 4: the best is log 3 = 4 / t."""
    logits, labels = np.array([4.0, 4, 4, 4, -4, -4, -4, -4]), [P, P, P, T, T, T, T, P]
    assert fit_temperature(logits, labels) == pytest.approx(4 / math.log(3), rel=1e-4)
    assert fit_temperature(logits / 10, labels) == pytest.approx(0.4 / math.log(3), rel=1e-4)
