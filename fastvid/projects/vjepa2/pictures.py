"""Pictures of a V-JEPA 2 run: what is trained on, and what was taken for something else."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from fastvid.data import EvaluationDraws, Source
from fastvid.data.loader.decode_ahead import decode_sample
from fastvid.data.loader.views import Draws
from fastvid.eval.classification import Classification
from fastvid.latents.compute import TrainingDraws
from fastvid.report.strips import Strips, strips_png

_CLIPS, _VIEWS = 4, 2  # of the picture of training views
_TRIES = 8  # videos that may be tried for one of its clips
_MISTAKES = 8


def training_views(path: Path, source: Source, training: TrainingDraws, judged: EvaluationDraws) -> None:
    """Save four training clips, of different classes if there are so many: as they would be evaluated, and below that
    the first views they are trained on.

    Args:
        path: path of the PNG; nothing is done where it exists.
        source: the training videos.
        training: the views they are trained on; the first two are shown.
        judged: the views of evaluation; the middle one is shown.
    """
    if path.exists():
        return
    training = replace(training, count=min(_VIEWS, training.count))
    groups: list[Strips] = []
    for tried, row in enumerate(_by_turns(source)):
        if len(groups) == _CLIPS or tried == _CLIPS * _TRIES:
            break
        sample = source.samples[row]
        plain, varied = _clips(source, row, judged), _clips(source, row, training)
        if plain and varied:
            labels = ["evaluation", *(f"training {number}" for number in range(1, len(varied) + 1))]
            groups.append(Strips(sample.label or "", [_middle(plain, judged), *varied], labels, sample.key))
    if groups:
        strips_png(path, groups)


def mistakes(path: Path, source: Source, test: Classification, draws: EvaluationDraws) -> None:
    """Save up to eight clips that got another class than their own, those of the greatest probability first.

    Args:
        path: path of the PNG; not written where there are no mistakes.
        source: the test videos.
        test: what the classifier said of them.
        draws: the views it saw; the middle one is shown.
    """
    sure, given = test.probabilities.max(1)
    wrong = (given != test.labels).nonzero().flatten()
    order = wrong[sure[wrong].argsort(descending=True, stable=True)][:_MISTAKES].tolist()
    rows = {sample.key: row for row, sample in enumerate(source.samples)}
    groups = []
    for i in order:
        clips = _clips(source, rows[test.keys[i]], draws)
        true, said = test.classes[int(test.labels[i])], test.classes[int(given[i])]
        title = f"{true} \N{RIGHTWARDS ARROW} {said} ({sure[i]:.2f})"
        if clips:
            groups.append(Strips(title, [_middle(clips, draws)], (), test.keys[i]))
    if groups:
        strips_png(path, groups)


def _by_turns(source: Source) -> Iterator[int]:
    """Yield the samples: the first of each class, then the second of each, ..."""
    classes = defaultdict(list)
    for row, sample in enumerate(source.samples):
        classes[sample.label or ""].append(row)
    for place in range(max(map(len, classes.values()))):
        yield from (classes[name][place] for name in sorted(classes) if place < len(classes[name]))


def _clips(source: Source, row: int, draws: Draws) -> list[np.ndarray]:
    """Decode all views of a video, uint8 [T, H, W, 3]. Return none where one cannot be decoded, which the loaders
    report.
    """
    pixels = decode_sample(draws, source, row).pixels
    return [view for view in pixels if view is not None] if all(view is not None for view in pixels) else []


def _middle(views: list[np.ndarray], draws: EvaluationDraws) -> np.ndarray:
    return views[draws.clips // 2 * draws.crops + draws.crops // 2]
