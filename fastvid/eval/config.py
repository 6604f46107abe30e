"""Options of ``python -m fastvid.eval`` for encoders. No model code is imported, so that they are read without it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from fastvid.eval.options import PROBES, EvalProbe, ProbeOptions
from fastvid.ranges import Count, Share


@dataclass(frozen=True)
class EvalData:
    """The videos."""

    path: str
    """A folder of videos with a sub-folder for each class, or a folder of labelled tar shards; for --probe intphys a
    folder of IntPhys 2 with its metadata.csv."""
    labels: str | None = None
    """Table of paths and labels, for a folder of videos."""
    holdout: Share = 0.3
    """Share of the videos that probes are tested on, chosen by key, where the data set shows no split of its own."""
    protocol: Literal["auto", "ucf101", "hmdb51"] = "auto"
    """The split that the data set shows, else the holdout; or the mean over the three official splits of UCF-101 or
    HMDB-51, all videos of them."""
    lists: Path | None = None
    """Folder of the official lists; default: they are looked for in and beside the folder of the videos."""
    sampling: Literal["span", "stride", "fps"] | None = None
    """Choice of frames, see the run's own option; default: as in the run."""
    clips: Count = 1
    """Moments of each test video whose answers are averaged."""
    crops: Literal[1, 3] = 1
    """Squares of each moment: the centre, or three along the longer side."""


@dataclass(frozen=True)
class RetrievalOptions:
    """Options of retrieval, beside or instead of labels."""

    pairs: Path | None = None
    """Table of paths and ids: test videos of the same id are to find each other, whatever their labels are."""
    captions: Path | None = None
    """Embeddings of captions, an .npz file with keys [n], the videos' paths below the folder, and features [n, E]:
    videos are retrieved by text and texts by video, through a ridge regression fitted on the training videos."""


@dataclass(frozen=True)
class IntPhysOptions:
    """Options of the measure of surprise."""

    windows: Count = 8
    """Clips of each video over which the surprise is averaged, at even distances."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig(ProbeOptions):
    """Probes the encoders of a run against random weights and against a single frame. A run that is tested in another
    way, such as a vision-language model's, has other options: RUN --help shows them."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a folder with an encoder."""
    data: EvalData
    """Videos."""
    probe: tuple[EvalProbe, ...] = PROBES
    """What is asked of the encoders: knn, linear, attentive and attentive-grid (V-JEPA 2's) classify; arrow (forwards
    or backwards) and order (of shuffled segments) need no labels; static and reversed test the linear probe on clips
    that stand still or run backwards; retrieval finds videos of the same label; intphys measures the surprise of the
    run's predictor."""
    retrieval: RetrievalOptions = field(default_factory=RetrievalOptions)
    """For --probe retrieval."""
    intphys: IntPhysOptions = field(default_factory=IntPhysOptions)
    """For --probe intphys."""
    train: Count = 4096
    """Most videos to fit on."""
    test: Count = 4096
    """Most videos to test on."""
    time_videos: Count = 4096
    """Most videos, to fit and to test on, that the probes of time show otherwise."""
    batch: Count = 32
    """Clips per forward pass."""
    out: Path | None = None
    """JSON file for the results; default: eval-NAME.json in the run, after the data's folder and other than the default
    probes, and eval-NAME-HASH.json where another folder of that name has its results there."""
