"""Linking of blobs to tracks."""

import sys

import numpy as np
import pytest

from fastvid.tracks.blobs import Detections
from fastvid.tracks.follow import followed_objects, overlaps
from fastvid.tracks.link import link
from fastvid.tracks.norfair import link_with_norfair
from fastvid.tracks.tracks import Tracks, make_tracks, truth_tracks

RED, BLUE = (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)


def detections(*blobs, videos=1, frames=16):
    """Blobs given as (video, frame, x, y, colour), 0.1 of the frame wide and high."""
    video, frame, x, y, colour = (np.array(column) for column in zip(*sorted(blobs, key=lambda b: b[:2]), strict=True))
    middle = np.stack([x, y], 1)
    boxes = np.concatenate([middle - 0.05, middle + 0.05], 1).astype(np.float32)
    return Detections(videos, frames, video, frame, boxes, colour.astype(np.float32))


def path(frames, colour=RED, start=0.1, step=0.05, y=0.5, video=0):
    return [(video, t, start + step * t, y, colour) for t in frames]


def of(tracks, track):
    return tracks.frame[tracks.track == track].tolist()


def test_two_objects_that_cross_keep_their_tracks():
    there = [(0, t, 0.2 + 0.05 * t, 0.2 + 0.05 * t, RED) for t in range(12)]
    back = [(0, t, 0.78 - 0.05 * t, 0.2 + 0.05 * t, RED) for t in range(12)]
    found = link(detections(*there, *back))
    assert found.track.max() == 1
    for track in (0, 1):
        x = found.boxes[found.track == track][:, 0]
        assert np.all(np.diff(x) > 0) or np.all(np.diff(x) < 0)


def test_an_object_that_is_hidden_for_six_frames_keeps_its_track_and_is_supposed_between():
    frames = [0, 1, 2, *range(9, 12)]
    found = link(detections(*path(frames)))
    assert found.track.max() == 0
    assert of(found, 0) == list(range(12))
    assert found.frame[~found.observed].tolist() == list(range(3, 9))
    supposed = found.boxes[~found.observed]
    np.testing.assert_allclose(supposed[:, 0], 0.05 + 0.05 * np.arange(3, 9), atol=1e-5)


def test_an_object_that_is_hidden_for_longer_is_another_one():
    found = link(detections(*path([0, 1, 2, *range(10, 12)])))
    assert found.track.max() == 1
    assert found.observed.all()


def test_objects_that_merge_into_one_blob_and_part_keep_their_tracks():
    one = [(0, t, 0.2 + 0.05 * t, 0.5, RED) for t in range(12) if t != 6]
    other = [(0, t, 0.8 - 0.05 * t, 0.5, BLUE) for t in range(12)]  # in frame 6 there is one blob for both
    found = link(detections(*one, *other))
    assert found.track.max() == 1
    for track, colour in ((0, RED), (1, BLUE)):
        some = (found.track == track) & found.observed
        assert (found.colour[some] == colour).all() or some.sum() in (11, 12)
        assert len(set(map(tuple, found.colour[some].tolist()))) == 1


def test_a_blob_of_another_colour_is_another_object():
    found = link(detections(*path([0, 1, 2]), *path([3, 4], BLUE)))
    assert (of(found, 0), of(found, 1)) == ([0, 1, 2], [3, 4])


def test_tracks_of_each_video_are_numbered_from_zero():
    found = link(detections(*path([0, 1]), *path([3, 4], video=2), videos=3))
    assert found.video.tolist() == [0, 0, 2, 2]
    assert found.track.tolist() == [0, 0, 0, 0]


def test_no_blobs_give_no_tracks():
    nothing = np.zeros(0, np.int64)
    found = link(Detections(2, 4, nothing, nothing, np.zeros((0, 4), np.float32), np.zeros((0, 3), np.float32)))
    assert len(found) == 0
    assert found.groups()[1] == 0


def test_norfair_links_what_moves_evenly():
    pytest.importorskip("norfair")
    found = link_with_norfair(detections(*path(range(8)), *path(range(8), y=0.9), *path(range(3), video=1), videos=2))
    assert found.track[found.video == 0].max() == 1
    assert len(found) == 19


def test_norfair_that_is_not_installed_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "norfair", None)
    with pytest.raises(ValueError, match=r"pip install 'fastvid\[norfair\]'"):
        link_with_norfair(detections(*path([0])))


def test_known_boxes_become_tracks_that_are_supposed_only_between_sightings():
    boxes = np.zeros((1, 2, 5, 4), np.float32)
    boxes[0, 0] = [0.1, 0.1, 0.2, 0.2]
    boxes[0, 1, 3] = [0.5, 0.5, 0.6, 0.6]
    visibility = np.array([[[0, 1, 0.1, 1, 0], [0, 0, 0, 1, 0]]], np.float32)
    found = truth_tracks(boxes, visibility, 0.25)
    assert of(found, 0) == [1, 2, 3]
    assert found.observed[found.track == 0].tolist() == [True, False, True]
    assert of(found, 1) == [3]


def test_a_track_follows_the_object_that_it_is_on_most_often():
    boxes = np.zeros((1, 2, 3, 4), np.float32)
    boxes[0, 0], boxes[0, 1] = [0.1, 0.1, 0.3, 0.3], [0.6, 0.6, 0.8, 0.8]
    zero, frame = np.zeros(3, np.int64), np.arange(3)
    on = boxes[0, [0, 1, 1], frame]
    found = make_tracks(1, 3, zero, frame, zero, on, np.ones(3, bool))
    assert followed_objects(found, boxes).tolist() == [1, 1, 1]
    nowhere = make_tracks(1, 3, zero, frame, zero, on + 0.3, np.ones(3, bool))
    assert followed_objects(nowhere.where(np.array([False, False, True])), boxes).tolist() == [-1]


def test_overlap_is_the_intersection_over_the_union():
    assert overlaps(np.array([0.0, 0, 2, 2]), np.array([1.0, 0, 3, 2])) == pytest.approx(1 / 3)
    assert overlaps(np.array([0.0, 0, 1, 1]), np.array([2.0, 0, 3, 2])) == 0


def test_tracks_out_of_order_are_refused():
    two = np.array([1, 0])
    with pytest.raises(ValueError, match="ordered by video, then frame, then track"):
        Tracks(1, 2, np.zeros(2, np.int64), two, two, np.zeros((2, 4)), two == 0, np.zeros((2, 3)))
