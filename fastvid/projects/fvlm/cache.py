"""The language model's keys and values of what it has read, kept so that a token costs no more the more there are."""

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicLayer

_ROOM = 64  # tokens that the first memory has room for


class GrowingLayer(DynamicLayer):  # type: ignore[misc]
    """Keys and values [R, heads, n, d] of one layer.

    Where no gradient is wanted they lie in memory that doubles when it is full: a token is written behind the others,
    which are not copied. With a gradient they are joined, as PyTorch needs to keep them; the first are taken as they
    are.
    """

    def __init__(self, **options: Any):
        super().__init__(**options)
        self._memory: tuple[torch.Tensor, torch.Tensor] | None = None

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values [R, heads, m, d] and return all."""
        past = self.get_seq_length()
        if past and torch.is_grad_enabled():
            self._memory = None
            super().update(key_states, value_states, *args, **kwargs)
        elif past:
            self.keys, self.values = self._written(key_states, value_states, past)
        else:
            self.lazy_initialization(key_states, value_states)
            self.keys, self.values = key_states, value_states
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def fork(self) -> "GrowingLayer":
        """Return a layer with the same keys and values, which goes on by itself: memory of its own begins where it
        is written to."""
        other = GrowingLayer()
        if self.get_seq_length():
            other.lazy_initialization(self.keys, self.values)
            other.keys, other.values = self.keys, self.values
        return other

    def _written(self, key: torch.Tensor, value: torch.Tensor, past: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Write keys and values behind the ``past`` ones."""
        assert self.keys is not None
        assert self.values is not None
        total = past + key.shape[-2]
        if self._memory is None or self._memory[0].shape[-2] < total:
            room = max(_ROOM, 2 * total)
            self._memory = tuple(_room(x, room) for x in (self.keys, self.values))  # type: ignore[assignment]
        assert self._memory is not None
        for memory, new in zip(self._memory, (key, value), strict=True):
            memory[..., past:total, :] = new
        keys, values = (memory[..., :total, :] for memory in self._memory)
        return keys, values


def _room(x: torch.Tensor, room: int) -> torch.Tensor:
    """Return memory [R, heads, room, d] that begins with x [R, heads, n, d]."""
    memory = x.new_empty(*x.shape[:-2], room, x.shape[-1])
    memory[..., : x.shape[-2], :] = x
    return memory


def new_cache() -> Cache:
    """Return an empty cache."""
    return Cache(layer_class_to_replicate=GrowingLayer)


def fork(cache: Cache) -> Cache:
    """Return a cache that holds the same, and goes on by itself."""
    other = new_cache()
    other.layers = [layer.fork() for layer in cache.layers]
    return other
