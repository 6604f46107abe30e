"""Pictures of a gaze: bright where attention is, and words that come with the frames."""

import numpy as np
import pytest

from fastvid.report.gaze import Gaze, gaze_video, spotlight

FRAMES = np.full((2, 8, 16, 3), 200, np.uint8)


def sharp(patch):
    attention = np.zeros((2, 2, 4))
    attention.reshape(2, 8)[:, patch] = 1
    return attention


def middle(image, patch):
    """The pixel in the middle of one of 2 x 4 patches."""
    row, column = divmod(patch, 4)
    height, width = image.shape[:2]
    return image[(2 * row + 1) * height // 4, (2 * column + 1) * width // 8].tolist()


def test_the_patch_with_attention_keeps_its_brightness_and_the_others_are_dark():
    lit = spotlight(FRAMES, sharp(6), side=64)
    assert lit.shape == (2, 32, 64, 3)
    assert middle(lit[0], 6) == [200, 200, 200]
    assert middle(lit[0], 1)[0] < 70


def test_uniform_attention_leaves_the_frame_as_it_is():
    lit = spotlight(FRAMES, np.full((2, 2, 4), 1 / 8), side=64)
    assert all(middle(lit[1], patch) == [200, 200, 200] for patch in range(1, 8))


def test_the_peak_and_the_truth_are_marked():
    lit = spotlight(FRAMES, sharp(6), truth=[1, -1], side=160)
    yellow, white = ((lit == colour).all(-1) for colour in ((255, 214, 10), (255, 255, 255)))
    assert yellow[0].any()
    assert not yellow[0, :40].any()  # patch 6 is in the lower half
    assert white[0].any()
    assert not white[1].any()


def test_frames_and_attention_must_fit():
    with pytest.raises(ValueError, match="need attention"):
        spotlight(FRAMES, np.ones((3, 2, 4)))


def test_a_video_has_the_gazes_side_by_side_and_a_word_more_each_frame():
    one = Gaze("fine", sharp(6), ["A", "B"], [6, 6])
    video = gaze_video(
        FRAMES, [one, Gaze("coarse", sharp(0), ["C", "D"])], "Where is it, and what does it say?", side=160
    )
    assert video.shape[0] == 2
    assert video.shape[1] % 2 == video.shape[2] % 2 == 0
    assert video.shape[2] == 2 * 160 + 8
    below = video[:, -24:, :160].astype(int)
    assert (below[1] > 200).sum() > (below[0] > 200).sum() > 0  # ink of the second word
    alone = gaze_video(FRAMES, [Gaze("fine", sharp(6))], "", side=160)
    assert alone.shape[2] == 160
