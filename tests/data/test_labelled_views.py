"""Classes that a mirror changes, and the views and labels that training gets."""

import pytest

from fastvid.data import Sample, ViewDraws, mirror_changes, open_parts, open_source, split_labelled
from fastvid.video import ViewSpec, probe
from tests.data.labelled_videos import keys, write_shards
from tests.data.loading import train_loader
from tests.data.test_sources import VIDEO, make_folder


def test_classes_that_a_mirror_changes():
    names = ["Pulling something from left to right", "TurnLeft", "swipe_right", "Swing Clockwise", "counter-clockwise"]
    same = ["bright room", "upright", "leftover food", "waving", "Turning something upside down"]
    assert mirror_changes(names + same) == set(names)
    assert mirror_changes(names + same, also=["waving"]) == {*names, "waving"}
    with pytest.raises(ValueError, match=r"'wave': .* a, b"):
        mirror_changes(["b", "a"], also=["wave"])


SPEC = ViewSpec(frames=4, size=16)


def test_a_view_that_is_not_flipped_is_otherwise_the_same():
    info = probe(VIDEO)
    flipped = 0
    for i in range(40):
        sample = Sample(f"k{i}", "left")
        drawn = SPEC.draw(sample.key, 0, 0, info)
        kept = ViewDraws(SPEC, 0, no_flip=frozenset({"left"})).view(sample, 0, info)
        assert (kept.frames, kept.box, kept.flip) == (drawn.frames, drawn.box, False)
        assert (kept.hash == drawn.hash) == (not drawn.flip)
        assert ViewDraws(SPEC, 0, no_flip=frozenset({"right"})).view(sample, 0, info) == drawn
        flipped += drawn.flip
    assert 5 < flipped < 35


def test_the_loader_flips_no_clip_of_such_a_class(tmp_path):
    make_folder(tmp_path, [f"{label}/{i}.mp4" for label in ("left", "still") for i in range(8)])
    source, info = open_source(tmp_path), probe(VIDEO)
    with train_loader(source, SPEC, batch=16, seed=5, no_flip=["left"]) as loader:
        batch = next(loader)
    views = [SPEC.draw(key, 5, 0, info) for key in batch.keys]
    assert {(view.flip, label) for view, label in zip(views, batch.labels, strict=True)} >= {
        (True, "left"),
        (True, "still"),
    }
    draws = ViewDraws(SPEC, 5, no_flip=frozenset({"left"}))
    wanted = [draws.view(Sample(v.key, k), 0, info) for v, k in zip(views, batch.labels, strict=True)]
    assert batch.view_hashes.tolist() == [view.hash for view in wanted]
    with train_loader(source, SPEC, batch=16, seed=5) as loader:
        plain_batch = next(loader)
    for k, (view, label) in enumerate(zip(views, batch.labels, strict=True)):
        pixels = plain_batch.clips[k].flip(2) if view.flip and label == "left" else plain_batch.clips[k]
        assert bool((batch.clips[k] == pixels).all())


def test_a_training_part_loads_with_its_new_labels(tmp_path):
    for part in ("train", "test"):
        write_shards(tmp_path / part, [f"{i:02d}" for i in range(24)], lambda name: "abc"[int(name) % 3])
    splits = split_labelled(
        open_parts(tmp_path), protocol="folders", classes={"a": "one", "*": "rest"}, videos_per_class=4
    )
    with train_loader(splits.train, SPEC, batch=8, seed=0) as loader:
        batch = next(loader)
    assert sorted(batch.keys) == sorted(keys(splits.train))
    assert sorted(batch.labels) == ["one"] * 4 + ["rest"] * 4
    for key, label in zip(batch.keys, batch.labels, strict=True):
        assert label == ("one" if int(key[-2:]) % 3 == 0 else "rest")
