"""The demo as shards: what is read from them is what the scenes say, and the curriculum that mixes its levels."""

import json
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

CONFIG = SceneConfig(tiles=3, train=12, val=4, test=4, seed=5)


@pytest.fixture
def demo(tmp_path) -> Path:
    write_demo(tmp_path / "demo", CONFIG)
    return tmp_path / "demo"


def test_shards_hold_the_scenes_pictures_and_questions(demo):
    parts = demo_parts(CONFIG)
    assert {name: (tiles, len(numbers)) for name, (tiles, numbers) in parts.items()} == {
        "train/1": (1, 3), "train/2": (2, 3), "train/3": (3, 6), "val": (3, 4), "test": (3, 4),
    }  # fmt: skip
    numbers = [number for _, clips in parts.values() for number in clips]
    assert numbers == list(range(20))  # no clip is in two parts
    for name, (tiles, clips) in parts.items():
        source = open_source(demo / name)
        scenes = draw_scenes(CONFIG, np.array(clips), tiles)
        pictures, asked = render(scenes), ask(scenes)
        assert len(source.samples) == len(clips)
        for index, sample in enumerate(source.samples):
            task = TASKS[asked.task[index]]
            assert sample.label == task
            assert np.array_equal(decode(source.read(index), range(CONFIG.frames)), pictures[index])
            found = conversations_of(source.fields(index), sample.caption)
            assert len(found) == tiles
            for slot, conversation in enumerate(found):
                (turn,) = conversation.turns
                assert turn.question == question_text(task, asked.colour[index, slot])
                assert turn.answer == answer_text(asked.letter[index, slot])
                assert conversation.gaze == tuple(asked.cell[index, slot])


def test_the_same_clips_give_the_same_bytes_with_any_number_of_processes(demo, tmp_path, monkeypatch):
    monkeypatch.setattr("fastvid.projects.fvlm.demo.cores", lambda: 1)
    monkeypatch.setattr("fastvid.projects.fvlm.demo._AT_ONCE", 100)
    write_demo(tmp_path / "again", CONFIG)
    files = sorted(path.relative_to(demo) for path in demo.rglob("*") if path.is_file())
    assert len(files) == 3 * 5
    assert all((demo / name).read_bytes() == (tmp_path / "again" / name).read_bytes() for name in files)


def test_the_demo_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTVID_CACHE", str(tmp_path))
    said = []
    folder = cached_demo(CONFIG, lambda done, total: said.append((done, total)))
    assert said[-1] == (20, 20)
    assert json.loads((folder / "val" / "dataset.json").read_text())["made_by"]["tiles"] == 3
    assert cached_demo(CONFIG, lambda done, total: said.append((done, total))) == folder
    assert said[-1] == (20, 20)
    assert len(said) == 20
    assert list(tmp_path.iterdir()) == [folder]


def test_too_few_clips_are_refused():
    with pytest.raises(ValueError, match="15 clips to train with are too few for 8 levels of two tasks"):
        SceneConfig(train=15)
    assert SceneConfig(train=100, tiles=1).level_sizes == [100]
    assert sum(SceneConfig(train=1001).level_sizes) == 1001


def test_levels_rise_and_the_highest_in_use_has_its_share():
    shares = LevelShares(levels=4, rise=40)(np.arange(100))
    assert shares.shape == (100, 4)
    assert np.allclose(shares[40:].sum(1), 1)
    highest = [int(np.flatnonzero(row).max()) + 1 for row in shares]
    assert [highest[batch] for batch in (0, 9, 10, 20, 30, 39, 40, 99)] == [1, 1, 2, 3, 4, 4, 4, 4]
    assert np.allclose(shares[50], [1 / 6, 1 / 6, 1 / 6, 0.5])
    assert np.allclose(shares[0] / shares[0].sum(), [1, 0, 0, 0])


def test_the_first_level_is_held():
    held, plain = LevelShares(4, 40, hold=7)(np.arange(60)), LevelShares(4, 40)(np.arange(60))
    assert np.array_equal(held[7:], plain[:-7])
    assert np.array_equal(held[:7], np.tile(plain[0], (7, 1)))


def test_training_goes_through_the_levels(demo):
    levels = [open_source(demo / f"train/{level}") for level in (1, 2, 3)]
    train = join({str(level): source for level, source in enumerate(levels, start=1)})
    sampler = MixtureSampler([source.shard_sizes for source in levels], LevelShares(3, 6), batch=4, seed=0)
    shown = [train.samples[sampler.index(sampler.position(turn))].key.split("/")[0] for turn in range(80)]
    assert set(shown[:8]) == {"1"}
    assert shown[8:16].count("2") == 4
    assert shown[40:].count("3") == 20
    assert sampler.coverage(LoaderState(0, 0)).clips == 0
