import csv
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from fastvid.report.confusion import confusion_csv, confusion_png


def made(n: int) -> tuple[list[str], np.ndarray]:
    counts = np.random.default_rng(n).poisson(0.3, (n, n))
    return [f"Pushing something {i} so that it almost falls off" for i in range(n)], counts + 20 * np.eye(n, dtype=int)


def test_the_table_can_be_read_back(tmp_path):
    classes = ["a", 'say "b", twice', "c"]
    confusion_csv(tmp_path / "new" / "confusion.csv", classes, torch.tensor([[3, 1, 0], [0, 2, 0], [0, 0, 0]]))
    with open(tmp_path / "new" / "confusion.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows == [
        ["truth \\ predicted", *classes],
        ["a", "3", "1", "0"],
        [classes[1], "0", "2", "0"],
        ["c"] + ["0"] * 3,
    ]
    assert (tmp_path / "new" / "confusion.csv").read_bytes().count(b"\r") == 0


@pytest.mark.parametrize("n", [1, 2, 4, 10, 174])
def test_the_picture_stays_small(tmp_path, n):
    confusion_png(tmp_path / "pictures" / "confusion.png", *made(n))
    with Image.open(tmp_path / "pictures" / "confusion.png") as image:
        assert 250 < min(image.size) <= max(image.size) <= 1600


def test_a_name_is_no_formula(tmp_path):
    confusion_png(tmp_path / "confusion.png", [r"$\nonsense{$", "$a$"], np.eye(2, dtype=int))
    assert (tmp_path / "confusion.png").stat().st_size > 1000


def area(path, colour) -> int:
    """How many pixels have a colour."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return int((np.abs(pixels - colour) <= 1).all(-1).sum())


def test_colours_are_shares_of_the_true_class(tmp_path):
    # Both classes are always right, one of them a hundred times as often: full colour for both.
    full, empty, grey = (8, 48, 107), (247, 251, 255), (0xD9, 0xE0, 0xE6)
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    confusion_png(a, ["x", "y"], [[500, 0], [0, 5]])
    assert area(a, full) > 0.8 * area(a, empty)
    assert area(a, grey) < 100
    confusion_png(b, ["x", "y"], [[500, 0], [0, 0]])  # no video of the second class
    assert area(b, grey) > 0.8 * 2 * area(b, full)
    assert area(b, full) < 0.6 * area(a, full)


def test_up_to_fifteen_classes_have_numbers(tmp_path):
    zeros = []
    for n in (15, 16):
        one, other = np.eye(n, dtype=int) * 11, np.eye(n, dtype=int) * 88
        confusion_png(tmp_path / "one.png", ["c"] * n, one)
        confusion_png(tmp_path / "other.png", ["c"] * n, other)
        with Image.open(tmp_path / "one.png") as x, Image.open(tmp_path / "other.png") as y:
            below = np.asarray(x)[60:].astype(int) - np.asarray(y)[60:]  # the title has the numbers too
        zeros.append(not below.any())
    assert zeros == [False, True]


def test_the_same_matrix_gives_the_same_file(tmp_path):
    for name in ("a", "b"):
        confusion_png(tmp_path / name, *made(6))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_drawing_needs_no_pyplot(tmp_path):
    code = f"""
import sys
from pathlib import Path
from fastvid.report.confusion import confusion_png
confusion_png(Path({str(tmp_path / "a.png")!r}), ["a", "b"], [[1, 0], [0, 1]])
sys.exit("matplotlib.pyplot" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("classes", "confusion", "said"),
    [
        (["a"], [[1, 0], [0, 1]], r"1 classes cannot have the shape \(2, 2\)"),
        ([], [], "0 classes"),
        (["a", "b"], [[0.5, 0.5], [0.0, 1.0]], "holds counts of videos; got float64"),
        (["a", "b"], [[1, -1], [0, 1]], "counts of videos; got int64 from -1"),
    ],
)
@pytest.mark.parametrize("write", [confusion_csv, confusion_png])
def test_what_is_no_confusion_matrix_is_refused(tmp_path, write, classes, confusion, said):
    with pytest.raises(ValueError, match=said):
        write(tmp_path / "file", classes, confusion)
    assert list(tmp_path.iterdir()) == []
