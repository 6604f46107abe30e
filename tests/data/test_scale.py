import numpy as np

from benchmarks.loading import data_scale
from fastvid.data.source import Sample
from fastvid.data.sources.subset import split_by_key, subset


def test_ten_million_samples_start_in_two_seconds_and_200_mb():
    small, large = data_scale.measure(10**5), data_scale.measure(10**7)
    assert large["start_s"] < 2
    assert large["peak_mb"] < 200
    assert large["order_us"] < 5 * small["order_us"]
    assert large["sample_us"] < 5 * small["sample_us"]


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
