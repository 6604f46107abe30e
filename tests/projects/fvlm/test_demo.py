"""The demo as shards: what is read from them is what the scenes say, and the curriculum goes through its parts."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastvid.data import LoaderState, MixtureSampler, join, open_source
from fastvid.data.text.conversation import conversations_of
from fastvid.projects.fvlm.curriculum import PartsInTurn
from fastvid.projects.fvlm.demo import cached_demo, demo_parts, write_demo
from fastvid.projects.fvlm.questions import answer_text, ask, question_text
from fastvid.projects.fvlm.render import render
from fastvid.projects.fvlm.scenes import TASKS, SceneConfig, draw_scenes
from fastvid.video import decode

CONFIG = SceneConfig(frames=4, tiles=5, train=24, val=4, test=4, seed=5)


@pytest.fixture
def demo(tmp_path) -> Path:
    write_demo(tmp_path / "demo", CONFIG)
    return tmp_path / "demo"


def test_shards_hold_the_scenes_pictures_and_questions(demo):
    parts = demo_parts(CONFIG)
    assert {name: (part.frames, part.tiles, part.varied, len(part.indices)) for name, part in parts.items()} == {
        "train/one-tile": (1, 1, False, 3), "train/one-frame": (1, 5, True, 6), "train/two-frames": (2, 5, True, 6),
        "train/whole": (4, None, False, 9), "val": (4, 5, False, 4), "test": (4, 5, False, 4),
    }  # fmt: skip
    assert [index for part in parts.values() for index in part.indices] == list(range(32))  # no clip is in two parts
    for name, part in parts.items():
        source = open_source(demo / name)
        tiles = 1 + np.array(part.indices) // 2 % part.tiles if part.varied else part.tiles
        scenes = draw_scenes(replace(CONFIG, frames=part.frames), np.array(part.indices), tiles)
        pictures, asked = render(scenes), ask(scenes)
        assert len(source.samples) == len(part.indices)
        for index, sample in enumerate(source.samples):
            task = TASKS[asked.task[index]]
            assert sample.label == task
            assert np.array_equal(decode(source.read(index), range(part.frames)), pictures[index])
            found = conversations_of(source.fields(index), sample.caption)
            assert len(found) == scenes.tiles[index]
            for slot, conversation in enumerate(found):
                (turn,) = conversation.turns
                assert turn.question == question_text(task, asked.colour[index, slot])
                assert turn.answer == answer_text(asked.letter[index, slot])
                assert len(turn.answer.split()) == part.frames
                assert conversation.gaze == tuple(asked.cell[index, slot])


def test_the_same_clips_give_the_same_bytes_with_any_number_of_processes(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("fastvid.projects.fvlm.demo.cores", lambda: 1)
    monkeypatch.setattr("fastvid.projects.fvlm.demo._AT_ONCE", 100)
    write_demo(tmp_path / "again", CONFIG)
    files = sorted(path.relative_to(demo) for path in demo.rglob("*") if path.is_file())
    assert len(files) == 3 * 6
    assert all((demo / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_the_demo_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path))
    said = []
    folder = cached_demo(CONFIG, lambda done, total: said.append((done, total)))
    assert said[-1] == (32, 32)
    assert json.loads((folder / "val" / "dataset.json").read_text())["made_by"]["tiles"] == 5
    assert cached_demo(CONFIG, lambda done, total: said.append((done, total))) == folder
    assert said[-1] == (32, 32)
    assert len(said) == 32
    assert list(tmp_path.iterdir()) == [folder]


def test_too_few_clips_are_refused():
    with pytest.raises(ValueError, match="15 clips to train with are too few"):
        SceneConfig(train=15)


def test_the_easier_parts_have_every_number_of_tiles_for_both_tasks(tmp_path):
    write_demo(tmp_path / "demo", SceneConfig(frames=2, tiles=3, train=48, val=2, test=2))
    for name in ("one-frame", "two-frames"):
        source = open_source(tmp_path / "demo" / "train" / name)
        found = [
            (sample.label, len(source.fields(index)["conversations"])) for index, sample in enumerate(source.samples)
        ]
        assert Counter(found) == {(task, tiles): 2 for task in TASKS for tiles in (1, 2, 3)}


def test_training_goes_through_the_parts_one_after_the_other(demo):
    names = [name for name in demo_parts(CONFIG) if name.startswith("train/")]
    parts = [open_source(demo / name) for name in names]
    train = join(dict(zip(names, parts, strict=True)))
    sampler = MixtureSampler([part.shard_sizes for part in parts], PartsInTurn((2, 5, 3)), batch=4, seed=0)
    shown = [train.samples[sampler.index(sampler.position(turn))].key.split("/")[1] for turn in range(4 * 20)]
    assert shown == ["one-tile"] * 8 + ["one-frame"] * 20 + ["two-frames"] * 12 + ["whole"] * 40
    assert PartsInTurn((0, 2))(np.arange(3)).tolist() == [[0, 1, 0], [0, 1, 0], [0, 0, 1]]
    end = LoaderState().advance(80, len(sampler))
    assert [part.clips for part in sampler.part_coverage(end)] == [8, 20, 12, 40]
    assert str(sampler.coverage(end)) == "80 clips of 24 unique samples (3.33 times each; 24 there are)"
