"""The demo as shards: what is read from them is what the scenes say, and the curriculum that mixes its levels."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fastvid.data import LoaderState, MixtureSampler, join, open_source
from fastvid.data.text.conversation import conversations_of
from fastvid.projects.fvlm.curriculum import LevelShares
from fastvid.projects.fvlm.demo import cached_demo, demo_parts, write_demo
from fastvid.projects.fvlm.questions import answer_text, ask, question_text
from fastvid.projects.fvlm.render import render
from fastvid.projects.fvlm.scenes import TASKS, SceneConfig, draw_scenes
from fastvid.video import decode

CONFIG = SceneConfig(frames=4, tiles=3, train=24, val=4, test=4, seed=5)


@pytest.fixture
def demo(tmp_path) -> Path:
    write_demo(tmp_path / "demo", CONFIG)
    return tmp_path / "demo"


def test_shards_hold_the_scenes_pictures_and_questions(demo):
    parts = demo_parts(CONFIG)
    assert {name: (part.frames, part.tiles, len(part.indices)) for name, part in parts.items()} == {
        "train/1": (1, 1, 2), "train/2": (1, 2, 2), "train/3": (1, 3, 2), "train/4": (2, None, 4),
        "train/5": (3, None, 4), "train/6": (4, None, 10), "val": (4, 3, 4), "test": (4, 3, 4),
    }  # fmt: skip
    assert [index for part in parts.values() for index in part.indices] == list(range(32))  # no clip is in two parts
    for name, part in parts.items():
        source = open_source(demo / name)
        scenes = draw_scenes(replace(CONFIG, frames=part.frames), np.array(part.indices), part.tiles)
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
    assert len(files) == 3 * 8
    assert all((demo / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_the_demo_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path))
    said = []
    folder = cached_demo(CONFIG, lambda done, total: said.append((done, total)))
    assert said[-1] == (32, 32)
    assert json.loads((folder / "val" / "dataset.json").read_text())["made_by"]["tiles"] == 3
    assert cached_demo(CONFIG, lambda done, total: said.append((done, total))) == folder
    assert said[-1] == (32, 32)
    assert len(said) == 32
    assert list(tmp_path.iterdir()) == [folder]


def test_too_few_clips_are_refused():
    with pytest.raises(ValueError, match="20 clips to train with are too few for 13 levels"):
        SceneConfig(train=20)
    assert SceneConfig(frames=1, train=100, tiles=1).level_sizes == [100]
    for config in (SceneConfig(), SceneConfig(train=1001, frames=2), SceneConfig(frames=1, train=77)):
        assert sum(config.level_sizes) == config.train
        assert len(config.level_sizes) == len(demo_parts(config)) - 2


def test_first_the_tiles_rise_and_then_the_frames():
    shares = LevelShares(tiles=4, frames=3, hold=10, rise=40, frames_rise=20)(np.arange(100))
    assert shares.shape == (100, 6)
    assert np.allclose(shares.sum(1), 1)
    assert np.allclose(shares[:20], [1, 0, 0, 0, 0, 0])
    assert np.allclose(shares[20], [1 / 4, 3 / 4, 0, 0, 0, 0])
    assert np.allclose(shares[49], [1 / 8, 1 / 8, 1 / 8, 5 / 8, 0, 0])
    assert np.allclose(shares[50], [1 / 32, 1 / 32, 1 / 32, 5 / 32, 3 / 4, 0])
    assert np.allclose(shares[60:], [1 / 48, 1 / 48, 1 / 48, 5 / 48, 1 / 6, 2 / 3])
    assert np.allclose(LevelShares(2, 1, 0, 4, 4)(np.array([0, 9])), [[1, 0], [1 / 4, 3 / 4]])


def test_training_goes_through_the_levels(demo):
    levels = [open_source(demo / f"train/{level}") for level in range(1, 7)]
    train = join({str(level): source for level, source in enumerate(levels, start=1)})
    shares = LevelShares(CONFIG.tiles, CONFIG.frames, hold=2, rise=6, frames_rise=6)
    sampler = MixtureSampler([source.shard_sizes for source in levels], shares, batch=8, seed=0)
    shown = [train.samples[sampler.index(sampler.position(turn))].key.split("/")[0] for turn in range(8 * 40)]
    assert set(shown[:16]) == {"1"}
    assert set(shown[16:64]) == {"1", "2", "3"}
    assert shown[160:].count("6") == 100
    assert set(shown[160:]) == set("123456")
    assert sampler.coverage(LoaderState(0, 0)).clips == 0
