"""The options of a run, and what they become."""

import json
from pathlib import Path

import pytest

from fastvid.nn.augment import Augment
from fastvid.projects.vjepa2.config import AugmentConfig, VJepa2Config
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.train.config import to_dict
from fastvid.video import ViewSpec

OLD = Path(__file__).parents[2] / "old_runs" / "vjepa2"


def test_options_of_augmentation_become_an_augmentation():
    config = AugmentConfig(brightness=0.1, contrast=0.2, saturation=0.3, hue=0.4, randaugment=2, magnitude=7)
    assert config.augment(5) == Augment(0.1, 0.2, 0.3, 0.4, randaugment=(2, 7), seed=5)
    assert AugmentConfig(magnitude=7, mixup=0.5).augment(0).does_nothing


def test_a_configuration_has_the_names_that_older_files_have():
    before = json.loads((OLD / "config.json").read_text())
    assert list(to_dict(VJepa2Config())["augment"]) == list(before["augment"])


def test_metadata_keep_the_evaluation_views_and_nothing_of_the_training():
    spec = ViewSpec(frames=4, size=32, sampling="fps", fps=3.0, scale=(0.5, 0.6), jitter=0.5, crop=0.875)
    about = ClassifierMetadata("tiny", ("a", "b"), init="tiny", views=spec)
    assert about.views == ViewSpec(frames=4, size=32, sampling="fps", fps=3.0, flip=0.0, crop=0.875)
    assert ClassifierMetadata.from_json(about.to_json(), Path("classifier.json")) == about


def test_metadata_have_the_names_that_older_files_have():
    (path,) = OLD.rglob("classifier.json")
    before = json.loads(path.read_text())
    again = json.loads(ClassifierMetadata.from_json(path.read_bytes(), path).to_json())
    assert again == before


@pytest.mark.parametrize("changes", [{"frames": 0}, {"sampling": "speed"}, {"crop": 2.0}])
def test_metadata_of_impossible_views_are_refused(changes):
    (path,) = OLD.rglob("classifier.json")
    text = json.dumps({**json.loads(path.read_text()), **changes})
    with pytest.raises(ValueError, match="is damaged: ViewSpec"):
        ClassifierMetadata.from_json(text, path)
