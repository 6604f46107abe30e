"""Options of the probes."""

from dataclasses import dataclass
from typing import Literal

from fastvid.ranges import Count, Positive

Probe = Literal["knn", "linear", "attentive", "attentive-grid", "arrow", "order", "static", "reversed", "retrieval"]
"""The probes of features; :mod:`fastvid.eval.suite` says what each is."""

EvalProbe = Probe | Literal["intphys"]
"""The probes of ``python -m fastvid.eval``."""

PROBES: tuple[Probe, ...] = ("knn", "linear", "attentive")
"""The probes that are run by default."""


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
    """Training of the attentive probes."""
    time_videos: Count = 2048
    """Most videos, to fit and to test on, that the probes of time show otherwise."""
    token_gb: Positive = 2.0
    """Memory for the tokens that attentive probes read, of all encoders together, in 10^9 bytes; what does not fit is
    left out."""
