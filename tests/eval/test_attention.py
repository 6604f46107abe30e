"""Attention measures, on cases worked by hand."""

import math

import numpy as np
import pytest

from fastvid.eval.attention import (
    AttentionRatio,
    delete_as_many_persistent,
    delete_share,
    keep_persistent,
    log_ratios,
    permutation_null,
    rollout,
)
from fastvid.eval.hierarchical import balanced_of_sums, bootstrap_interval, mean_over_runs

P, T = True, False


def test_uniform_attention_has_ratio_one_whatever_the_numbers_of_tokens():
    kinds = [P, T, *[P] * 16, T, T, T]
    offsets = [0, 2, len(kinds)]
    weights = [0.5, 0.5, *[1 / 19] * 19]
    assert np.exp(log_ratios(weights, kinds, offsets)) == pytest.approx([1, 1])
    assert AttentionRatio.from_weights(weights, kinds, offsets).value == pytest.approx(1)


def test_the_ratio_is_per_token():
    """0.6 on two persistent tokens and 0.4 on four transient ones: 0.3 / 0.1."""
    ratio = AttentionRatio.from_weights([0.4, 0.2, 0.1, 0.1, 0.1, 0.1], [P, P, T, T, T, T], [0, 6])
    assert ratio.value == pytest.approx(3)


def test_the_mean_is_geometric_so_that_4_and_a_quarter_make_1():
    ratio = AttentionRatio.from_weights([0.8, 0.2, 0.2, 0.8], [P, T, P, T], [0, 2, 4])
    assert np.exp(ratio.log_ratios) == pytest.approx([4, 0.25])
    assert ratio.value == pytest.approx(1)


def test_videos_with_one_kind_are_left_out_and_counted():
    ratio = AttentionRatio.from_weights([0.75, 0.25, 0.5, 0.5, 1.0], [P, T, P, P, T], [0, 2, 4, 5, 5])
    assert np.isnan(ratio.log_ratios).tolist() == [False, True, True, True]
    assert (ratio.value, ratio.excluded) == (pytest.approx(3), 3)
    assert ratio.as_dict()["videos"] == 1
    empty = AttentionRatio.from_weights([1.0], [P], [0, 1])
    assert math.isnan(empty.value)
    assert empty.as_dict()["ratio"] is None


def test_consistency_counts_ratios_above_the_threshold():
    """Ratios 4, 1.31, 1.3 and 0.5: two are above 1.3."""
    shares = [r / (1 + r) for r in (4, 1.31, 1.3 - 1e-9, 0.5)]
    weights = [w for share in shares for w in (share, 1 - share)]
    consistency = AttentionRatio.from_weights(weights, [P, T] * 4, [0, 2, 4, 6, 8]).consistency
    assert (consistency.correct, consistency.total) == (2, 4)


def test_no_attention_at_all_on_one_kind_stays_a_number():
    assert np.isfinite(log_ratios([1.0, 0.0], [P, T], [0, 2])).all()


@pytest.mark.parametrize(
    ("weights", "kinds", "offsets", "said"),
    [
        ([1.0], [P, T], [0, 2], "weights"),
        ([0.5, 0.5], [P, T], [0, 3], "offsets to 3"),
        ([-0.5, 1.5], [P, T], [0, 2], "at least 0"),
        ([math.nan, 1.0], [P, T], [0, 2], "finite"),
    ],
)
def test_what_is_no_attention_is_refused(weights, kinds, offsets, said):
    with pytest.raises(ValueError, match=said):
        log_ratios(weights, kinds, offsets)


def test_the_null_permutes_whole_tracks():
    """One video: track 0 has three persistent tokens with 0.2 each, track 1 a transient one with 0.4. Dealt out
    otherwise, track 1 is the persistent one: ratio 0.4 / 0.2 = 2 instead of 0.5. Nothing else can come out."""
    null = permutation_null([0.2, 0.2, 0.2, 0.4], [P, P, P, T], [0, 0, 0, 1], [0, 4], draws=200)
    assert sorted(set(np.round(null.ratios, 9))) == [0.5, 2.0]
    assert (null.ratios > 1).mean() == pytest.approx(0.5, abs=0.12)
    assert null.consistencies.mean() == pytest.approx((null.ratios > 1).mean())
    assert null.p == 1.0  # 0.5 is the least there is


