"""Probes by the official protocols of UCF-101 and HMDB-51: the mean over their three splits."""

import logging
from collections.abc import Sequence
from typing import Any

import torch

from fastvid.data import classes_of
from fastvid.data.splits.official import OfficialSplits
from fastvid.eval.accuracy import wilson_interval
from fastvid.eval.features import Features
from fastvid.eval.suite import ProbeData, Suite, chance_of, shown

log = logging.getLogger(__name__)


def run_official(suite: Suite, data: ProbeData, splits: OfficialSplits) -> dict[str, Any]:
    """Fit and test every probe on each of three splits, all videos of them, and average.

    Every video is decoded once for fitting and, where several views of a test video are wanted, once more for these.

    Args:
        suite: the encoders and the probes.
        data: what a clip is; its sources are not used.
        splits: the videos, and which of them each split fits and tests on.

    Returns:
        As :func:`fastvid.eval.suite.run_probes`, with the means in ``rows``, the rows of each split in ``splits``, and
        lists in ``train`` and ``test``.
    """
    fitted = suite.features(splits.source, data, None, fit=True)
    same = data.clips * data.crops == 1 and not {"static", "reversed"} & set(suite.probes)
    tested = fitted if same else suite.features(splits.source, data, None, fit=False)
    rows: list[list[dict[str, Any]]] = []
    sizes: dict[str, list[int]] = {"train": [], "test": []}
    for number, (train, test) in enumerate(zip(splits.train, splits.test, strict=True), 1):
        log.info("split %d", number)
        parts = [(_of(a, train), _of(b, test)) for a, b in zip(fitted, tested, strict=True)]
        sizes["train"].append(len(parts[0][0].labels))
        sizes["test"].append(len(parts[0][1].labels))
        rows.append([suite.row(who, a, b) for who, (a, b) in zip(suite.entries, parts, strict=True)])
    different = len(set.union(*splits.test) & set(tested[0].keys)) / sum(sizes["test"])
    table = []
    for number, who in enumerate(suite.entries):
        means: dict[str, dict[str, Any]] = {
            name: mean_of_splits([split[number][name] for split in rows], different) for name in suite.probes
        }
        table.append({"encoder": who.name, **means})
        log.info("mean of 3 %-16s %s", who.name, "  ".join(f"{name} {shown(means[name])}" for name in means))
    classes = classes_of(splits.source)
    return {"classes": classes, **sizes, "chance": chance_of(classes), "rows": table, "splits": rows}


def mean_of_splits(results: Sequence[dict[str, Any]], different: float) -> dict[str, Any]:
    """Average a probe's accuracy over splits.

    The interval is Wilson's of the independent units of all splits, such as videos, times the share of the tests that
    are of different videos: in UCF-101 each video is tested once, in HMDB-51 some are tested by several splits, and
    their answers are not independent.

    Args:
        results: of each split, with ``accuracy`` and ``independent``.
        different: number of different test videos, divided by that of the tests of all splits.
    """
    mean = sum(result["accuracy"] for result in results) / len(results)
    units = round(different * sum(result["independent"] for result in results))
    low, high = wilson_interval(mean * units, units)
    found = {"accuracy": mean, "low": low, "high": high, "splits": [result["accuracy"] for result in results]}
    return found | ({"chance": results[0]["chance"]} if "chance" in results[0] else {})


def _of(features: Features, keys: set[str]) -> Features:
    return features.select(torch.tensor([row for row, key in enumerate(features.keys) if key in keys]))
