"""The labelled videos of a V-JEPA 2 run, and the views that are cut from them."""

import functools
import logging
from collections.abc import Collection
from dataclasses import dataclass

from fastvid.command import user_errors
from fastvid.data import Source, mirror_changes, open_parts, split_labelled
from fastvid.data.demo.render import DemoSize
from fastvid.data.splits.split import labels_of
from fastvid.train.config import LabelledDataConfig
from fastvid.train.data import demo_folder, open_videos, view_spec
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelledData:
    """Videos of a run.

    Attributes:
        path: where they were opened.
        whole: all videos there, before they are split.
        pool: all training videos.
        train: those that are trained on.
        val: those that choose the best epoch.
        test: those that are looked at once, at the end.
        classes: names, sorted; a class id is a position.
        leaks: sentences on what validation or test share with other parts.
        views: of training; evaluation takes the same sampling.
        no_flip: classes that are never mirrored.
    """

    path: str
    whole: Source
    pool: Source
    train: Source
    val: Source
    test: Source
    classes: list[str]
    leaks: list[str]
    views: ViewSpec
    no_flip: frozenset[str]


def lost_classes(source: Source, usable: Collection[str]) -> list[str]:
    """Return the classes that have no video among the usable keys."""
    labels = labels_of(source)
    return sorted(set(labels.values()) - {labels[key] for key in usable if key in labels})


def open_labelled(config: LabelledDataConfig, demo: DemoSize, seed: int) -> LabelledData:
    """Open the videos a configuration names and split them.

    Args:
        config: the options.
        demo: the demo data set, where that is named.
        seed: seed of the choice of ``videos_per_class``, and of the protocol ``random``.

    Raises:
        UserError: no videos, no labels, too few of a class, or options that do not fit them.
    """
    with user_errors(ValueError, OSError):
        views = view_spec(config)
        if config.path == "demo":
            if config.protocol != "auto" or config.labels is not None:
                raise ValueError(
                    "the demo data set has its own split and labels: leave --data.protocol and --data.labels out"
                )
            source, protocol = open_parts(demo_folder(demo)), "folders"
        else:
            source, protocol = open_videos(config), config.protocol
        split = functools.partial(
            split_labelled, source, protocol=protocol, shares=config.shares, seed=seed, groups=config.groups,
            classes=_classes(config.classes), lists=config.lists,
        )  # fmt: skip
        splits = split(videos_per_class=config.videos_per_class)
        pool = splits.train if config.videos_per_class is None else split().train
        no_flip = frozenset(mirror_changes(splits.classes, config.no_flip))
    for sentence in splits.notes:
        log.info("%s", sentence)
    for sentence in splits.leaks:
        log.warning("LEAK: %s", sentence)
    if no_flip and config.flip:
        log.info("never mirrored: %s", ", ".join(sorted(no_flip)))
    log.info(
        "%d classes; %d videos to train on, %d to validate, %d to test",
        len(splits.classes), len(splits.train.samples), len(splits.val.samples), len(splits.test.samples),
    )  # fmt: skip
    return LabelledData(
        config.path, source, pool, splits.train, splits.val, splits.test, splits.classes, splits.leaks, views, no_flip
    )


def _classes(text: str | None) -> str | dict[str, str] | None:
    """Parse ``LABEL=CLASS,...`` to a mapping; anything else is a preset's name."""
    if text is None or "=" not in text:
        return text
    pairs = [pair.partition("=") for pair in text.split(",")]
    return {label.strip(): name.strip() for label, _, name in pairs}
