"""Paired tests against what is known of them."""

import itertools
import math

import numpy as np
import pytest

from fastvid.eval.paired import holm, paired_bootstrap, paired_permutation


def answers(count: int, accuracy: float, seed: int) -> np.ndarray:
    return (np.random.default_rng(seed).random(count) < accuracy).astype(float)


def test_few_differences_are_enumerated():
    a, b = np.array([1, 1, 1, 0.5, 0, 1, 1]), np.array([0, 0, 0, 0, 0.25, 1, 1])
    differences = a - b
    sums = [abs(np.dot(signs, differences)) for signs in itertools.product((1, -1), repeat=7)]
    assert paired_permutation(a, b) == np.mean(np.array(sums) >= abs(differences.sum()) - 1e-9)
    assert paired_permutation(a, a) == 1
    assert paired_permutation(np.ones(3), np.zeros(3)) == 2 / 8


def test_many_right_or_wrong_answers_give_the_binomial_test():
    """Of answers that are right or wrong, the sign-flip test is McNemar's exact test."""
    a, b = answers(400, 0.8, 1), answers(400, 0.75, 2)
    better, worse = int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    n = better + worse
    exact = min(1.0, 2 * sum(math.comb(n, k) for k in range(min(better, worse) + 1)) / 2**n)
    found = paired_permutation(a, b, draws=20_000)
    assert found == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 20_000))
    assert paired_permutation(b, a, draws=20_000) == pytest.approx(found, abs=0.01)
    assert paired_permutation(a, b) == paired_permutation(a, b) != paired_permutation(a, b, seed=1)


def test_equal_classifiers_are_found_different_as_often_as_alpha_says():
    found = [paired_permutation(answers(100, 0.7, 2 * i), answers(100, 0.7, 2 * i + 1), 1000) for i in range(300)]
    share = np.mean(np.array(found) < 0.05)
    assert 0.01 < share < 0.08
    assert paired_permutation(answers(200, 0.9, 1), answers(200, 0.5, 2)) == 1 / 10_001  # never 0


def test_the_bootstrap_interval_is_the_normal_one_where_that_holds():
    a, b = answers(2000, 0.8, 1), answers(2000, 0.7, 2)
    low, high = paired_bootstrap(a, b)
    half = 1.96 * np.std(a - b) / math.sqrt(2000)
    assert (low, high) == pytest.approx(((a - b).mean() - half, (a - b).mean() + half), abs=0.004)


def test_holm_is_the_textbook_s():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_scores_that_are_no_pairs_are_refused():
    for a, b in ((np.ones(3), np.ones(4)), (np.ones(0), np.ones(0)), (np.ones((2, 2)), np.ones((2, 2)))):
        with pytest.raises(ValueError, match="over the same videos"):
            paired_permutation(a, b)
