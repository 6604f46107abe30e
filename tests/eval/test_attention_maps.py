"""Where queries look: entropy, hits and diversity, against values worked out by hand."""

import math

import numpy as np
import pytest

from fastvid.eval.attention_maps import AttentionEntropy, Hits, diversity

LN4 = math.log(4)


def entropies(*by_head, questions=2, frames=3):
    """The same entropies in every look: [layers of heads] -> [L, n, T, h]."""
    values = np.asarray(by_head, dtype=float)
    return np.broadcast_to(values[:, None, None, :], (len(values), questions, frames, values.shape[1])).copy()


def test_entropy_is_averaged_over_looks_that_there_were():
    values = entropies([0.2, 0.6])
    values[0, 1, 2] = 99  # of a frame that is padding
    frames = np.array([[True, True, False], [True, False, False]])
    values[0, 0, 1] = [1.0, 1.2]
    found = AttentionEntropy.from_looks(values, frames, 4)
    assert found.by_head == pytest.approx(np.array([[(0.2 + 0.2 + 1.0) / 3, (0.6 + 0.6 + 1.2) / 3]]))
    assert found.values[0, 1] == pytest.approx([1.0, 1.2])
    assert np.isnan(found.values[0, 2]).all()
    plain = found.as_dict()
    assert plain["by_frame"][:2] == pytest.approx([0.4, 1.1])
    assert plain["by_frame"][2] is None
    assert plain["by_layer_frame_and_head"][0][2] == [None, None]


def test_a_layer_that_is_uniform_in_all_heads_rings_and_one_resting_head_does_not():
    everywhere = np.ones((2, 3), dtype=bool)
    rests = AttentionEntropy.from_looks(entropies([LN4, 0.1], [0.2, 0.3]), everywhere, 4)
    assert rests.uniform_heads == [(0, 0)]
    assert rests.alarm is None
    dead = AttentionEntropy.from_looks(entropies([0.1, 0.2], [LN4, 0.995 * LN4]), everywhere, 4)
    assert dead.uniform_heads == [(1, 0), (1, 1)]
    assert "all heads of layer 2 attend uniformly" in dead.alarm
    all_dead = AttentionEntropy.from_looks(entropies([LN4]), everywhere, 4)
    assert "every layer" in all_dead.alarm
    assert AttentionEntropy.from_looks(entropies([0.98 * LN4]), everywhere, 4).alarm is None
    assert AttentionEntropy.from_looks(entropies([0.0]), everywhere, 1).alarm is None  # there is one token to look at


@pytest.mark.parametrize(
    ("values", "frames", "said"),
    [
        (entropies([2.0]), np.ones((2, 3), bool), "lie in"),
        (entropies([0.1]), np.zeros((2, 3), bool), "no look"),
        (entropies([0.1]), np.ones((2, 2), bool), "need frames"),
    ],
)
def test_entropies_that_cannot_be_are_refused(values, frames, said):
    with pytest.raises(ValueError, match=said):
        AttentionEntropy.from_looks(values, frames, 4)


def test_a_hit_is_where_the_mean_over_heads_peaks():
    weights = np.zeros((2, 2, 2, 3))
    weights[0, 0] = [[0.6, 0.4, 0.0], [0.0, 0.7, 0.3]]  # mean .3 .55 .15
    weights[0, 1] = [[1, 0, 0], [1, 0, 0]]
    weights[1, 0] = [[0, 0, 1], [0, 1, 0]]
    hits = Hits.from_weights(weights, [[1, 2], [-1, -1]])
    assert hits.hit.tolist() == [True, False]
    assert hits.mass == pytest.approx([0.55, 0.0])
    assert hits.as_dict() == {
        "hit_rate": 0.5, "mass": pytest.approx(0.275), "by_frame": [1.0, 0.0], "looks": 2, "chance": 1 / 3
    }  # fmt: skip
    twice = Hits.joined([hits, hits])
    assert twice.question.tolist() == [0, 0, 2, 2]
    assert twice.of([False, False, True, False]).hit.tolist() == [True, False]
    nothing = hits.of([False, True]).as_dict()
    assert nothing["hit_rate"] is None
    assert nothing["looks"] == 0


@pytest.mark.parametrize(("target", "said"), [([[0, 3]], "one of 3 tokens"), ([[0]], "needs targets")])
def test_targets_that_cannot_be_are_refused(target, said):
    with pytest.raises(ValueError, match=said):
        Hits.from_weights(np.ones((1, 2, 1, 3)) / 3, target)


def test_diversity_is_the_mean_cosine_distance_of_pairs():
    queries = np.array([[1.0, 0], [5.0, 0], [0, 2.0], [-1.0, 0]])
    assert diversity(queries, [[0, 1]]) == pytest.approx(0)
    assert diversity(queries, [[0, 2]]) == pytest.approx(1)
    assert diversity(queries, [[0, 3]]) == pytest.approx(2)
    assert diversity(queries, [[0, 1, 2]]) == pytest.approx((0 + 1 + 1) / 3)
    assert diversity(queries, [[0, 1], [0, 3], [2]]) == pytest.approx(1)
    assert diversity(queries, [[0], []]) is None
