"""Which clips the pictures of a V-JEPA 2 run show."""

import numpy as np
import pytest
import torch
from PIL import Image

from fastvid.data import EvaluationDraws, open_source
from fastvid.data.demo.files import encode_h264
from fastvid.data.demo.render import DemoSpec, demo_frames
from fastvid.data.loader.decode_ahead import decode_sample
from fastvid.eval.classification import Classification
from fastvid.latents.compute import TrainingDraws
from fastvid.nn.augment import Augment
from fastvid.projects.vjepa2 import pictures as vjepa2_pictures
from fastvid.projects.vjepa2.pictures import mistakes, training_views
from fastvid.video import ViewSpec

VIEWS = ViewSpec(frames=4, size=32, sampling="stride", stride=2, scale=(0.5, 0.8))
JUDGED = EvaluationDraws(VIEWS, clips=3, crops=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Three classes of four videos; the first of class a is damaged."""
    folder = tmp_path_factory.mktemp("videos")
    for i, name in enumerate(f"{c}/{number}" for number in range(4) for c in "abc"):
        path = folder / f"{name}.mp4"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(encode_h264(demo_frames(0, i, DemoSpec(size=48, frames=16)), 8))
    (folder / "a" / "0.mp4").write_bytes(b"no video")
    return open_source(folder)


@pytest.fixture
def shown(monkeypatch):
    """What is drawn."""
    groups = []
    draw = vjepa2_pictures.strips_png

    def note(path, strips, **how):
        groups.extend(strips)
        draw(path, strips, **how)

    monkeypatch.setattr(vjepa2_pictures, "strips_png", note)
    return groups


def training(count, augment):
    return TrainingDraws(VIEWS, 5, count, frozenset(), augment)


@pytest.mark.parametrize("count", [1, 3])
def test_training_clips_of_different_classes_beside_how_they_are_judged(source, shown, tmp_path, count):
    draws = training(count, Augment(brightness=0.5))
    training_views(tmp_path / "pictures" / "views.png", source, draws, JUDGED)
    # Each class in turn; what does not decode is passed over.
    assert [group.note for group in shown] == ["b/0.mp4", "c/0.mp4", "a/1.mp4", "b/1.mp4"]
    assert [group.title for group in shown] == ["b", "c", "a", "b"]
    rows = {sample.key: row for row, sample in enumerate(source.samples)}
    for group in shown:
        assert list(group.labels) == ["evaluation", "training 1", "training 2"][: 1 + min(2, count)]
        judged = decode_sample(JUDGED, source, rows[group.note]).pixels[4]  # the middle clip's middle square
        trained = decode_sample(draws, source, rows[group.note]).pixels
        for clip, expected in zip(group.clips, [judged, *trained], strict=False):
            assert np.array_equal(clip, expected)
    with Image.open(tmp_path / "pictures" / "views.png") as image:
        assert image.size > (400, 400)


def test_a_picture_that_is_there_stays(source, shown, tmp_path):
    (tmp_path / "views.png").write_bytes(b"as it was")
    training_views(tmp_path / "views.png", source, training(2, Augment()), JUDGED)
    assert shown == []
    assert (tmp_path / "views.png").read_bytes() == b"as it was"


def judgement(source, wrong):
    """A classification of all that decodes, right but for ``wrong``: {key: (class id, its probability)}."""
    keys = [sample.key for sample in source.samples if sample.key != "a/0.mp4"]
    labels = torch.tensor(["abc".index(key[0]) for key in keys])
    probabilities = torch.full((len(keys), 3), 0.05)
    for row, key in enumerate(keys):
        given, sure = wrong.get(key, (int(labels[row]), 0.9))
        probabilities[row] = (1 - sure) / 2
        probabilities[row, given] = sure
    return Classification(["a", "b", "c"], keys, labels, probabilities)


def test_the_surest_mistakes_come_first(source, shown, tmp_path):
    test = judgement(source, {"b/1.mp4": (0, 0.62), "c/3.mp4": (1, 0.971), "a/2.mp4": (2, 0.4)})
    mistakes(tmp_path / "mistakes.png", source, test, JUDGED)
    assert [group.title for group in shown] == ["c → b (0.97)", "b → a (0.62)", "a → c (0.40)"]
    assert [group.note for group in shown] == ["c/3.mp4", "b/1.mp4", "a/2.mp4"]
    assert (tmp_path / "mistakes.png").exists()


def test_there_are_at_most_eight_and_without_any_no_picture(source, shown, tmp_path):
    mistakes(tmp_path / "none.png", source, judgement(source, {}), JUDGED)
    assert list(tmp_path.iterdir()) == []
    wrong = {sample.key: ("abc".index(sample.key[0]) - 1, 0.8) for sample in source.samples}
    wrong = {key: (given % 3, sure) for key, (given, sure) in wrong.items()}
    mistakes(tmp_path / "all.png", source, judgement(source, wrong), JUDGED)
    assert len(shown) == 8
