"""All probes on several encoders, side by side.

knn             k nearest neighbours
linear          logistic regression on features averaged over space
attentive       one learnt query over all tokens
attentive-grid  V-JEPA 2's attentive probe over its grid of learning rates and weight decays
arrow           does the clip run forwards or backwards? Needs no labels
order           in which order are the clip's three segments shown? Needs no labels
static          the linear probe, tested on clips that stand still: what it reads beside motion
reversed        the linear probe, tested on clips that run backwards: what it reads beside the direction of time
retrieval       are the nearest neighbours of the same label, or id, or is it their caption?
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from fastvid.command import UserError
from fastvid.data import EvaluationDraws, Quarantine, Source, eval_batches
from fastvid.eval.accuracy import Accuracy
from fastvid.eval.attentive import attentive_probe
from fastvid.eval.attentive_grid import attentive_grid_probe
from fastvid.eval.clip_versions import ORDERS, SEGMENTS, Version
from fastvid.eval.features import Features, ProbeEntry, extract
from fastvid.eval.knn import knn_probe
from fastvid.eval.linear import fit_labels
from fastvid.eval.options import PROBES, Probe, ProbeOptions
from fastvid.eval.retrieval import Recalls, label_retrieval, pair_retrieval, text_retrieval
from fastvid.eval.temporal import arrow_probe, order_probe
from fastvid.random import sample_id
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)

UNLABELLED: tuple[Probe, ...] = ("arrow", "order")
"""Probes that ask nothing of labels."""

_VERSIONS: dict[Probe, Version] = {
    "arrow": "reversed", "order": "shuffled", "static": "static", "reversed": "reversed"
}  # fmt: skip


@dataclass(frozen=True)
class ProbeData:
    """Videos, and the clips that are cut from them.

    Attributes:
        train: videos to fit on; where the probes are about labels, unlabelled ones are passed over.
        test: videos to test on.
        classes: label names.
        views: what a clip is; the deterministic centre view is used.
        clips: moments of each test video whose answers are averaged.
        crops: squares of each moment, 1 or 3.
    """

    train: Source
    test: Source
    classes: list[str]
    views: ViewSpec
    clips: int = 1
    crops: int = 1


@dataclass(frozen=True)
class Relations:
    """The relations between videos by which retrieval looks, beside or instead of labels.

    Attributes:
        groups: group of a test video by its key: others of its group are retrieved. None retrieves by labels.
        captions: embedding float [E] of a video's caption by its key; None retrieves no captions.
    """

    groups: Mapping[str, str] | None = None
    captions: Mapping[str, torch.Tensor] | None = None

    @property
    def known(self) -> bool:
        """Return whether there is something else than labels to retrieve by."""
        return self.groups is not None or self.captions is not None


@dataclass(frozen=True)
class Suite:
    """The probes of a call, and what they need.

    Attributes:
        entries: the encoders.
        options: how many of the videos, chosen by their ids, and how probes are fitted.
        probes: which are run.
        device: where the encoders are.
        quarantine: where videos that do not decode go.
        relations: what retrieval looks for.
        check: called often; may raise to stop.
    """

    entries: Sequence[ProbeEntry]
    options: ProbeOptions
    probes: Sequence[Probe]
    device: torch.device
    quarantine: Quarantine = field(default_factory=Quarantine)
    relations: Relations = field(default_factory=Relations)
    check: Callable[[], None] = lambda: None

    def __post_init__(self) -> None:
        for who in self.entries:
            if "order" in self.probes and who.grid[0] < SEGMENTS:
                raise UserError(
                    f"--probe order shuffles {SEGMENTS} segments, and the clips of {who.name} have {who.grid[0]} time "
                    "slots: leave it out"
                )

    def features(self, source: Source, data: ProbeData, most: int | None, *, fit: bool) -> list[Features]:
        """Return the features of some of a source's videos.

        Args:
            source: the videos.
            data: the classes and what a clip is.
            most: number of videos, None for all.
            fit: whether they are for fitting: then each has its centre view alone.
        """
        labelled = needs_labels(self.probes, self.relations)
        rows = [i for i, sample in enumerate(source.samples) if sample.label is not None or not labelled]
        # Sources list class after class: in the order of their ids, any number of the first ones is a fair sample.
        rows = sorted(rows, key=lambda i: sample_id(source.samples[i].key))[:most]
        draws = EvaluationDraws(data.views) if fit else EvaluationDraws(data.views, data.clips, data.crops)
        batches = eval_batches(
            source, rows, draws, batch=max(1, self.options.batch // draws.count), quarantine=self.quarantine,
            device=self.device,
        )  # fmt: skip
        attentive = any(name.startswith("attentive") for name in self.probes)
        # Classifiers of labels are fitted on videos as they are.
        asked = [name for name in self.probes if name in (UNLABELLED if fit else _VERSIONS)]
        time_videos = None if most is None else self.options.time_videos
        versions = dict.fromkeys((_VERSIONS[name] for name in asked), time_videos)
        return extract(
            self.entries, batches, data.classes, device=self.device, views=draws.count, versions=versions,
            token_bytes=int(self.options.token_gb * 1e9) if attentive else 0, check=self.check,
        )  # fmt: skip

    def row(self, who: ProbeEntry, train: Features, test: Features) -> dict[str, Any]:
        """Return an encoder's row of the table."""
        row: dict[str, Any] = {"encoder": who.name}
        # One fit for all probes that read labels linearly.
        linear = fit_labels(train, test) if {"linear", "static", "reversed"} & set(self.probes) else None
        for name in self.probes:
            if linear is not None and name in ("linear", "static", "reversed"):
                tested = test if name == "linear" else test.version(_VERSIONS[name])
                predicted = linear.predict(tested.pooled, tested.views)
                row[name] = Accuracy.from_predictions(predicted, tested.labels).as_dict()
            else:
                row[name] = self._result(name, train, test)
            self.check()
        log.info("probe %-22s %s", who.name, "  ".join(f"{name} {shown(row[name])}" for name in self.probes))
        return row

    def _result(self, name: Probe, train: Features, test: Features) -> dict[str, Any]:
        options = self.options
        if name == "retrieval":
            return self._retrieval(train, test)
        if name in ("arrow", "order"):
            found, chance = (arrow_probe, 1 / 2) if name == "arrow" else (order_probe, 1 / len(ORDERS))
            return {**found(train, test).as_dict(), "chance": chance}
        if name == "knn":
            return knn_probe(train, test, neighbours=options.neighbours).as_dict()
        fit = attentive_probe if name == "attentive" else attentive_grid_probe
        return fit(train, test, epochs=options.attentive_epochs, device=self.device, check=self.check).as_dict()

    def _retrieval(self, train: Features, test: Features) -> dict[str, Any]:
        found: dict[str, Recalls] = {}
        groups, captions = self.relations.groups, self.relations.captions
        if groups is not None:
            found["pairs"] = pair_retrieval(train, test, [groups.get(key) for key in test.keys])
        elif captions is None or (int(train.labels.max()) >= 0 and int(test.labels.max()) >= 0):
            # Beside captions there may be videos without a label, which are not alike.
            gallery, queries = (part.select((part.labels >= 0).nonzero()[:, 0]) for part in (train, test))
            found["labels"] = label_retrieval(gallery, queries)
        if captions is not None:
            (a, train_texts), (b, test_texts) = (_with_captions(part, captions) for part in (train, test))
            found |= text_retrieval(a, b, train_texts, test_texts)
        kinds = {kind: _as_dicts(recalled) for kind, recalled in found.items()}
        return {**next(iter(kinds.values()))["R@1"], "by": kinds}