def test_attention_on_persistent_tracks_is_above_its_null():
    kinds = np.tile([P, T, T], 20)
    null = permutation_null(np.tile([0.6, 0.2, 0.2], 20), kinds, np.tile([0, 1, 2], 20), np.arange(0, 61, 3), draws=99)
    assert null.p == pytest.approx(0.01)
    assert null.as_dict()["ratio"] < 2


def test_a_track_of_both_kinds_has_no_null():
    with pytest.raises(ValueError, match="one kind"):
        permutation_null([0.5, 0.5, 0.0], [P, T, T], [0, 0, 1], [0, 3])


def test_rollout_halves_at_each_layer():
    """One layer that swaps two tokens, and a query that reads the first: half of it comes from each."""
    swap = np.array([[[0.0, 1.0], [1.0, 0.0]]])
    assert rollout([swap], np.array([[1.0, 0.0]])) == pytest.approx(np.array([[0.5, 0.5]]))
    # First layer: both tokens take all from token 0. Query (1, 0) -> (0.5, 0.5) by the swap -> 0.75, 0.25.
    all_from_first = np.array([[[1.0, 0.0], [1.0, 0.0]]])
    assert rollout([all_from_first, swap], np.array([[1.0, 0.0]])) == pytest.approx(np.array([[0.75, 0.25]]))


def test_deletions():
    kinds, offsets = np.array([P, P, P, T, T, P, T]), np.array([0, 5, 7])
    assert keep_persistent(kinds).tolist() == [1, 1, 1, 0, 0, 1, 0]
    left = delete_as_many_persistent(kinds, offsets)
    assert left[[3, 4, 6]].all()  # transient ones stay
    assert left[:3].sum() == 1  # two of three go, as many as there are transient ones
    assert left[5]  # the last persistent token of a video stays
    order = [0.1, 0.4, 0.2, 0.05, 0.25, 0.3, 0.7]
    assert delete_share(order, offsets, 0.4).tolist() == [1, 0, 1, 1, 0, 1, 0]  # 2 of 5; 0.8 of 2, which is 1
    assert delete_share(order, offsets, 0.0).all()
    assert delete_share(order, offsets, 1.0).tolist() == [0, 0, 0, 1, 0, 1, 0]  # one token is left


def test_an_interval_over_runs_is_wide_where_runs_differ():
    """Two runs without any spread inside, at 0 and 1: resampled means are 0, 0.5 and 1."""
    runs = [np.stack([np.full(50, v), np.ones(50)], 1) for v in (0.0, 1.0)]

    def mean(sums):
        return sums[..., 0] / sums[..., 1]

    assert bootstrap_interval(runs, mean) == (0.0, 1.0)
    assert mean_over_runs(runs, mean) == 0.5
    assert bootstrap_interval([runs[1], runs[1]], mean) == (1.0, 1.0)


def test_an_interval_of_one_run_is_that_of_its_videos():
    values = np.tile([0.0, 1.0], 200)
    low, high = bootstrap_interval([np.stack([values, np.ones(400)], 1)], lambda sums: sums[..., 0] / sums[..., 1])
    assert low == pytest.approx(0.5 - 1.96 * 0.025, abs=0.01)  # standard error 0.5 / 20
    assert high == pytest.approx(0.5 + 1.96 * 0.025, abs=0.01)
    with pytest.raises(ValueError, match="at least one run"):
        bootstrap_interval([], lambda sums: sums)


def test_balanced_accuracy_of_sums():
    """3 of 4 and 1 of 2: 0.75 and 0.5. A class without answers is left out."""
    assert balanced_of_sums(np.array([3, 1, 4, 2])) == pytest.approx(0.625)
    assert balanced_of_sums(np.array([[3, 0, 4, 0]])) == pytest.approx([0.75])
