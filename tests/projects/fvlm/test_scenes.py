"""The demo's scenes: pure functions of (seed, index), and questions whose answers and places the pictures bear out."""

import numpy as np
import pytest

from fastvid.projects.fvlm.glyphs import CELL, COLOURS, LETTERS, tile_bitmaps
from fastvid.projects.fvlm.questions import answer_text, ask, question_text
from fastvid.projects.fvlm.render import render
from fastvid.projects.fvlm.scenes import TASKS, SceneConfig, draw_scenes

_NAMES = list(COLOURS)


def test_a_scene_does_not_depend_on_those_drawn_with_it():
    for background in ("plain", "texture", "moving"):
        config = SceneConfig(seed=3, background=background, jitter=2)
        many, one = draw_scenes(config, np.arange(9)), draw_scenes(config, np.array([7]))
        assert np.array_equal(render(many)[7:8], render(one))
        assert np.array_equal(ask(many).letter[7:8], ask(one).letter)
    assert not np.array_equal(draw_scenes(SceneConfig(seed=4), np.arange(9)).cell, many.cell)


def test_tiles_move_by_one_cell_and_never_share_a_cell_a_colour_or_a_letter():
    config = SceneConfig(tiles=12, cells=4)  # crowded
    scenes = draw_scenes(config, np.arange(64), 12)
    step = np.abs(np.diff(np.stack(np.divmod(scenes.cell, 4)), axis=-1))
    assert step.max() == 1
    assert (step.max(0) == 1).mean() > 0.1
    for what in (scenes.cell, scenes.letter, np.repeat(scenes.colour[..., None], config.frames, -1)):
        assert (np.diff(np.sort(what, axis=1), axis=1) > 0).all()


def test_fewer_frames_are_the_beginning_of_a_scene():
    whole, short = (draw_scenes(SceneConfig(frames=frames, jitter=2), np.arange(20)) for frames in (6, 2))
    assert np.array_equal(render(whole)[:, :2], render(short))
    assert np.array_equal(ask(whole).letter[..., :2], ask(short).letter)
    assert np.array_equal(ask(whole).cell[..., :2], ask(short).cell)


def test_levels_are_drawn_or_given():
    config = SceneConfig()
    drawn = draw_scenes(config, np.arange(800)).tiles
    assert np.array_equal(np.unique(drawn), np.arange(1, 9))
    counts = np.bincount(drawn)[1:]
    assert counts[:-1].min() > 30  # 50 are expected of each
    assert 400 < counts[-1] < 500
    given = draw_scenes(config, np.arange(8), np.arange(1, 9))
    assert np.array_equal(given.exists.sum(1), np.arange(1, 9))
    with pytest.raises(ValueError, match="1 to 8 tiles; got 9 to 9"):
        draw_scenes(config, np.arange(2), 9)
    with pytest.raises(ValueError, match="do not fit"):
        SceneConfig(tiles=9, cells=3)


def _read(frame: np.ndarray, cell: int, cells: int) -> tuple[int, int]:
    """Return colour and letter of the tile in a cell, from its pixels alone."""
    row, column = divmod(cell, cells)
    pixels = frame[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].astype(int)
    colour = np.abs(np.array(list(COLOURS.values())) - pixels[1, 1]).sum(-1).argmin()
    tile, letters = tile_bitmaps()
    wrong = ((pixels.sum(-1) == 0) != letters)[:, tile].sum(-1)
    assert wrong.min() == 0
    return int(colour), int(wrong.argmin())


@pytest.mark.parametrize("index", range(6))
def test_the_pictures_bear_out_question_answer_and_truth(index):
    config = SceneConfig(seed=1)
    scenes = draw_scenes(config, np.array([index]), 5)
    frames, asked = render(scenes)[0], ask(scenes)
    assert TASKS[asked.task[0]] == ("chain" if index % 2 else "tiles")
    for slot in range(5):
        want = asked.colour[0, slot]
        for t in range(config.frames):
            colour, letter = _read(frames[t], int(asked.cell[0, slot, t]), config.cells)
            assert (colour, letter) == (want, asked.letter[0, slot, t])
            if index % 2:
                want = letter  # the letter names the next colour
                assert LETTERS[letter] == _NAMES[letter][0].upper()


def test_chain_can_only_be_asked_of_scenes_made_for_it():
    scenes = draw_scenes(SceneConfig(), np.arange(4))
    assert scenes.chain.tolist() == [False, True, False, True]
    with pytest.raises(ValueError, match="odd numbers"):
        ask(scenes, "chain")
    odd = draw_scenes(SceneConfig(), np.array([1, 3]), 8)
    assert not np.array_equal(ask(odd, "chain").cell, ask(odd, "tiles").cell)


def test_words():
    assert question_text("tiles", 0) == "Read the tile that is red"
    assert question_text("chain", 11) == "Follow the letters from violet"
    assert answer_text(np.array([0, 5, 11])) == "R C V"
    assert len(set(LETTERS)) == len(LETTERS)


def test_no_static_guess_answers_chain():
    """No cell, and no letter that is shown, is the answer much more often than the others."""
    scenes = draw_scenes(SceneConfig(), np.arange(1, 4001, 2), 8)
    asked = ask(scenes)
    later = asked.cell[..., 1:]
    assert np.bincount(later.reshape(-1)).max() / later.size < 0.05
    assert np.bincount(asked.letter[..., 1:].reshape(-1)).max() / later.size < 0.15
    assert (later == asked.cell[..., :1]).mean() < 0.08  # nor does the tile that was read first tell