def run_probes(
    entries: list[ProbeEntry],
    data: ProbeData,
    options: ProbeOptions,
    *,
    probes: Sequence[Probe] = PROBES,
    device: torch.device,
    quarantine: Quarantine | None = None,
    relations: Relations | None = None,
    check: Callable[[], None] = lambda: None,
) -> dict:
    """Fit and test every probe on every encoder.

    Args:
        entries: the encoders.
        data: the videos.
        options: how many of the videos, chosen by their ids, and how probes are fitted.
        probes: which are run.
        device: where the encoders are.
        quarantine: where videos that do not decode go.
        relations: what retrieval looks for beside labels.
        check: called often; may raise to stop.

    Returns:
        ``{"classes", "train", "test", "chance", "rows": [{"encoder", PROBE: {...}, ...}]}``, JSON-ready; each probe
        with ``accuracy``, ``low`` and ``high`` (95 % Wilson), ``correct``, ``total``, and a ``chance`` of its own where
        it is not that of a class.
    """
    suite = Suite(entries, options, probes, device, quarantine or Quarantine(), relations or Relations(), check)
    fitted = suite.features(data.train, data, options.train, fit=True)
    tested = suite.features(data.test, data, options.test, fit=False)
    if needs_labels(probes, suite.relations):
        _name_lost_classes(data.classes, fitted[0], "to fit on")
        _name_lost_classes(data.classes, tested[0], "to test on")
    table = [suite.row(who, a, b) for who, a, b in zip(entries, fitted, tested, strict=True)]
    sizes = {"train": len(fitted[0].labels), "test": len(tested[0].labels)}
    return {"classes": data.classes, **sizes, "chance": chance_of(data.classes), "rows": table}


def needs_labels(probes: Sequence[Probe], relations: Relations) -> bool:
    """Return whether some of the probes are about labels; retrieval is not where there is something else to find."""
    return any(name not in UNLABELLED and (name != "retrieval" or not relations.known) for name in probes)


def chance_of(classes: Sequence[str]) -> float | None:
    """Return the accuracy of a guess, None where there are no classes."""
    return 1 / len(classes) if classes else None


def shown(result: Mapping[str, Any]) -> str:
    """Format a probe's result for the log."""
    return f"{100 * result['accuracy']:.1f} % [{100 * result['low']:.1f}, {100 * result['high']:.1f}]"


def _as_dicts(recalled: Recalls) -> dict[str, dict[str, Any]]:
    return {f"R@{k}": {**found.as_dict(), "chance": chance} for k, (found, chance) in recalled.items()}


def _with_captions(part: Features, captions: Mapping[str, torch.Tensor]) -> tuple[Features, torch.Tensor]:
    """Return the videos that have a caption, and its embeddings float [k, E]."""
    rows = [row for row, key in enumerate(part.keys) if key in captions]
    if not rows:
        raise UserError(
            f"none of the videos, such as {part.keys[0]!r}, has a caption in --retrieval.captions: its keys are to be "
            "paths below the folder of the videos"
        )
    return part.select(torch.tensor(rows)), torch.stack([captions[part.keys[row]] for row in rows])


def _name_lost_classes(classes: list[str], found: Features, purpose: str) -> None:
    """Log the classes that no video belongs to: probes cannot learn them, or are not tested on them."""
    there = set(found.labels.tolist())
    lost = [name for i, name in enumerate(classes) if i not in there]
    if lost:
        names = ", ".join(lost)
        log.warning("%d of %d classes have no video %s that can be used: %s", len(lost), len(classes), purpose, names)
