"""``python -m fastvid.eval RUN --data.path LABELLED_FOLDER``: probes the encoders of any run on any labelled videos."""

import dataclasses
import hashlib
import json
import logging
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from fastvid.command import UserError, command, loading, sentence, user_errors
from fastvid.data.storage.remote import without_secrets
from fastvid.eval.options import ProbeOptions
from fastvid.files import write_whole
from fastvid.ranges import Count, Share, check_numbers

if TYPE_CHECKING:  # what decodes and what encodes take a while to load, and options are read without them
    from fastvid.video import ViewSpec


@dataclass(frozen=True)
class EvalData:
    """Labelled videos."""

    path: str
    """A folder of videos with a sub-folder for each class, or a folder of labelled tar shards."""
    labels: str | None = None
    """Table of paths and labels, for a folder of videos."""
    holdout: Share = 0.3
    """Share of the videos that probes are tested on, chosen by key, where the data set shows no split of its own."""
    sampling: str | None = None
    """Choice of frames, see the run's own option; default: as in the run."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig(ProbeOptions):
    """Probes the encoders of a run (kNN, linear, attentive) against random weights and against a single frame."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a folder with an encoder."""
    data: EvalData
    """Labelled videos."""
    train: Count = 4096
    """Most videos to fit on."""
    test: Count = 4096
    """Most videos to test on."""
    batch: Count = 32
    """Clips per forward pass."""
    out: Path | None = None
    """JSON file for the results; default: eval-NAME.json in the run, after the data's folder, and
    eval-NAME-HASH.json where another folder of that name has its results there."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    config = tyro.cli(EvalConfig, prog="python -m fastvid.eval", args=arguments, config=(tyro.conf.FlagConversionOff,))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    check_numbers(config)
    out = _result_file(config)
    if out.parent.is_dir() and not os.access(out.parent, os.W_OK):  # before the work, and not after it
        raise UserError(f"{out.parent} cannot be written to: give --out a file elsewhere for the results")
    result = {"data": _data_name(config.data), **evaluate(config)}
    text = json.dumps(result, indent=1) + "\n"
    try:
        write_whole(out, text.encode())
    except OSError as error:
        print(text)  # the work is not lost
        raise UserError(f"{sentence(error)}, or give --out; the results are printed above") from error
    print(f"written to {out}")
    return 0


def _data_name(data: EvalData) -> list[str]:
    """Return the data that the results are of: the videos, and the table of their labels where there is one."""
    return [
        without_secrets(place) if "://" in place else str(Path(place).expanduser().resolve())
        for place in (data.path, data.labels) if place is not None
    ]  # fmt: skip


def _result_file(config: EvalConfig) -> Path:
    """Choose the file of the results: a new file, or one that holds results of the same data.

    Raises:
        UserError: --out holds anything else.
    """
    name = _data_name(config.data)
    if config.out is not None:
        if config.out.exists() and _results_of(config.out) != name:
            raise UserError(f"{config.out} exists, and not with results of {name[0]}: give another --out, or remove it")
        return config.out
    plain = Path(name[0].partition("?")[0]).name
    out = config.run / f"eval-{plain}.json"
    if not out.exists() or _results_of(out) == name:
        return out
    digest = hashlib.blake2b("\n".join(name).encode(errors="surrogateescape"), digest_size=4).hexdigest()
    return config.run / f"eval-{plain}-{digest}.json"


def _results_of(path: Path) -> list[str] | None:
    """Return the data that a results file is of, or None where it does not say."""
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, OSError):
        return None
    return found.get("data") if isinstance(found, dict) else None


def evaluate(config: EvalConfig) -> dict:
    """Run the probes and return the table of :func:`fastvid.eval.suite.run_probes`.

    Raises:
        UserError: the encoders or the videos cannot be used.
    """
    with loading():
        import torch

        from fastvid.data import Quarantine, classes_of, hold_out, open_parts
        from fastvid.eval.features import ProbeEntry
        from fastvid.eval.suite import ProbeData, run_probes
        from fastvid.models import VideoViT, load_encoder
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    folders = {name: config.run / name for name in ("student", "teacher") if (config.run / name).is_dir()}
    if not folders and not (config.run / "encoder.json").is_file():
        raise UserError(
            f"no encoder in {config.run}: give a run that has saved a student or a teacher, "
            "or a folder with encoder.json"
        )
    with user_errors(ValueError):
        encoders = {name: load_encoder(path).to(device) for name, path in (folders or {"encoder": config.run}).items()}
    first = next(iter(encoders.values()))
    entries = [ProbeEntry(name, encoder, encoder.grid) for name, encoder in encoders.items()]
    torch.manual_seed(0)
    untrained = VideoViT(dataclasses.replace(first.config, pretrained=False)).to(device)
    entries.append(ProbeEntry("random initialisation", untrained, untrained.grid))
    entries.append(ProbeEntry(f"{next(iter(encoders))}, single frame", first, first.grid, still=True))
    with user_errors(ValueError):
        source = open_parts(config.data.path, config.data.labels)
        views = _views(config, first)
        if len(classes_of(source)) < 2:
            found = f"{without_secrets(config.data.path)} has {len(classes_of(source))} classes"
            raise UserError(f"{found}; probes need at least two")
        train, test, notes = hold_out(source, config.data.holdout)
    if train is None or test is None:
        raise UserError(
            f"{len(source.samples)} videos cannot be split into training and test videos: change --data.holdout"
        )
    for note in notes:
        logging.info("%s", note)
    classes = sorted({*classes_of(train), *classes_of(test)})
    quarantine = Quarantine(log=logging.warning)
    return run_probes(entries, ProbeData(train, test, classes, views), config, device=device, quarantine=quarantine)


def _views(config: EvalConfig, encoder) -> "ViewSpec":
    from fastvid.video import ViewSpec

    settings: dict = {}
    if (config.run / "config.json").is_file():
        data = json.loads((config.run / "config.json").read_text())["data"]
        settings = {name: data[name] for name in ("sampling", "stride", "fps")}
    if config.data.sampling is not None:
        settings["sampling"] = config.data.sampling
    return ViewSpec.from_fields({**settings, "frames": encoder.config.frames, "size": encoder.config.size})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
