"""Which samples a process loads, and in which order."""

import pickle

import pytest

from fastvid.data import EpochOrder, EpochSampler, LoaderState

SIZES = [3, 0, 5, 4]


def taken(sampler, turns):
    return [sampler.index(sampler.position(turn)) for turn in range(turns)]


def test_turns_are_the_epochs_orders_end_to_end():
    sampler = EpochSampler(SIZES, batch=5, seed=3, window=2)
    assert len(sampler) == sampler.samples == 12
    orders = [index for epoch in range(3) for index in EpochOrder(3, epoch, SIZES, 2)[:]]
    assert taken(sampler, 36) == orders
    resumed = EpochSampler(SIZES, batch=5, seed=3, window=2, start=LoaderState(1, 8))
    assert taken(resumed, 16) == orders[20:]


def test_processes_deal_the_global_batches_out():
    whole = taken(EpochSampler(SIZES, batch=4, seed=0), 24)
    ranks = [taken(EpochSampler(SIZES, batch=4, seed=0, rank=rank, world=2), 12) for rank in range(2)]
    assert [index for pair in zip(*ranks, strict=True) for index in pair] == whole


def test_a_copy_in_another_process_gives_the_same():
    sampler = EpochSampler(SIZES, batch=4, seed=0, echo=2, window=1)
    before = taken(sampler, 30)
    assert taken(pickle.loads(pickle.dumps(sampler)), 30) == before


def test_windows_count_on_from_epoch_to_epoch_and_name_their_shards():
    sampler = EpochSampler(SIZES, batch=4, seed=0, window=2, echo=3)
    positions = [sampler.position(turn) for turn in range(2 * len(sampler))]
    numbers = [sampler.window_of(position) for position in positions]
    assert numbers == sorted(numbers)
    assert sorted(set(numbers)) == [0, 1, 2, 3]
    for position, number in zip(positions, numbers, strict=True):
        current, upcoming = sampler.shards_at(position)
        shard = 0 if (index := sampler.index(position)) < 3 else 2 if index < 8 else 3
        assert shard in current
        following = positions.index(next((p for p, n in zip(positions, numbers, strict=True) if n > number), position))
        assert number == 3 or sampler.shards_at(positions[following])[0] == upcoming
    begin = LoaderState(0, len(sampler) - 2)
    assert sampler.windows_of_batch(begin) == (1, 2)  # a batch over the epoch's end


def test_what_cannot_be_is_refused():
    for options in ({"batch": 3, "world": 2}, {"batch": 0}, {"rank": 2, "world": 2}, {"window": 0}, {"echo": 0}):
        with pytest.raises(ValueError, match=r"\d"):
            EpochSampler(SIZES, **{"batch": 4, "seed": 0, **options})
