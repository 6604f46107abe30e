"""The order of an epoch, as a pure function of (seed, epoch, shard sizes)."""

from collections.abc import Sequence

import numpy as np

from fastvid.random import philox4x32, split64

_STREAM_SHARDS, _STREAM_SAMPLES = 9, 10


def epoch_order(seed: int, epoch: int, shard_sizes: Sequence[int], window: int = 16) -> np.ndarray:
    """A permutation of all samples in which nearby positions touch few shards.

    The shards are permuted, dealt into windows of ``window`` shards, and the samples of each window are permuted
    together. Neither ranks nor workers enter: each takes its share of the one global order.

    Args:
        seed: the run's seed, in [0, 2**63).
        epoch: in [0, 2**32).
        shard_sizes: samples per shard, in the source's order.
        window: shards that are mixed; with at least as many as there are, the shuffle is complete.

    Returns:
        int64 [sum(shard_sizes)]: sample indices.
    """
    sizes = np.asarray(shard_sizes, dtype=np.int64)
    starts = np.cumsum(sizes) - sizes
    shards = np.argsort(_keys(seed, epoch, _STREAM_SHARDS, len(sizes)), kind="stable")
    sample_keys = _keys(seed, epoch, _STREAM_SAMPLES, int(sizes.sum()))
    parts = []
    for first in range(0, len(shards), window):
        members = np.concatenate([np.arange(starts[s], starts[s] + sizes[s]) for s in shards[first : first + window]])
        parts.append(members[np.argsort(sample_keys[members], kind="stable")])
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _keys(seed: int, epoch: int, stream: int, count: int) -> np.ndarray:
    # The index takes a counter word of its own: there may be more samples than the 2**28 a shared word could hold.
    index = np.arange(count, dtype=np.int64)
    low, high, _, _ = philox4x32((stream << 28, epoch, *split64(index)), split64(seed))
    return (np.asarray(high) << 31) | (np.asarray(low) >> 1)
