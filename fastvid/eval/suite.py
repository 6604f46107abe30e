"""All probes on several encoders, side by side."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from fastvid.data import Quarantine, Source
from fastvid.eval.attentive import attentive_probe
from fastvid.eval.features import Features, extract
from fastvid.eval.knn import knn_probe
from fastvid.eval.linear import linear_probe
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)

PROBES = ("knn", "linear", "attentive")


@dataclass(frozen=True)
class Contestant:
    """An encoder under test.

    Attributes:
        name: in tables.
        encoder: uint8 [B, T, H, W, 3] -> [B, N, D].
        grid: its (T', H', W').
        still: it sees the middle frame only, repeated.
    """

    name: str
    encoder: nn.Module
    grid: tuple[int, int, int]
    still: bool = False


def run_probes(
    contestants: list[Contestant],
    train: Source,
    test: Source,
    classes: list[str],
    views: ViewSpec,
    *,
    device: torch.device,
    most_train: int = 2048,
    most_test: int = 2048,
    batch: int = 64,
    neighbours: int = 20,
    attentive_epochs: int = 20,
    quarantine: Quarantine | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict:
    """Fits and tests every probe on every encoder.

    Args:
        contestants: the encoders.
        train: labelled videos to fit on; unlabelled ones are passed over.
        test: labelled videos to test on.
        classes: label names.
        views: what a clip is; the deterministic centre view is used.
        device: where the encoders are.
        most_train: most videos to fit on, the first ones.
        most_test: most videos to test on, the first ones.
        batch: clips per forward pass.
        neighbours: for kNN.
        attentive_epochs: training of the attentive probe.
        quarantine: where videos that do not decode go.
        check: called often; may raise to stop.

    Returns:
        ``{"classes", "train", "test", "chance", "rows": [{"encoder", "knn", "linear", "attentive"}]}``, JSON-ready;
        each probe with ``accuracy``, ``low`` and ``high`` (95 % Wilson), ``correct``, ``total``.
    """
    rows_train = _labelled(train, most_train)
    rows_test = _labelled(test, most_test)
    table = []
    sizes = (0, 0)
    for who in contestants:
        who.encoder.eval()

        def features(source: Source, indices: list[int], who: Contestant = who) -> Features:
            return extract(
                who.encoder, who.grid, source, indices, views, classes,
                device=device, batch=batch, quarantine=quarantine, still=who.still, check=check,
            )  # fmt: skip

        a, b = features(train, rows_train), features(test, rows_test)
        sizes = (len(a.labels), len(b.labels))
        results = {"knn": knn_probe(a, b, neighbours=neighbours)}
        check()
        results["linear"] = linear_probe(a, b)
        check()
        results["attentive"] = attentive_probe(a, b, epochs=attentive_epochs, device=device)
        check()
        log.info("probe %-22s %s", who.name, "  ".join(f"{name} {results[name]}" for name in PROBES))
        table.append({"encoder": who.name, **{name: results[name].as_dict() for name in PROBES}})
    return {"classes": classes, "train": sizes[0], "test": sizes[1], "chance": 1 / len(classes), "rows": table}


def _labelled(source: Source, most: int) -> list[int]:
    return [i for i, sample in enumerate(source.samples) if sample.label is not None][:most]
