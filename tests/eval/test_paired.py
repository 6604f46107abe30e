import itertools
import math

import numpy as np
import pytest
import torch

from fastvid.eval import holm, mcnemar_exact, paired_bootstrap, paired_permutation


def enumerated(a, b) -> float:
    """The definition, one sign assignment at a time."""
    d = [float(x) - float(y) for x, y in zip(a, b, strict=True)]
    seen = abs(math.fsum(d))
    sums = [
        abs(math.fsum(s * x for s, x in zip(signs, d, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(d))
    ]
    return sum(s >= seen - 1e-12 for s in sums) / len(sums)


@pytest.mark.parametrize("n", [1, 4, 7, 10])
@pytest.mark.parametrize("kind", ["float", "bool"])
def test_few_samples_are_enumerated(n, kind):
    rng = np.random.default_rng(n)
    a, b = rng.normal(0.6, 1.0, n), rng.normal(0.0, 1.0, n)
    if kind == "bool":
        a, b = a > 0, b > 0
    assert paired_permutation(a, b) == pytest.approx(enumerated(a, b), abs=1e-15)
    assert paired_permutation(b, a) == paired_permutation(a, b)


def test_three_differences_by_hand():
    # |±1 ±2 ±3| reaches 6 twice in eight, 4 four times.
    assert paired_permutation([1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == 2 / 8
    assert paired_permutation([-1.0, 2.0, 3.0], [0.0, 0.0, 0.0]) == 4 / 8
    # Tenths have no exact sum; equal ones count all the same.
    assert paired_permutation([0.1, 0.2, 0.3], [0.0, 0.0, 0.0]) == 2 / 8
    # Samples on which both score the same say nothing.
    assert paired_permutation([1.0, 2.0, 3.0] + [5.0] * 40, [0.0, 0.0, 0.0] + [5.0] * 40) == 2 / 8


def test_random_assignments_come_near_the_enumeration():
    rng = np.random.default_rng(1)
    a, b = rng.normal(0.5, 1.0, 12), rng.normal(0.0, 1.0, 12)
    exact = enumerated(a, b)
    assert 0.02 < exact < 0.5
    drawn = paired_permutation(a, b, draws=4000)
    assert drawn != exact
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 4000))
    assert paired_permutation(a, b, draws=4000) == drawn
    assert paired_permutation(a, b, draws=4000, seed=1) != drawn


def test_the_permutation_test_of_right_answers_is_mcnemars():
    a = np.array([True] * 60 + [False] * 20 + [True] * 300)
    b = np.array([False] * 60 + [True] * 20 + [True] * 300)
    b[:25] = True  # 35 against 20
    exact = mcnemar_exact(a, b)
    assert 0.03 < exact < 0.1
    assert paired_permutation(a, b, draws=20_000) == pytest.approx(exact, abs=0.01)


def test_no_p_value_is_zero_and_no_difference_is_one():
    a, b = np.ones(400), np.zeros(400)
    assert paired_permutation(a, b, draws=99) == 1 / 100
    assert paired_permutation(a, a) == 1.0
    assert mcnemar_exact(a, a) == 1.0


def test_false_alarms_are_as_rare_as_said():
    rng = np.random.default_rng(0)
    ps = [paired_permutation(rng.normal(size=40), rng.normal(size=40), draws=199, seed=trial) for trial in range(400)]
    assert 0.02 < np.mean(np.array(ps) <= 0.05) < 0.085
    assert 0.43 < np.mean(np.array(ps) <= 0.5) < 0.57


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 1), (1, 8), (10, 25), (7, 7), (0, 30), (400, 520)])
def test_mcnemar_is_a_binomial_tail(only_a, only_b):
    a = torch.tensor([True] * only_a + [False] * only_b + [True] * 5 + [False] * 3)
    b = torch.tensor([False] * only_a + [True] * only_b + [True] * 5 + [False] * 3)
    n, k = only_a + only_b, min(only_a, only_b)
    expected = min(1.0, 2 * sum(math.comb(n, i) for i in range(k + 1)) / 2**n)
    assert mcnemar_exact(a, b) == expected
    assert mcnemar_exact(b, a) == expected


def test_mcnemar_by_hand():
    assert mcnemar_exact([1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]) == 2 / 32
    assert mcnemar_exact([1, 1, 1, 1, 0], [0, 0, 0, 0, 1]) == 2 * (1 + 5) / 32


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])  # Holm 1979's procedure
    assert holm([0.9, 0.5]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: paired_permutation([1.0], [1.0, 2.0]), r"shapes \(1,\) and \(2,\)"),
        (lambda: paired_permutation([[1.0]], [[2.0]]), "two scores of each sample"),
        (lambda: paired_permutation([float("nan")], [1.0]), "finite"),
        (lambda: paired_permutation([1.0], [2.0], draws=0), "at least one draw"),
        (lambda: mcnemar_exact([0.5], [1.0]), "must be 0 or 1"),
        (lambda: holm([0.1, 1.5]), r"lie in \[0, 1\]"),
    ],
)
def test_scores_that_cannot_be_compared_are_refused(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def test_the_bootstrap_interval_is_the_normal_one_where_that_holds():
    a, b = (np.random.default_rng(s).random(2000) < p for s, p in ((1, 0.8), (2, 0.7)))
    low, high = paired_bootstrap(a, b)
    half = 1.96 * np.std(a.astype(float) - b) / math.sqrt(2000)
    assert (low, high) == pytest.approx(
        ((a.astype(float) - b).mean() - half, (a.astype(float) - b).mean() + half), abs=0.004
    )
    assert paired_bootstrap(a, b) == (low, high) != paired_bootstrap(a, b, seed=1)
    with pytest.raises(ValueError, match="one draw and one sample"):
        paired_bootstrap([], [])
