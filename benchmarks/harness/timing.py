"""Timers: variants take turns in one process, medians are compared, passes are told apart."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

FORWARD, BACKWARD, BOTH = "forward", "backward", "forward + backward"
CALL = "call"  # of a variant that is one function, whatever it does
WALL_CLOCK = "wall clock"
_WARM_S = 1.0  # after which no further turn warms up


@dataclass(frozen=True)
class Variant:
    """One way to compute the thing, with its passes apart.

    Args:
        forward: computes the output (a tensor, where there is a backward pass), and what the backward pass needs.
        inputs: leaves that the backward pass gives gradients of; without any there is no backward pass.
        upstream: gradient of the output; None is 1, of a scalar.
        capture: False for code that no CUDA graph can hold, such as a loop in Python that looks at values.
        calls: calls in one CUDA graph, for what is over in microseconds; later ones find their inputs in the cache.
    """

    forward: Callable[[], Any]
    inputs: Sequence[torch.Tensor] = ()
    upstream: torch.Tensor | None = None
    capture: bool = True
    calls: int = 1

    @property
    def parts(self) -> tuple[str, ...]:
        return (FORWARD, BACKWARD, BOTH) if self.inputs else (FORWARD,)

    def backward(self, output: torch.Tensor, keep: bool = False) -> tuple[torch.Tensor, ...]:
        """Compute the gradients of the inputs; ``keep`` leaves what the forward pass stored, for another call."""
        return torch.autograd.grad(output, list(self.inputs), self.upstream, retain_graph=keep)

    def both(self) -> tuple[torch.Tensor, ...]:
        return self.backward(self.forward())

    def results(self) -> list[torch.Tensor]:
        """Return the output, and the gradients if there are any."""
        output = self.forward()
        return [output.detach(), *(self.backward(output) if self.inputs else ())]


@dataclass(frozen=True)
class Call(Variant):
    """A variant given as a plain function: one part, timed whole."""

    @property
    def parts(self) -> tuple[str, ...]:
        return (CALL,)


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one part of one variant; ``how`` they were measured: "wall clock", "graph", "eager" or as a
    "difference" of the two passes together and the forward pass, with the reason."""

    median: float
    p20: float
    p80: float
    how: str
    fastest: float | None = None  # of a wall clock

    @property
    def compared(self) -> float:
        """Return the time that ratios use: a wall clock's fastest round, because other programs only add time; else
        the median.
        """
        return self.median if self.fastest is None else self.fastest


def summary(milliseconds: Sequence[float], how: str) -> Timed:
    """Return the median and the 20th and 80th percentiles (nearest rank); of a wall clock also the fastest."""
    ordered = sorted(milliseconds)
    last = len(ordered) - 1
    fastest = ordered[0] if how == WALL_CLOCK else None
    return Timed(statistics.median(ordered), ordered[round(0.2 * last)], ordered[round(0.8 * last)], how, fastest)


def disagreement(one: float, other: float) -> float:
    """Return the difference of two timers, as a share of the longer time."""
    return abs(one - other) / max(one, other)


class CpuTimer:
    """Wall clock. The passes of one step are timed in place, so that each finds the caches as in training.

    Args:
        variants: what is timed, by name.
        warm: whether all have been run before.
    """

    def __init__(self, variants: Mapping[str, Variant], *, warm: bool = False):
        self.variants = variants
        self.warm = warm
        self.found: dict[str, dict[str, list[float]]] = {}  # part -> variant -> milliseconds, of all calls of times

    def times(self, rounds: int) -> dict[str, dict[str, Timed]]:
        """Return milliseconds by part and variant, over these rounds and those of earlier calls.

        The variants take turns, so that drift hits all alike, and every other round in reverse, so that none always
        finds the caches as the same other variant leaves them.
        """
        self._warm_up()
        for turn in range(rounds):
            order = list(self.variants.items())
            for name, variant in reversed(order) if turn % 2 else order:
                for part, seconds in self._step(variant).items():
                    self.found.setdefault(part, {}).setdefault(name, []).append(1e3 * seconds)
        return {p: {s: summary(ms, WALL_CLOCK) for s, ms in variants.items()} for p, variants in self.found.items()}

    def _warm_up(self) -> None:
        """Run each variant up to three times, those that take long once."""
        started = time.perf_counter()
        for turn in range(0 if self.warm else 3):
            if turn == 0 or time.perf_counter() - started < _WARM_S:
                for variant in self.variants.values():
                    self._step(variant)
        self.warm = True

    @staticmethod
    def _step(variant: Variant) -> dict[str, float]:
        started = time.perf_counter()
        output = variant.forward()
        if not variant.inputs:
            del output  # giving memory back is part of the cost
            return {variant.parts[0]: time.perf_counter() - started}
        between = time.perf_counter()
        gradients = variant.backward(output)
        del output, gradients
        ended = time.perf_counter()
        return {FORWARD: between - started, BACKWARD: ended - between, BOTH: ended - started}

    def facts(self) -> dict[str, dict[str, dict]]:
        """Return the facts about a part besides its time: none on a CPU."""
        return {}

    def copy_bandwidth(self) -> float:
        """Measure the bytes per second (read plus written) of a large copy between warm buffers."""
        source = torch.ones(64 << 20, dtype=torch.uint8)
        target = torch.empty_like(source)
        copy = CpuTimer({"copy": Call(lambda: target.copy_(source))}).times(21)[CALL]["copy"]
        return 2 * source.nbytes / (1e-3 * copy.median)
