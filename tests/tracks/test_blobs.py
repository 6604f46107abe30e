"""Blobs of foreground pixels."""

import numpy as np

from fastvid.tracks.blobs import find_blobs, median_background


def black(videos=1, frames=1, size=16):
    return np.zeros((videos, frames, size, size, 3), np.uint8)


def test_the_box_and_colour_of_a_blob():
    frames = black(videos=2, frames=3)
    frames[1, 2, 4:8, 2:10] = [200, 100, 50]
    found = find_blobs(frames, "threshold")
    assert (found.video.tolist(), found.frame.tolist()) == ([1], [2])
    np.testing.assert_allclose(found.boxes, [[2 / 16, 4 / 16, 10 / 16, 8 / 16]])
    np.testing.assert_allclose(found.colour, np.array([[200, 100, 50]]) / 255, rtol=1e-6)


def test_blobs_of_neighbouring_frames_are_not_joined_and_pixels_that_touch_at_a_corner_are():
    frames = black(frames=2)
    frames[0, :, 2:5, 2:5] = 255
    frames[0, 0, 5:8, 5:8] = 255  # touches the first one at a corner
    found = find_blobs(frames, "threshold")
    assert found.frame.tolist() == [0, 1]
    np.testing.assert_allclose(found.boxes * 16, [[2, 2, 8, 8], [2, 2, 5, 5]])


def test_specks_are_no_blobs():
    frames = black()
    frames[0, 0, 3, 3:6] = 255
    assert not len(find_blobs(frames, "threshold").video)


def test_nothing_in_sight_gives_no_blobs():
    found = find_blobs(black(videos=2, frames=2), "threshold")
    assert found.boxes.shape == (0, 4)
    assert found.colour.shape == (0, 3)


def test_the_median_finds_what_moves_before_any_background():
    rng = np.random.default_rng(0)
    still = rng.integers(0, 200, (16, 16, 3), np.uint8)
    frames = np.repeat(still[None, None], 9, axis=1)
    for t in range(9):
        frames[0, t, 6:9, t : t + 3] = [255, 255, 255]
    np.testing.assert_array_equal(median_background(frames)[0, :6], still[:6])
    found = find_blobs(frames, "median")
    assert found.frame.tolist() == list(range(9))
    np.testing.assert_allclose(found.boxes[4] * 16, [4, 6, 7, 9])
