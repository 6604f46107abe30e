import pickle
import tracemalloc

import numpy as np
import pytest

from benchmarks.loading import data_scale
from fastvid.data import EpochSampler, LoaderState
from fastvid.data.loader.mixture import FixedShares, MixtureSampler
from fastvid.data.source import Sample
from fastvid.data.sources.subset import split_by_key, subset


def test_ten_million_samples_start_in_two_seconds_and_200_mb():
    small, large = data_scale.measure(10**5), data_scale.measure(10**7)
    assert large["start_s"] < 2
    assert large["peak_mb"] < 200
    assert large["order_us"] < 5 * small["order_us"]
    assert large["sample_us"] < 5 * small["sample_us"]


# The first batch, one in the middle, and the one that goes on into the next epoch.
@pytest.mark.parametrize("step", [0, 6_000, 10**8 // 8192])
def test_1024_processes_share_a_hundred_million_samples(step):
    sizes, batch, world = [10**3] * 10**5, 8192, 1024
    begin = LoaderState().advance(step * batch, 10**8)  # all that a resume knows
    alone = EpochSampler(sizes, batch=batch, seed=7, start=begin)
    shown = [alone.sample(alone.position(turn)) for turn in range(batch)]
    assert len(set(shown)) == batch
    for rank in (0, 1, 700, 1023):
        tracemalloc.start()
        sampler = EpochSampler(sizes, batch=batch, seed=7, rank=rank, world=world, start=begin)
        own = [sampler.sample(sampler.position(turn)) for turn in range(sampler.local)]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert own == shown[rank::world]
        assert peak < 30e6
        assert len(pickle.dumps(sampler)) < 1e6  # it is sent to the decoding process
        assert sampler.after(begin) == alone.after(begin)


def test_a_mixture_finds_its_place_again_after_five_epochs_of_a_hundred_million_samples():
    parts, shares, batch, world = [[10**3] * (5 * 10**4)] * 2, FixedShares((0.3, 0.7)), 8192, 1024
    begin = LoaderState().advance(60_000 * batch, 10**8)
    alone = MixtureSampler(parts, shares, batch=batch, seed=1, start=begin)
    sampler = MixtureSampler(parts, shares, batch=batch, seed=1, rank=700, world=world, start=begin)
    own = [sampler.sample(sampler.position(turn)) for turn in range(sampler.local)]
    assert own == [alone.sample(alone.position(turn)) for turn in range(700, batch, world)]
    assert sampler.coverage(begin).clips == 60_000 * batch


class Labelled:
    """A source of samples made when they are asked for."""

    description = "samples"

    def __init__(self, sizes):
        self.shard_sizes, self.samples = sizes, self
        self._count = sum(sizes)

    def __len__(self):
        return self._count

    def __getitem__(self, index):
        if index >= self._count:
            raise IndexError
        return Sample(f"{index:03d}", "x")

    def size(self, index):
        return index

    def read(self, index):
        return bytes([index])


def test_rows_of_a_subset():
    sizes = [7, 0, 13, 1, 30]
    wanted = np.arange(51) % 3 == 1
    wanted[7:20] = False  # nothing of the third
    some = subset(Labelled(sizes), wanted)
    assert some.shard_sizes == [2, 0, 0, 0, 10]
    rows = np.flatnonzero(wanted).tolist()
    assert [some.size(i) for i in range(12)] == rows
    assert [some.read(i)[0] for i in range(-12, 0)] == rows
    assert [s.key for s in some.samples] == [f"{row:03d}" for row in rows]
    assert [s.key for s in some.samples[3:5]] == [f"{row:03d}" for row in rows[3:5]]


def test_a_subset_takes_a_byte_a_sample():
    wanted = np.ones(10**6, dtype=bool)
    some = subset(Labelled([10**3] * 10**3), wanted)
    assert some.samples[123_456].key == "123456"
    kept = [value for value in vars(some._rows).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in kept) < 1.1 * 10**6


def test_all_on_one_side():
    train, test = split_by_key(Labelled([5]), 0.0)
    assert len(train.samples) == 5
    assert test is None
    train, test = split_by_key(Labelled([5]), 1.0)
    assert train is None
    assert len(test.samples) == 5
