"""The videos of a SALT run: what is trained on, and what the probes use."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from fastvid.data import (
    Batch,
    EvaluationDraws,
    LoaderState,
    Quarantine,
    Source,
    TrainLoader,
    ViewDraws,
    classes_of,
    eval_batches,
    hold_out,
    open_source,
)
from fastvid.data.demo.render import DemoSize
from fastvid.train.config import DataConfig
from fastvid.train.data import demo_folder, epoch_sampler, open_videos, train_loader, view_spec
from fastvid.train.session import Session, UserError
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingClips:
    """The training clips of a run, for the loaders of its stages.

    Attributes:
        session: the run's session.
        config: how videos are loaded.
        data: the videos.
        decoder: the run's decoder.
        quarantine: where clips that do not decode go.
    """

    session: Session
    config: DataConfig
    data: "SaltData"
    decoder: str
    quarantine: Quarantine

    def loader(self, batch: int, state: LoaderState, *, draws: ViewDraws | None = None, echo: int = 1) -> TrainLoader:
        """Return batches of clips.

        Args:
            batch: clips of a micro-batch, over all processes.
            state: where to begin.
            draws: their views; by default new ones in every epoch.
            echo: times each window of shards is shown before the next one.
        """
        source, draws = self.data.train, draws or ViewDraws(self.data.views, self.session.options.seed)
        sampler = epoch_sampler(self.session, self.config, source, batch=batch, state=state, echo=echo)
        return train_loader(
            self.session, self.config, source, draws, sampler, decoder=self.decoder, quarantine=self.quarantine
        )


@dataclass
class SaltData:
    """Videos and how clips are cut from them.

    Attributes:
        path: where the training videos were opened.
        whole: all videos there, those of ``train`` among them: what a latent cache is made for.
        train: the videos of the training stages, and of fitting the probes.
        test: other videos, for testing the probes; None where there are none with labels.
        classes: names of the classes; fewer than two mean that there is nothing to probe.
        views: what a clip is.
    """

    path: str
    whole: Source
    train: Source
    test: Source | None
    classes: list[str]
    views: ViewSpec


def open_data(config: DataConfig, demo: DemoSize, *, split: str = "auto") -> SaltData:
    """Open the videos a configuration names; make the demo data set if it is not in the cache yet.

    Args:
        config: the options.
        demo: size of the demo data set.
        split: ``"auto"`` to keep videos for the probes, which looks at every video; ``"none"`` to train on all.

    Raises:
        UserError: there are no videos there.
    """
    views = view_spec(config)
    train: Source | None
    test: Source | None
    if config.path == "demo":
        folder = demo_folder(demo)
        train, test = open_source(folder / "train"), open_source(folder / "test")
        log.info("data: demo, %s", train.description)
        log.info("split: protocol folders, since the demo data set has folders named test, train")
        return SaltData(str(folder / "train"), train, train, test, classes_of(train), views)
    source = open_videos(config)
    if split == "none":
        log.info("split: none: all videos are trained on, and there is nothing to probe")
        return SaltData(config.path, source, source, None, [], views)
    try:
        train, test, notes = hold_out(source, config.holdout)
    except ValueError as error:
        raise UserError(str(error)) from error
    if train is None:
        raise UserError(f"data.holdout={config.holdout} leaves none of the {len(source.samples)} videos to train on")
    for sentence in notes:
        log.info("%s", sentence)
    classes = sorted({*classes_of(train), *(classes_of(test) if test is not None else ())})
    return SaltData(config.path, source, train, test, classes, views)


def first_batch(source: Source, rows: Sequence[int], views: ViewSpec, clips: int, quarantine: Quarantine) -> Batch:
    """Return the centre views of the first ``clips`` of these videos that decode.

    Raises:
        UserError: none of them does.
    """
    for batch in eval_batches(source, rows, EvaluationDraws(views), batch=clips, quarantine=quarantine):
        return batch
    raise UserError(f"none of {len(rows)} videos can be decoded; see bad_samples.jsonl ({source.description})")


def centre_clips(data: SaltData, clips: int, quarantine: Quarantine) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the centre views uint8 [B, T, H, W, 3] of the first training videos, and their sample ids int64 [B]."""
    samples = data.train.samples
    batch = first_batch(data.train, range(min(clips, len(samples))), data.views, clips, quarantine)
    assert batch.clips is not None
    return batch.clips, batch.ids
