"""All probes on several encoders, side by side."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch

from fastvid.data import EvaluationDraws, Quarantine, Source, eval_batches
from fastvid.eval.attentive import attentive_probe
from fastvid.eval.features import Features, ProbeEntry, extract
from fastvid.eval.knn import knn_probe
from fastvid.eval.linear import linear_probe
from fastvid.eval.options import ProbeOptions
from fastvid.random import sample_id
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)

PROBES = ("knn", "linear", "attentive")


@dataclass(frozen=True)
class ProbeData:
    """Labelled videos, and the clips that are cut from them.

    Attributes:
        train: videos to fit on; unlabelled ones are passed over.
        test: videos to test on.
        classes: label names.
        views: what a clip is; the deterministic centre view is used.
    """

    train: Source
    test: Source
    classes: list[str]
    views: ViewSpec


def run_probes(
    entries: list[ProbeEntry],
    data: ProbeData,
    options: ProbeOptions,
    *,
    device: torch.device,
    quarantine: Quarantine | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict:
    """Fit and test every probe on every encoder.

    Args:
        entries: the encoders.
        data: the videos.
        options: how many of the videos, chosen by their ids, and how probes are fitted.
        device: where the encoders are.
        quarantine: where videos that do not decode go.
        check: called often; may raise to stop.

    Returns:
        ``{"classes", "train", "test", "chance", "rows": [{"encoder", "knn", "linear", "attentive"}]}``, JSON-ready;
        each probe with ``accuracy``, ``low`` and ``high`` (95 % Wilson), ``correct``, ``total``.
    """

    classes = data.classes

    def features(source: Source, most: int) -> list[Features]:
        rows = [i for i, sample in enumerate(source.samples) if sample.label is not None]
        # Sources list class after class: in the order of their ids, any number of the first ones is a fair sample.
        rows = sorted(rows, key=lambda i: sample_id(source.samples[i].key))[:most]
        batches = eval_batches(
            source, rows, EvaluationDraws(data.views), batch=options.batch, quarantine=quarantine or Quarantine(),
            device=device,
        )  # fmt: skip
        return extract(entries, batches, classes, device=device, check=check)

    fitted, tested = features(data.train, options.train), features(data.test, options.test)
    _name_lost_classes(classes, fitted[0], "to fit on")
    _name_lost_classes(classes, tested[0], "to test on")
    table = []
    for who, a, b in zip(entries, fitted, tested, strict=True):
        results = {"knn": knn_probe(a, b, neighbours=options.neighbours), "linear": linear_probe(a, b)}
        check()
        results["attentive"] = attentive_probe(a, b, epochs=options.attentive_epochs, device=device, check=check)
        check()
        log.info("probe %-22s %s", who.name, "  ".join(f"{name} {results[name]}" for name in PROBES))
        table.append({"encoder": who.name, **{name: results[name].as_dict() for name in PROBES}})
    sizes = {"train": len(fitted[0].labels), "test": len(tested[0].labels)}
    return {"classes": classes, **sizes, "chance": 1 / len(classes), "rows": table}


def _name_lost_classes(classes: list[str], found: Features, purpose: str) -> None:
    """Log the classes that no video belongs to: probes cannot learn them, or are not tested on them."""
    there = set(found.labels.tolist())
    lost = [name for i, name in enumerate(classes) if i not in there]
    if lost:
        names = ", ".join(lost)
        log.warning("%d of %d classes have no video %s that can be used: %s", len(lost), len(classes), purpose, names)
