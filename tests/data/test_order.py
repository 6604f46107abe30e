import numpy as np
import pytest

from fastvid.data import EpochOrder


def epoch_order(seed, epoch, sizes, window=16):
    return EpochOrder(seed, epoch, sizes, window).whole()


@pytest.mark.parametrize("sizes", [[10], [3, 0, 7], [5] * 40, [1]])
@pytest.mark.parametrize("window", [1, 4, 100])
def test_every_sample_once(sizes, window):
    order = epoch_order(0, 0, sizes, window)
    assert sorted(order) == list(range(sum(sizes)))


def test_a_function_of_seed_epoch_and_sizes():
    sizes = [20, 30, 25]
    assert np.array_equal(epoch_order(1, 2, sizes), epoch_order(1, 2, sizes))
    assert not np.array_equal(epoch_order(1, 2, sizes), epoch_order(1, 3, sizes))
    assert not np.array_equal(epoch_order(1, 2, sizes), epoch_order(2, 2, sizes))
    # Written down once: a changed order would break every resume.
    assert epoch_order(0, 0, [4, 4, 4], 2).tolist() == [7, 9, 10, 5, 8, 11, 6, 4, 1, 0, 3, 2]


def test_a_window_touches_few_shards_and_mixes_them():
    sizes = [50] * 20
    order = epoch_order(0, 0, sizes, window=4)
    for first in range(0, 1000, 200):
        shards = set(order[first : first + 200] // 50)
        assert len(shards) == 4
        assert len(set(order[first : first + 20] // 50)) > 1
    starts = {int(epoch_order(0, epoch, sizes, 4)[0]) // 50 for epoch in range(40)}
    assert len(starts) > 10


def test_the_whole_order_is_uniform():
    where = np.array([np.argmax(epoch_order(0, epoch, [8], 1) == 3) for epoch in range(4000)])
    assert np.abs(np.bincount(where, minlength=8) / 4000 - 1 / 8).max() < 0.02


def test_an_echo_goes_through_each_window_again_in_another_order():
    sizes, window, echo = [5, 3, 4, 6, 2], 2, 3
    once = EpochOrder(7, 1, sizes, window)
    order = EpochOrder(7, 1, sizes, window, echo)
    assert len(order) == echo * len(once)
    assert order.windows == once.windows
    assert order[:] == order.whole().tolist()
    begin = 0
    for number in range(once.windows):
        assert order.shards_of(number) == once.shards_of(number)
        members = [i for position, i in enumerate(once[:]) if once.window_of(position) == number]
        rounds = [order[begin + r * len(members) : begin + (r + 1) * len(members)] for r in range(echo)]
        assert rounds[0] == members  # the first time is what it is without an echo
        assert all(sorted(r) == sorted(members) for r in rounds)
        assert rounds[0] != rounds[1] != rounds[2] != rounds[0]
        assert {order.window_of(p) for p in range(begin, begin + echo * len(members))} == {number}
        begin += echo * len(members)
    assert begin == len(order)
