import json

import numpy as np
import pytest

from fastvid.data import open_source
from fastvid.data.demo.files import DemoSize, cached_demo, write_demo
from fastvid.data.demo.render import CLASSES, DemoSpec, demo_frames, demo_label, demo_motion
from fastvid.video import decode


def test_frames_are_a_function_of_seed_and_index():
    assert np.array_equal(demo_frames(3, 5), demo_frames(3, 5))
    assert not np.array_equal(demo_frames(3, 5), demo_frames(4, 5))
    assert not np.array_equal(demo_frames(3, 5), demo_frames(3, 9))
    assert demo_frames(0, 0, DemoSpec(size=48, frames=8)).shape == (8, 48, 48, 3)


def unwrapped(path: np.ndarray, size: int) -> np.ndarray:
    """The path on the plane that the torus is rolled up from."""
    steps = (np.diff(path, axis=0) + size / 2) % size - size / 2
    return np.cumsum(np.concatenate([path[:1], steps]), axis=0)


def test_the_motions_are_what_they_are_called():
    spec = DemoSpec()
    for index in range(40):
        path, radius = demo_motion(1, index, spec)
        path, label = unwrapped(path, spec.size), demo_label(index)
        bend, turn = np.diff(path, 2, axis=0), np.diff(path, 3, axis=0)
        if label == "linear":
            assert np.abs(bend).max() < 1e-3
            assert np.hypot(*(path[-1] - path[0])) > 0.3 * spec.size
        elif label == "parabolic":
            assert np.abs(bend[:, 0]).max() < 1e-3
            assert bend[:, 1].min() > 0.1
            assert np.abs(turn).max() < 1e-3
        else:  # the second difference of a circle points to its centre, always as far
            assert np.linalg.norm(bend, axis=1).std() < 0.05 * np.linalg.norm(bend, axis=1).mean()
            assert np.linalg.norm(bend, axis=1).mean() > 0.2
        assert (radius.max() / radius.min() > 1.2) == (label == "helical")


def test_the_shape_is_drawn_where_the_motion_says():
    spec = DemoSpec(texture=0.0)
    for index in range(8):
        path, _ = demo_motion(1, index, spec)
        for frame, (x, y) in zip(demo_frames(1, index, spec)[::5], path[::5], strict=True):
            colour = frame.astype(float)
            weight = np.clip(colour.max(-1) - colour.min(-1) - 90, 0, None)
            row, column = (np.exp(2j * np.pi * (np.arange(spec.size) + 0.5) / spec.size) for _ in range(2))
            found = [np.angle((weight.sum(0) * column).sum()), np.angle((weight.sum(1) * row).sum())]
            off = (np.array(found) / (2 * np.pi) * spec.size - [x, y] + spec.size / 2) % spec.size - spec.size / 2
            assert np.abs(off).max() < 1.5


def test_no_single_frame_tells_the_class():
    """In every frame of every class, where the shape is and how large it is are uniform: chi-square, 0.1 % level."""
    spec = DemoSpec(frames=9)
    motions = [demo_motion(2, index, spec) for index in range(4000)]
    low, high = (spec.size * r for r in spec.radius)
    for start, label in enumerate(CLASSES):
        for frame in (0, 4, 8):
            paths = np.stack([path[frame] for path, _ in motions[start::4]])
            sizes = np.array([radius[frame] for _, radius in motions[start::4]])
            depth = np.clip(np.log(sizes / low) / np.log(high / low), 0, 0.999)
            for values, bins in (((paths / spec.size * 4).astype(int) @ [1, 4], 16), (depth * 8 // 1, 8)):
                assert chi_square(values, bins) < CRITICAL[bins], (label, frame)


# Of chi-square with bins - 1 degrees of freedom at 0.1 %: 24 tests are made.
CRITICAL = {16: 37.70, 8: 24.32}


def chi_square(values: np.ndarray, bins: int) -> float:
    counts = np.bincount(values.astype(int), minlength=bins)
    expected = len(values) / bins
    return float(((counts - expected) ** 2 / expected).sum())


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
    described = json.loads((tmp_path / "a" / "train" / "dataset.json").read_text())
    assert (described["samples"], described["made_by"]["train"]) == (10, 10)
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
