"""Probes of a saved run's encoders on other videos."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastvid.command import UserError, user_errors
from fastvid.data import Quarantine, Source, classes_of, hold_out, open_parts, relabel, split_by_key
from fastvid.data.sources.subset import subset
from fastvid.data.splits.official import official_splits
from fastvid.data.storage.remote import without_secrets
from fastvid.eval.config import EvalConfig
from fastvid.eval.features import ProbeEntry
from fastvid.eval.official import run_official
from fastvid.eval.relations import read_relations
from fastvid.eval.suite import ProbeData, Relations, Suite, needs_labels, run_probes
from fastvid.models import VideoViT, load_encoder
from fastvid.report.records import read_json
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)


def probe_encoders(config: EvalConfig) -> dict[str, Any]:
    """Run the probes and return the table of :func:`fastvid.eval.suite.run_probes`, or the means of
    :func:`fastvid.eval.official.run_official`.

    Raises:
        UserError: the encoders or the videos cannot be used.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    entries, first = open_entries(config.run, device)
    probes = tuple(name for name in config.probe if name != "intphys")
    quarantine = Quarantine(log=logging.warning)
    with user_errors(ValueError, FileNotFoundError):
        source = open_parts(config.data.path, config.data.labels)
        views = run_views(config, first)
        relations = Relations()
        if "retrieval" in probes:
            asked = config.retrieval
            relations = read_relations(source, Path(config.data.path).expanduser(), asked.pairs, asked.captions)
        if config.data.protocol != "auto":
            splits = official_splits(source, config.data.protocol, config.data.lists)
            for note in splits.notes:
                log.info("%s", note)
            data = _probe_data(config, splits.source, splits.source, views)
            return run_official(Suite(entries, config, probes, device, quarantine, relations), data, splits)
        train, test = _split(config, source, needs_labels(probes, relations))
    data = _probe_data(config, train, test, views)
    return run_probes(
        entries, data, config, probes=probes, device=device, quarantine=quarantine, relations=relations
    )  # fmt: skip


def open_entries(run: Path, device: torch.device) -> tuple[list[ProbeEntry], VideoViT]:
    """Return the encoders of a run, its first one with random weights and with a single frame, and the first itself.

    Raises:
        UserError: there are none, or they are damaged.
    """
    folders = {name: run / name for name in ("student", "teacher") if (run / name).is_dir()}
    if not folders and not (run / "encoder.json").is_file():
        raise UserError(
            f"no encoder in {run}: give a run that has saved a student or a teacher, or a folder with encoder.json"
        )
    with user_errors(ValueError):
        encoders = {name: load_encoder(path).to(device) for name, path in (folders or {"encoder": run}).items()}
    name, first = next(iter(encoders.items()))
    entries = [ProbeEntry(who, encoder, encoder.grid) for who, encoder in encoders.items()]
    torch.manual_seed(0)
    untrained = VideoViT(dataclasses.replace(first.config, pretrained=False)).to(device)
    entries.append(ProbeEntry("random initialisation", untrained, untrained.grid))
    entries.append(ProbeEntry(f"{name}, single frame", first, first.grid, still=True))
    return entries, first


def run_views(config: EvalConfig, encoder: VideoViT) -> ViewSpec:
    """Return the clips that a run's encoder is tested on: the run's own, but for the options."""
    views = clips_of_run(config.run, encoder)
    return views if config.data.sampling is None else dataclasses.replace(views, sampling=config.data.sampling)


def clips_of_run(folder: Path, encoder: VideoViT) -> ViewSpec:
    """Return the clips of the run that saved an encoder; with the frames and the size of the encoder.

    Args:
        folder: the run's directory, or the folder of an encoder in it; an encoder that was moved out of its run has
            frames chosen evenly over the whole video.
        encoder: the encoder.
    """
    config = read_json(folder / "config.json") or read_json(folder.parent / "config.json") or {}
    data = config.get("data", {})
    settings = {name: data[name] for name in ("sampling", "stride", "fps") if name in data}
    return ViewSpec.from_fields({**settings, "frames": encoder.config.frames, "size": encoder.config.size})


def _probe_data(config: EvalConfig, train: Source, test: Source, views: ViewSpec) -> ProbeData:
    classes = sorted({*classes_of(train), *classes_of(test)})
    # A single class says nothing: its videos are as good as unlabelled.
    return ProbeData(
        train, test, classes if len(classes) > 1 else [], views, config.data.clips, config.data.crops
    )  # fmt: skip


def _split(config: EvalConfig, source: Source, labelled: bool) -> tuple[Source, Source]:
    """Return the videos to fit and to test on.

    Raises:
        ValueError: the split that the data set shows does not fit the videos.
        UserError: there is nothing to fit or to test on, or labels are needed that are not there.
    """
    classes = classes_of(source)
    if len(classes) < 2 and labelled:
        raise UserError(f"{without_secrets(config.data.path)} has {len(classes)} classes; probes need at least two")
    if len(classes) < 2 or (not labelled and any(sample.label is None for sample in source.samples)):
        # Only labelled videos are held out: let all be of one class while they are split.
        _, test = split_by_key(relabel(source, ["video"] * len(source.samples), ["video"]), config.data.holdout)
        keys = set() if test is None else {sample.key for sample in test.samples}
        held = np.array([sample.key in keys for sample in source.samples])
        train, test = (subset(source, part) if part.any() else None for part in (~held, held))
        notes = [f"split: {config.data.holdout:.0%} of the videos are held out, chosen by key"]
    else:
        train, test, notes = hold_out(source, config.data.holdout)
    if train is None or test is None:
        raise UserError(
            f"{len(source.samples)} videos cannot be split into training and test videos: change --data.holdout"
        )
    for note in notes:
        log.info("%s", note)
    return train, test
