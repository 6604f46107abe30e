"""Rules that learn next to nothing: a single frame, the length of a track, and the constant answer."""

from typing import Any

import numpy as np

from fastvid.eval.early import balanced_accuracy
from fastvid.projects.trajectory.tokens import TokenSet
from fastvid.projects.trajectory.track_table import TrackTable


def colour_rule(train: TokenSet, test: TokenSet) -> float:
    """Return the balanced accuracy of telling tracks apart by the colour of their first crop: the nearer of the two
    kinds' mean colours.

    Args:
        train: tokens with the features ``pixels``.
        test: likewise.
    """
    table, kinds = TrackTable.from_tokens(train), TrackTable.from_tokens(test)
    colours, answers = _colours(train, table), _colours(test, kinds)
    means = [colours[table.persistent == kind].mean(0) for kind in (False, True)]
    nearer = np.linalg.norm(answers - means[1], axis=1) < np.linalg.norm(answers - means[0], axis=1)
    return balanced_accuracy(nearer, kinds.persistent)


def one_frame_rule(train: TokenSet, test: TokenSet) -> float:
    """Return the balanced accuracy of the best linear rule on a track's first token alone: its colour, size, place and
    frame. What it reaches is known at birth.

    Args:
        train: tokens with the features ``pixels``.
        test: likewise.
    """
    table, kinds = TrackTable.from_tokens(train), TrackTable.from_tokens(test)
    inputs, answers = _first_frame(train, table), _first_frame(test, kinds)
    mean, scale = inputs.mean(0), inputs.std(0) + 1e-6
    inputs, answers = (inputs - mean) / scale, (answers - mean) / scale
    # Least squares with both kinds of equal weight: Fisher's discriminant.
    weight = np.where(table.persistent, 1 / table.persistent.sum(), 1 / (~table.persistent).sum())[:, None] ** 0.5
    design, wanted = np.c_[inputs, np.ones(len(inputs))], np.where(table.persistent, 1.0, -1.0)
    rule, *_ = np.linalg.lstsq(design * weight, wanted * weight[:, 0], rcond=None)
    return balanced_accuracy(np.c_[answers, np.ones(len(answers))] @ rule > 0, kinds.persistent)


def length_rule(train: TokenSet, test: TokenSet) -> tuple[float, int]:
    """Return the balanced accuracy of calling tracks of at least so many tokens persistent, and how many: the number
    that is best on the training tracks."""
    table, kinds = TrackTable.from_tokens(train), TrackTable.from_tokens(test)
    lengths, answers = table.seen.sum(1), kinds.seen.sum(1)
    found = [balanced_accuracy(lengths >= least, table.persistent) for least in range(1, train.frames + 1)]
    least = int(np.argmax(found)) + 1
    return balanced_accuracy(answers >= least, kinds.persistent), least


def baselines(
    train: TokenSet, test: TokenSet, true_train: TokenSet | None, true_test: TokenSet | None
) -> dict[str, Any]:
    """Return the balanced accuracies of all rules on the test videos' tracks.

    Args:
        train: tokens of the run's tracker with the features ``pixels``.
        test: likewise.
        true_train: the same with true tracks, or None where these are not known.
        true_test: likewise.
    """
    length, least = length_rule(train, test)
    found: dict[str, Any] = {
        "constant": 0.5, "colour": colour_rule(train, test), "one_frame": one_frame_rule(train, test),
        "length": length, "length_least": least, "oracle": None, "oracle_least": None,
    }  # fmt: skip
    if true_train is not None and true_test is not None:
        found["oracle"], found["oracle_least"] = length_rule(true_train, true_test)
    return found


def _first_tokens(table: TrackTable) -> np.ndarray:
    """Return the index of the first token of each track, int64 [n]."""
    return np.unique(table.row, return_index=True)[1]


def _colours(tokens: TokenSet, table: TrackTable) -> np.ndarray:
    """Return the mean colour of the inner half of each track's first crop, float64 [n, 3]."""
    crops = tokens.features[_first_tokens(table)].astype(np.float64).reshape(len(table), 3, 8, 8)
    means: np.ndarray = crops[:, :, 2:6, 2:6].mean((2, 3))
    return means


def _first_frame(tokens: TokenSet, table: TrackTable) -> np.ndarray:
    first = _first_tokens(table)
    boxes = tokens.boxes[first].astype(np.float64)
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    rows: np.ndarray = np.c_[_colours(tokens, table), centre, size, tokens.frame[first]]
    return rows
