"""Rows of answers, rules and savings, worked by hand."""

import numpy as np
import pytest

from fastvid.eval.early import Decisions, tokens_left
from fastvid.eval.hierarchical import balanced_of_sums
from fastvid.projects.trajectory.baselines import baselines, colour_rule, length_rule, one_frame_rule
from fastvid.projects.trajectory.config import ModelConfig
from fastvid.projects.trajectory.measures import mean_loss, target_rows, verdict_rows
from fastvid.projects.trajectory.predictions import Predictions
from fastvid.projects.trajectory.savings import savings, transformer_flops
from fastvid.projects.trajectory.track_table import TrackTable
from tests.projects.trajectory.token_sets import random_set, token_set

P, T, nan = True, False, np.nan


def test_the_tracks_of_a_set():
    table = TrackTable.from_tokens(token_set([[(P, 0, 2), (T, 1, 1)], [(T, 3, 3)]], 4))
    assert table.video.tolist() == [0, 0, 1]
    assert table.birth.tolist() == [0, 1, 3]
    assert table.persistent.tolist() == [P, T, T]
    assert table.seen.tolist() == [[1, 1, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]]
    assert table.row.tolist() == [0, 0, 1, 0, 2]


def test_rows_of_answers_add_up_to_balanced_accuracies():
    """Classes 0, 0, 1, of which one 0 is right and the 1 is: (1/2 + 1) / 2."""
    rows = target_rows(np.array([[2.0, 1.0], [0.0, 1.0], [0.0, 1.0]]), np.array([0, 0, 1]))
    assert rows.sum(0).tolist() == [1, 1, 2, 1]
    assert balanced_of_sums(rows.sum(0)) == pytest.approx(0.75)


def test_rows_of_verdicts_leave_out_tracks_that_were_not_shown():
    """Of the persistent tracks one of two is right, of the transient ones the one that was shown: (1/2 + 1) / 2."""
    table = TrackTable.from_tokens(token_set([[(P, 0, 1), (T, 0, 0)], [(P, 0, 1), (T, 0, 0)]], 2))
    rows = verdict_rows(np.array([1.0, -1.0, -1.0, nan]), table, 2)
    assert rows.tolist() == [[1, 1, 1, 1], [0, 0, 0, 1]]
    assert balanced_of_sums(rows.sum(0)) == pytest.approx(0.75)


def test_the_loss_of_a_constant_answer():
    table = TrackTable.from_tokens(token_set([[(P, 0, 1), (T, 0, 0)]], 2))
    said = Predictions(np.zeros((1, 4)), np.zeros(2), np.zeros(3))
    assert mean_loss(said, table, np.array([2])) == pytest.approx(np.log(4) + np.log(2))


def pixels(tokens, light):
    """The same tokens with plain crops of a brightness for each kind."""
    values = np.where(tokens.persistent, *light)[:, None] * np.ones((1, 192))
    return type(tokens)(**{**vars(tokens), "features": values.astype(np.float16)})


def test_rules_reach_what_the_data_gives_away_and_no_more():
    train, test = random_set(60, frames=12, seed=1), random_set(60, frames=12, seed=2)
    telling = [pixels(tokens, (1.0, -1.0)) for tokens in (train, test)]
    alike = [pixels(tokens, (0.3, 0.3)) for tokens in (train, test)]
    assert colour_rule(*telling) == 1
    assert one_frame_rule(*telling) == 1
    assert colour_rule(*alike) == 0.5
    assert length_rule(*alike) == (1.0, 4)  # transient ones last for three frames at most
    found = baselines(*alike, None, None)
    assert (found["constant"], found["oracle"]) == (0.5, None)


def test_arithmetic_by_hand():
    """L = 2, width 2, one layer, features of 3: 16 * 2 * 4 + 4 * 4 * 2 in the layer, 2 * (12 + 8 + 16) around it."""
    assert transformer_flops(ModelConfig(layers=1, width=2, heads=1), 3, np.array(2)) == 160 + 72


def test_no_more_is_saved_than_the_videos_allow():
    """Track 0 is persistent, four tokens; track 1 transient, in frames 1 to 3, decided after its first."""
    tokens = token_set([[(P, 0, 3), (T, 1, 3)]], 4)
    table = TrackTable.from_tokens(tokens)
    decisions = Decisions(np.array([1, 1]), np.array([P, T]), np.array([P, T]))
    left = tokens_left(tokens.frame, table.row, table.birth, decisions)
    found = savings(tokens, left, ModelConfig(layers=1, width=2, heads=1), 1000.0)
    assert found["tokens_saved"] == pytest.approx(2 / 7)
    assert found["tokens_ceiling"] == pytest.approx(3 / 7)
    # The transformer reads 1, 3, 5, 7 tokens; with the decision 1, 3, 4, 5; 1, 2, 3, 4 at the least.
    reads = [
        sum(float(transformer_flops(ModelConfig(layers=1, width=2, heads=1), 4, np.array(n))) for n in lengths)
        + 1000.0 * crops
        for lengths, crops in (((1, 3, 5, 7), 7), ((1, 3, 4, 5), 5), ((1, 2, 3, 4), 4))
    ]
    assert found["flops"] == pytest.approx(reads[0])
    assert found["flops_saved"] == pytest.approx(1 - reads[1] / reads[0])
    assert found["flops_ceiling"] == pytest.approx(1 - reads[2] / reads[0])
    assert found["flops_saved"] < found["flops_ceiling"]
