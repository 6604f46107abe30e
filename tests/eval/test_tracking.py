"""Scores of trackers, worked by hand, and those of this package's tracker on generated videos."""

import numpy as np
import pytest

from fastvid.eval.tracking import score_tracks
from fastvid.projects.trajectory.generator import draw_scenes
from fastvid.projects.trajectory.render import render
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.tracks.blobs import find_blobs
from fastvid.tracks.link import link
from fastvid.tracks.tracks import make_tracks, truth_tracks

FAR = np.array([0.6, 0.6, 0.8, 0.8], np.float32)


def still(frames=4, objects=1):
    """One object at a place of its own in all frames of one video."""
    boxes = np.zeros((1, objects, frames, 4), np.float32)
    for number in range(objects):
        boxes[0, number] = np.array([0.1, 0.1, 0.3, 0.3]) + 0.4 * number
    return boxes, np.ones((1, objects, frames), np.float32)


def tracked(boxes, track, frame=None):
    frame = np.arange(len(boxes)) if frame is None else np.array(frame)
    return make_tracks(1, 4, np.zeros(len(boxes), int), frame, np.array(track), boxes, np.ones(len(boxes), bool))


def test_known_tracks_score_one():
    boxes, visibility = still(objects=2)
    scores = score_tracks(truth_tracks(boxes, visibility, 0.25), boxes, visibility)
    for name in ("detection_recall", "precision", "hota", "deta", "assa", "idf1", "mota", "purity", "completeness"):
        assert getattr(scores, name) == pytest.approx(1), name
    assert (scores.objects, scores.switches) == (8, 0)


def test_a_track_that_is_cut_in_the_middle():
    boxes, visibility = still()
    scores = score_tracks(tracked(boxes[0, 0], [0, 0, 1, 1]), boxes, visibility)
    assert scores.detection_recall == 1
    assert scores.switches == 1
    assert scores.mota == pytest.approx(1 - 1 / 4)
    assert scores.idf1 == pytest.approx(2 / 4)  # two boxes of one identity: 2 / (2 + (2 + 2) / 2)
    # Each matched box: 2 boxes of this pair, 4 of the object, 2 of the track: 2 / (4 + 2 - 2).
    assert scores.assa == pytest.approx(0.5)
    assert scores.hota == pytest.approx(np.sqrt(0.5))
    assert (scores.purity, scores.completeness) == (1, 0.5)


def test_a_missed_box_and_one_of_nothing():
    boxes, visibility = still()
    found = np.concatenate([boxes[0, 0, :3], FAR[None]])
    scores = score_tracks(tracked(found, [0, 0, 0, 1]), boxes, visibility)
    assert scores.detection_recall == pytest.approx(3 / 4)
    assert scores.precision == pytest.approx(3 / 4)
    assert scores.mota == pytest.approx(1 - (1 + 1) / 4)
    assert scores.deta == pytest.approx(3 / 5)
    assert (scores.purity, scores.completeness) == (3 / 4, 3 / 4)


def test_a_track_that_changes_to_another_object():
    boxes, visibility = still(objects=2)
    on = np.stack([boxes[0, 0, 0], boxes[0, 0, 1], boxes[0, 0, 2], boxes[0, 1, 3]])
    scores = score_tracks(tracked(on, [0, 0, 0, 0]), boxes, visibility)
    assert scores.purity == 3 / 4
    assert scores.completeness == 4 / 8
    assert scores.detection_recall == 4 / 8


def test_what_is_occluded_is_scored_apart():
    boxes, visibility = still()
    visibility[0, 0, 1:3] = 0
    kept = truth_tracks(boxes, visibility, 0.25)
    scores = score_tracks(kept, boxes, visibility)
    assert (scores.detection_recall, scores.occluded_recall, scores.objects) == (1, 1, 2)
    assert (scores.kept, scores.hidden) == (1, 1)
    cut = score_tracks(tracked(boxes[0, 0, [0, 3]], [0, 1], [0, 3]), boxes, visibility)
    assert (cut.detection_recall, cut.occluded_recall) == (1, 0)
    assert (cut.kept, cut.hidden) == (0, 1)


def test_no_tracks_and_no_objects():
    boxes, visibility = still()
    nothing = make_tracks(1, 4, *[np.zeros(0, int)] * 3, np.zeros((0, 4)), np.zeros(0, bool))
    scores = score_tracks(nothing, boxes, visibility)
    assert (scores.detection_recall, scores.completeness, scores.mota) == (0, 0, 0)
    assert np.isnan(scores.purity)
    assert np.isnan(score_tracks(nothing, boxes[:, :0], visibility[:, :0]).mota)


def test_a_truth_of_other_videos_is_refused():
    boxes, visibility = still()
    with pytest.raises(ValueError, match="different videos"):
        score_tracks(truth_tracks(boxes, visibility, 0.25), boxes[:, :, :2], visibility[:, :, :2])


def test_the_tracker_reaches_its_goals_on_the_variant_seed():
    frames, truth = render(draw_scenes(SceneConfig(variant="seed"), np.arange(5000, 5200)))
    scores = score_tracks(link(find_blobs(frames, "threshold")), truth.boxes, truth.visibility)
    assert scores.detection_recall > 0.95
    assert scores.purity > 0.90
    assert scores.completeness > 0.90


def test_the_variant_hard_costs_the_tracker_something():
    frames, truth = render(draw_scenes(SceneConfig(variant="hard"), np.arange(5000, 5064)))
    scores = score_tracks(link(find_blobs(frames, "median")), truth.boxes, truth.visibility)
    assert scores.detection_recall > 0.90
    assert scores.hidden > 50
    assert 0.3 < scores.kept < 0.9
