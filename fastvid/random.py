"""Counter-based randomness: every random number is a pure function of (seed, sample id, draw).

There is no generator state to save, to fork into workers or to keep apart between ranks: the same sample gets the same
mask and the same crop whatever the batch size, the world size or the number of restarts.

:func:`philox4x32` is written with operators only, so one definition serves Python integers, NumPy arrays and torch
tensors (both of dtype int64). ``csrc/philox.h`` is the same function for the kernels.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

from fastvid.names import spelled

_LOW32 = 0xFFFFFFFF


def philox4x32(counter: Sequence[Any], key: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Compute Philox4x32-10: four random 32-bit words for a 128-bit counter and a 64-bit key.

    Args:
        counter: four 32-bit words (int, or int64 arrays that broadcast together), least significant first.
        key: two 32-bit words, least significant first.

    Returns:
        Four words in [0, 2**32), of the broadcast shape.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        # 32 x 32 -> 64 bit products may wrap to a negative int64; the bits, all that matter, stay right.
        p0 = 0xD2511F53 * c0
        p1 = 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (
            ((p1 >> 32) & _LOW32) ^ c1 ^ k0,
            p1 & _LOW32,
            ((p0 >> 32) & _LOW32) ^ c3 ^ k1,
            p0 & _LOW32,
        )
        k0 = (k0 + 0x9E3779B9) & _LOW32
        k1 = (k1 + 0xBB67AE85) & _LOW32
    return c0, c1, c2, c3


def split64(value: Any) -> tuple[Any, Any]:
    """Return the low and the high 32-bit word of a 64-bit integer (int or int64 array)."""
    return value & _LOW32, (value >> 32) & _LOW32


def bounded(word: Any, n: Any) -> Any:
    """Map a uniform 32-bit word to an integer in [0, n), for n < 2**31; the bias is at most n / 2**32."""
    return (word * n) >> 32


def sample_id(key: str) -> int:
    """Return a stable 63-bit id for a sample's key: the same on every machine, in every process and version.

    Args:
        key: the sample's name, such as its path relative to the data set.

    Returns:
        An integer in [0, 2**63): the first 8 bytes of BLAKE2b of the UTF-8 key, little-endian, top bit cleared.
        Bytes of a file name that are no UTF-8 count as :func:`fastvid.names.spelled` spells them.
        Among 10 million keys the chance that any two collide is about 5e-6.

    Example:
        >>> sample_id("train/000001.mp4")
        8656661574331882428
    """
    digest = hashlib.blake2b(spelled(key).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") & (2**63 - 1)


class SampleRandom:
    """The random numbers of one sample, in order: a small, seedable stream for Python code such as crop drawing.

    Args:
        key: the sample's key, or its 63-bit id.
        seed: the run's seed, in [0, 2**63).
        draw: number of the draw of this sample (its epoch, say), in [0, 2**32).
        stream: keeps independent uses of one (seed, sample, draw) apart, in [0, 16).
    """

    def __init__(self, key: str | int, seed: int, draw: int, stream: int = 15):
        ident = sample_id(key) if isinstance(key, str) else key
        self._counter = (stream << 28, draw, *split64(ident))
        self._key = split64(seed)
        self._words: list[int] = []

    def word(self) -> int:
        """Draw the next uniform 32-bit word."""
        if not self._words:
            c0, *rest = self._counter
            self._words = list(philox4x32(self._counter, self._key))[::-1]
            self._counter = (c0 + 1, *rest)
        return self._words.pop()

    def below(self, n: int) -> int:
        """Draw a uniform integer in [0, n)."""
        return bounded(self.word(), n)

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """Draw a uniform float in [low, high) with 32 random bits."""
        return low + (high - low) * (self.word() / 2**32)
