import json

import numpy as np
import pytest

from fastvid.data import open_source
from fastvid.data.demo import CLASSES, DemoSpec, demo_frames, demo_label
from fastvid.data.demo_files import DemoSize, cached_demo, write_demo
from fastvid.video import decode


def test_frames_are_a_function_of_seed_and_index():
    assert np.array_equal(demo_frames(3, 5), demo_frames(3, 5))
    assert not np.array_equal(demo_frames(3, 5), demo_frames(4, 5))
    assert not np.array_equal(demo_frames(3, 5), demo_frames(3, 9))
    assert demo_frames(0, 0, DemoSpec(size=48, frames=8)).shape == (8, 48, 48, 3)


def centre_of_shape(frame: np.ndarray) -> np.ndarray:
    """Where the saturated pixels are."""
    colour = frame.astype(float)
    weight = np.clip(colour.max(-1) - colour.min(-1) - 90, 0, None)
    y, x = np.indices(weight.shape)
    return np.array([(x * weight).sum(), (y * weight).sum()]) / weight.sum()


def test_the_motions_are_what_they_are_called():
    flat = DemoSpec(texture=0.0)
    curvature = {}
    for label in CLASSES:
        bends = []
        for index in range(CLASSES.index(label), 40, 4):
            path = np.stack([centre_of_shape(f) for f in demo_frames(1, index, flat)[::3]])
            bends.append(np.diff(path, 2, axis=0))
        curvature[label] = np.stack(bends)
    assert np.abs(curvature["linear"]).mean() < 0.35 < np.abs(curvature["circular"]).mean()
    assert curvature["parabolic"][..., 1].mean() > 0.3  # falls
    assert np.abs(curvature["parabolic"][..., 0]).mean() < 0.35
    assert np.abs(curvature["helical"]).mean() > 0.35


def test_no_single_frame_tells_the_class():
    """A linear classifier on where the shape is, and how large, stays near chance for every frame."""
    rows, labels = [], []
    for index in range(600):
        frame = demo_frames(2, index, DemoSpec(texture=0.0, frames=9))[4]
        colour = frame.astype(float)
        size = (colour.max(-1) - colour.min(-1) > 120).sum()
        x, y = centre_of_shape(frame)
        rows.append([1, x, y, size, x * x, y * y, x * y])
        labels.append(index % 4)
    x, y = np.array(rows), np.eye(4)[labels]
    x = x / np.abs(x).max(0)
    weight = np.linalg.lstsq(x[:400], y[:400], rcond=None)[0]
    accuracy = ((x[400:] @ weight).argmax(1) == np.array(labels[400:])).mean()
    assert accuracy < 0.42


SMALL = DemoSize(train=10, test=6, spec=DemoSpec(size=32, frames=6))


def test_files_are_complete_and_the_same_each_time(tmp_path):
    seen = []
    write_demo(tmp_path / "a", SMALL, lambda done, total: seen.append((done, total)))
    write_demo(tmp_path / "b", SMALL)
    assert seen == [(i + 1, 16) for i in range(16)]
    for split, count in (("train", 10), ("test", 6)):
        name = f"{split}/{split}-000000.tar"
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
        source = open_source(tmp_path / "a" / split)
        assert len(source.samples) == count
    source = open_source(tmp_path / "a" / "test")
    assert [s.label for s in source.samples] == [demo_label(i) for i in range(10, 16)]
    frames = decode(source.read(0), range(6))
    rendered = demo_frames(0, 10, SMALL.spec)
    assert np.abs(frames.astype(int) - rendered).mean() < 8  # but for the compression
    assert json.loads((tmp_path / "a" / "dataset.json").read_text())["train"] == 10
    with pytest.raises(FileExistsError, match="exists already"):
        write_demo(tmp_path / "a", SMALL)


def test_the_cache_is_filled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path))
    calls = []
    folder = cached_demo(SMALL, lambda *_: calls.append(1))
    assert cached_demo(SMALL, lambda *_: calls.append(1)) == folder
    assert len(calls) == 16
    assert folder.parent == tmp_path
    assert cached_demo(DemoSize(train=2, test=2, spec=SMALL.spec)) != folder
