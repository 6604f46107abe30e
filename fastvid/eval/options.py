"""Options of the probes."""

from dataclasses import dataclass

from fastvid.ranges import Count


@dataclass(frozen=True, kw_only=True)
class ProbeOptions:
    """Options of fitting and testing probes."""

    train: Count = 2048
    """Most labelled videos to fit probes on."""
    test: Count = 2048
    """Most labelled videos to test probes on."""
    batch: Count = 64
    """Clips per forward pass."""
    neighbours: Count = 20
    """For kNN."""
    attentive_epochs: Count = 20
    """Training of the attentive probe."""
