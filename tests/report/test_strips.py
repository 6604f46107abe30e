"""Film strips with words."""

import numpy as np
import pytest
from PIL import Image

from fastvid.report.strips import Strips, strips_png


def clip(colour, frames=16, height=20, width=20):
    return np.full((frames, height, width, 3), colour, dtype=np.uint8)


def drawn(path):
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def area(path, colour):
    return int((drawn(path) == colour).all(-1).sum())


def test_pixels_are_shown_as_they_are(tmp_path):
    red, blue = (201, 3, 7), (5, 9, 203)
    path = tmp_path / "new" / "strips.png"
    strips_png(path, [Strips("one", [clip(red), clip(blue)], ["a", "b"]), Strips("two", [clip(red)])], side=40)
    assert area(path, red) == 2 * 8 * 40 * 40
    assert area(path, blue) == 8 * 40 * 40


def test_frames_are_evenly_spaced_and_keep_their_proportions(tmp_path):
    frames = np.concatenate([clip((10 * i, 0, 100), 1, 10, 20) for i in range(9)])
    strips_png(tmp_path / "a.png", [Strips("", [frames])], frames=3, side=40)
    assert [area(tmp_path / "a.png", (10 * i, 0, 100)) for i in range(9)] == [800, 0, 0, 0, 800, 0, 0, 0, 800]
    strips_png(tmp_path / "b.png", [Strips("", [clip((9, 9, 9), 2)])], side=40)  # fewer frames than asked for
    assert area(tmp_path / "b.png", (9, 9, 9)) == 2 * 40 * 40


def test_words_are_drawn_and_never_read_as_formulas(tmp_path):
    def ink(title, label="", note=""):
        strips_png(tmp_path / "a.png", [Strips(title, [clip((255, 255, 255))], [label], note)], side=40)
        return int((drawn(tmp_path / "a.png") < 200).all(-1).sum())

    empty = ink("")
    assert empty == 0
    assert ink("title") > 20
    assert ink("", "label") > 10
    assert ink("", "", "note") > 10
    assert ink(r"$\notacommand{$ and $x") > 20


def test_words_that_are_too_long_are_cut(tmp_path):
    white = [clip((255, 255, 255))]
    strips_png(tmp_path / "short.png", [Strips("title", white)], side=40)
    strips_png(tmp_path / "long.png", [Strips("title " * 200, white, (), "note " * 200)], side=40)
    short, long = drawn(tmp_path / "short.png"), drawn(tmp_path / "long.png")
    assert short.shape == long.shape
    assert (long[:, -5:] == 255).all()


def test_the_same_clips_give_the_same_file(tmp_path):
    for name in ("a", "b"):
        strips_png(tmp_path / name, [Strips("title", [clip((1, 2, 3))])])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("groups", [[], [Strips("empty", [])]])
def test_nothing_to_draw_is_refused(tmp_path, groups):
    with pytest.raises(ValueError, match="at least one clip"):
        strips_png(tmp_path / "a.png", groups)
    assert list(tmp_path.iterdir()) == []


def test_a_label_of_wide_letters_is_whole(tmp_path):
    frames = np.zeros((1, 8, 8, 3), np.uint8)
    strips_png(tmp_path / "a.png", [Strips("", [frames], ["m m m m m m m m m m m m"])], side=40)
    page = np.asarray(Image.open(tmp_path / "a.png").convert("RGB"))
    assert (page[:, :8] == 255).all()  # nothing is cut off at the edge
    assert (page[34:-10, 10:60] < 255).any()
