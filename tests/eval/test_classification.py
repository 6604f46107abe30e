import json
import math

import pytest
import torch
import torch.nn.functional as F

from fastvid.eval import Accuracy, Classification, average_views

CLASSES = ["walk", "run", "jump"]


def of(labels, rows, classes=CLASSES, **fields) -> Classification:
    keys = [f"v{i}" for i in range(len(labels))]
    return Classification(classes, keys, torch.tensor(labels), torch.tensor(rows, dtype=torch.float32), **fields)


# truth walk: 3 of 4 right, one run; truth run: 1 of 2 right, one walk; jump: no video, never given.
EXAMPLE = of(
    [0, 0, 0, 0, 1, 1],
    [[0.8, 0.1, 0.1], [0.6, 0.3, 0.1], [0.5, 0.25, 0.25], [0.2, 0.7, 0.1], [0.3, 0.6, 0.1], [0.9, 0.1, 0.0]],
)


def test_scores_by_hand():
    assert EXAMPLE.predicted.tolist() == [0, 0, 0, 1, 1, 0]
    assert EXAMPLE.accuracy == Accuracy(4, 6)
    assert EXAMPLE.confusion.tolist() == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    walk, run, jump = EXAMPLE.per_class.values()
    assert (walk.precision, walk.recall, walk.f1, walk.support) == (3 / 4, 3 / 4, 3 / 4, 4)
    assert (run.precision, run.recall, run.f1, run.support) == (1 / 2, 1 / 2, 1 / 2, 2)
    assert all(math.isnan(score) for score in (jump.precision, jump.recall, jump.f1))
    assert EXAMPLE.macro_f1 == pytest.approx((3 / 4 + 1 / 2) / 2)
    assert EXAMPLE.balanced_accuracy == pytest.approx((3 / 4 + 1 / 2) / 2)
    expected = -sum(math.log(p) for p in (0.8, 0.6, 0.5, 0.2, 0.6, 0.1)) / 6
    assert EXAMPLE.nll == pytest.approx(expected, rel=1e-6)
    assert EXAMPLE.top5 is None


def test_a_class_that_is_never_given_or_never_there():
    result = of([0, 1], [[0.9, 0.1, 0.0], [0.2, 0.1, 0.7]])  # run is called jump
    _, run, jump = result.per_class.values()
    assert math.isnan(run.precision)
    assert (run.recall, run.f1, run.support) == (0.0, 0.0, 1)
    assert math.isnan(jump.recall)
    assert (jump.precision, jump.f1, jump.support) == (0.0, 0.0, 0)
    assert result.macro_f1 == pytest.approx(1 / 3)
    assert result.balanced_accuracy == pytest.approx(1 / 2)


