"""From videos to tokens, and the cache of them."""

import logging

import numpy as np
import pytest

from fastvid.projects.trajectory.config import TokenConfig
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.tokens import load_tokens

SMALL = SceneConfig(train=64, val=24, test=24)
PLAIN = TokenConfig(tracker="truth", features="pixels")


def load(split="train", folder=None, data=SMALL, config=PLAIN, **options):
    return load_tokens(data, config, split, folder=folder, **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tokens")


def test_tokens_lie_together_by_video_frame_and_track(folder):
    tokens = load(folder=folder)
    assert len(tokens) == len(tokens.keys) == len(tokens.offsets) - 1
    for v in range(len(tokens)):
        one = tokens.video(v)
        order = np.lexsort((one.track, one.frame))
        assert np.array_equal(order, np.arange(len(order)))
        assert one.persistent.any()


def test_the_persistent_object_of_seed_has_a_token_in_every_frame_and_a_white_crop(folder):
    tokens = load(folder=folder)
    crops = tokens.features.reshape(-1, 3, 8, 8)[:, :, 3:5, 3:5].mean((2, 3))
    plain = crops[tokens.persistent].mean(0), crops[~tokens.persistent].mean(0)
    assert (plain[0] > 0.6).all()
    assert plain[1][0] > 0.5
    assert (plain[1][1:] < 0).all()
    assert tokens.persistent.sum() >= 0.98 * len(tokens) * tokens.frames


def test_velocity_is_the_way_since_the_previous_token_of_the_track(folder):
    one = load(folder=folder).video(0)
    rows = np.flatnonzero(one.track == one.track[one.persistent][0])
    centre = (one.boxes[rows, :2] + one.boxes[rows, 2:]) / 2
    assert np.array_equal(one.velocity[rows[0]], [0, 0])
    np.testing.assert_allclose(
        one.velocity[rows[1:]], np.diff(centre, axis=0) / np.diff(one.frame[rows])[:, None], atol=1e-6
    )


def test_parts_share_no_video_and_have_the_classes_in_the_same_proportion(folder):
    parts = [load(split, folder) for split in ("train", "val", "test")]
    keys = [key for part in parts for key in part.keys]
    assert len(set(keys)) == len(keys) == 112
    for part in parts:
        share = np.bincount(part.motion, minlength=4) / len(part)
        np.testing.assert_allclose(share, 0.25, atol=0.08)


def test_subset_takes_videos_in_the_order_given(folder):
    tokens = load(folder=folder)
    some = tokens.subset([5, 2])
    assert some.keys == [tokens.keys[5], tokens.keys[2]]
    assert np.array_equal(some.video(1).features, tokens.video(2).features)
    assert np.array_equal(some.offsets, [0, *np.cumsum(tokens.counts[[5, 2]])])


def test_a_second_call_reads_the_same_and_makes_nothing(folder, monkeypatch):
    first = load(folder=folder)
    monkeypatch.setattr("fastvid.projects.trajectory.tokens.make_tokens", None)
    again = load(folder=folder)
    assert again.keys == first.keys
    assert np.array_equal(again.features, first.features)


@pytest.mark.parametrize("change", [lambda data: data[: len(data) // 2], lambda data: data[:-9] + b"\0" + data[-8:]])
def test_damaged_tokens_are_made_anew_and_that_is_said(tmp_path, caplog, change):
    first = load(folder=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(change(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = load(folder=tmp_path)
    assert "damaged" in caplog.text
    assert "made anew" in caplog.text
    assert np.array_equal(again.boxes, first.boxes)
    caplog.clear()
    assert np.array_equal(load(folder=tmp_path).features, first.features)
    assert not caplog.text


def test_tokens_of_other_options_are_not_taken_for_these(tmp_path, caplog):
    load(folder=tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    load(folder=tmp_path, data=SceneConfig(train=64, val=24, test=24, seed=1))
    other = next(p for p in tmp_path.glob("*.safetensors") if p != path)
    path.write_bytes(other.read_bytes())
    with caplog.at_level(logging.WARNING):
        load(folder=tmp_path)
    assert "holds other tokens" in caplog.text