def test_the_result_file_has_every_field_as_plain_json():
    values = json.loads(json.dumps(EXAMPLE.as_dict(), allow_nan=False))
    low, high = EXAMPLE.accuracy.interval
    assert (values["accuracy"], values["low"], values["high"]) == (4 / 6, low, high)
    assert (values["correct"], values["total"]) == (4, 6)
    assert values["per_class"]["walk"] == {"precision": 0.75, "recall": 0.75, "f1": 0.75, "support": 4}
    assert values["per_class"]["jump"] == {"precision": None, "recall": None, "f1": None, "support": 0}
    assert values["confusion"] == [[3, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert values["keys"] == ["v0", "v1", "v2", "v3", "v4", "v5"]
    assert values["labels"] == [0, 0, 0, 0, 1, 1]
    assert values["predicted"] == [0, 0, 0, 1, 1, 0]
    assert values["inference_ms_per_clip"] is None
    assert of([0], [[1.0, 0.0, 0.0]], inference_ms_per_clip=3.1).as_dict()["inference_ms_per_clip"] == 3.1
    assert values["top5"] is None
    assert values["nll"] == EXAMPLE.nll
    assert values["ece"] == EXAMPLE.ece
    assert values["macro_f1"] == values["balanced_accuracy"] == pytest.approx(0.625)


def test_calibration_error_by_hand():
    # Confidences .8, .75, .75 share a bin of (11/15, 12/15], .5 is alone in (7/15, 8/15].
    result = of([0, 0, 1, 0], [[0.8, 0.2], [0.75, 0.25], [0.75, 0.25], [0.5, 0.5]], ["a", "b"])
    together = abs(2 / 3 - (0.8 + 0.75 + 0.75) / 3) * 3 / 4
    assert result.ece == pytest.approx(together + abs(1 - 0.5) / 4, abs=1e-6)
    sure = of([0, 1], [[1.0, 0.0], [1.0, 0.0]], ["a", "b"])
    assert sure.ece == pytest.approx(0.5)
    assert sure.nll == pytest.approx(-math.log(1.17549435e-38) / 2, rel=1e-6)


def test_a_calibrated_classifier_has_little_calibration_error():
    g = torch.Generator().manual_seed(0)
    p = torch.randn(20_000, 4, generator=g).mul(2).softmax(1)
    labels = torch.multinomial(p, 1, generator=g)[:, 0]
    names = list("abcd")
    keys = [str(i) for i in range(20_000)]
    assert Classification(names, keys, labels, p).ece < 0.015
    assert Classification(names, keys, labels, (p.log() * 3).softmax(1)).ece > 0.1
    assert Classification(names, keys, labels, p).nll == pytest.approx(float(F.nll_loss(p.log(), labels)), rel=1e-5)


def test_top_five_counts_ties_in_the_order_of_the_classes():
    names = list("abcdef")
    row = [0.3, 0.25, 0.2, 0.15, 0.06, 0.04]
    assert of([4], [row], names).top5 == Accuracy(1, 1)
    assert of([5], [row], names).top5 == Accuracy(0, 1)
    flat = [[1 / 6] * 6] * 6
    result = of(range(6), flat, names)
    assert result.top5 == Accuracy(5, 6)
    assert result.accuracy == Accuracy(1, 6)
    assert result.as_dict()["top5"] == 5 / 6
    assert "top-5 83.3 % [" in result.table()


def test_the_table_has_a_line_for_each_class_and_the_total():
    lines = EXAMPLE.table().splitlines()
    assert [line.split() for line in lines] == [
        ["class", "precision", "recall", "F1", "videos"],
        ["walk", "75.0", "75.0", "75.0", "4"],
        ["run", "50.0", "50.0", "50.0", "2"],
        ["jump", "-", "-", "-", "0"],
        *[f"accuracy {EXAMPLE.accuracy} of 6 videos, macro F1 62.5".split()],
    ]
    assert len({len(line) for line in lines[:-1]}) == 1


def test_views_are_averaged_as_probabilities():
    torch.manual_seed(0)
    logits = torch.randn(5, 3, 4) * 3
    p = average_views(logits)
    assert p.dtype == torch.float32
    torch.testing.assert_close(p, torch.stack([logits[:, v].softmax(1) for v in range(3)]).mean(0))
    torch.testing.assert_close(average_views(logits[:, :1]), logits[:, 0].softmax(1))
    torch.testing.assert_close(average_views(logits.bfloat16()).sum(1), torch.ones(5))


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: of([], torch.zeros(0, 3).tolist()), "there is none to score"),
        (lambda: of([0], [[0.5, 0.5]]), r"probabilities \[1, 3\]; got \[1\] and \[1, 2\]"),
        (lambda: of([3], [[1.0, 0.0, 0.0]]), r"class ids in \[0, 3\); got torch.int64 in \[3, 3\]"),
        (lambda: of([0.0], [[1.0, 0.0, 0.0]]), "must be int64"),
        (lambda: of([0], [[2.0, 1.0, 0.0]]), "'v0'.*not logits"),
        (lambda: of([0, 0], [[1.0, 0.0, 0.0], [float("nan"), 0.5, 0.5]]), "'v1'"),
        (lambda: of([0], [[0.5, 0.5]], ["a", "a"]), "class names must differ"),
    ],
)
def test_what_is_no_classification_is_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()
