"""Generated videos: reproducible, as described, and without a clue in single frames where there should be none."""

import functools

import numpy as np
import pytest
from scipy.stats import rankdata

from fastvid.projects.trajectory.generator import draw_scenes
from fastvid.projects.trajectory.render import render
from fastvid.projects.trajectory.scenes import HARD_FRAMES, SceneConfig
from fastvid.tracks.tracks import SEEN

VIDEOS = 2400
VARIANTS = ("seed", "hard")
PROBES = ("colour", "size", "position", "birth")


@functools.cache
def drawn(variant):
    """Many scenes of a variant, with what can be seen of them."""
    config = SceneConfig(variant=variant)
    parts = []
    for first in range(0, VIDEOS, 300):
        scenes = draw_scenes(config, np.arange(first, first + 300))
        parts.append((scenes, render(scenes)[1].visibility >= SEEN))
    return parts


def auc(score, label):
    """Chance that a persistent object's score is above a transient's."""
    ranks, positive = rankdata(score), int(label.sum())
    return (ranks[label].sum() - positive * (positive + 1) / 2) / (positive * (len(label) - positive))


def probe(facts, label, half):
    """AUC on one half of the videos of a quadratic function fitted to the other."""
    facts = (facts - facts.mean(0)) / (facts.std(0) + 1e-9)
    columns = range(facts.shape[1])
    terms = [np.ones(len(facts)), *facts.T, *(facts[:, i] * facts[:, j] for i in columns for j in columns if i <= j)]
    table = np.stack(terms, 1)
    weights = np.linalg.lstsq(table[half], label[half] - 0.5, rcond=None)[0]
    return auc(table[~half] @ weights, label[~half])


def collect(parts, what):
    facts, labels, videos = [], [], []
    for scenes, seen in parts:
        v, o, t = np.nonzero(seen)
        if what == "birth":  # one for each object
            v, o = np.nonzero(seen.any(-1))
            found = seen[v, o].argmax(-1)[:, None]
        else:
            found = {"colour": scenes.colour[v, o], "size": scenes.radius[v, o, t, None],
                     "position": scenes.centre[v, o, t]}[what]  # fmt: skip
        facts.append(found.astype(float))
        labels.append(scenes.persistent[v, o])
        videos.append(scenes.indices[v])
    label, video = np.concatenate(labels), np.concatenate(videos)
    return np.concatenate(facts), label, video % 8 < 4  # all four motions are in both halves


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("what", PROBES)
def test_nothing_in_a_single_frame_gives_persistence_away_in_hard_and_much_does_in_seed(variant, what):
    parts = drawn(variant)
    found = probe(*collect(parts, what))
    # Boxes of one object are alike, so objects are counted. The variance of an AUC of m against n samples without a
    # difference is (m + n + 1) / (12 m n).
    persistent = sum((scenes.exists & scenes.persistent).sum() for scenes, _ in parts) / 2
    transient = sum((scenes.exists & ~scenes.persistent).sum() for scenes, _ in parts) / 2
    deviation = np.sqrt((persistent + transient + 1) / (12 * persistent * transient))
    if variant == "hard":
        assert abs(found - 0.5) < 4 * deviation
    elif what != "size":  # depths are drawn alike in both variants
        assert found > 0.5 + 8 * deviation


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_video_depends_on_seed_and_index_alone(variant):
    config = SceneConfig(variant=variant)
    many, _ = render(draw_scenes(config, np.arange(20, 30)))
    one, _ = render(draw_scenes(config, np.array([27])))
    np.testing.assert_array_equal(many[7], one[0])
    other, _ = render(draw_scenes(SceneConfig(variant=variant, seed=1), np.array([27])))
    assert (other != one).any()


@pytest.mark.parametrize("variant", VARIANTS)
def test_pixels_and_boxes_agree(variant):
    scenes = draw_scenes(SceneConfig(variant=variant), np.arange(40))
    frames, truth = render(scenes)
    v, o, t = np.nonzero(truth.visibility == 1)
    for i in range(0, len(v), 50):
        left, top, right, bottom = np.rint(truth.boxes[v[i], o[i], t[i]] * 64).astype(int)
        mine = (frames[v[i], t[i]] == scenes.colour[v[i], o[i]]).all(-1)
        rows, columns = np.nonzero(mine[top:bottom, left:right])
        assert (rows.min(), columns.min(), rows.max(), columns.max()) == (0, 0, bottom - top - 1, right - left - 1)


def test_the_variant_seed_has_the_parameters_of_the_original():
    parts = drawn("seed")
    scenes = parts[0][0]
    transient = scenes.exists & ~scenes.persistent
    assert scenes.centre.shape[2] == 16
    assert set(transient.sum(1)) == set(range(1, 7))
    assert set(scenes.lifetime[transient]) == {1, 2, 3}
    assert (scenes.lifetime[:, 0] == 16).all()
    assert 0.2 < scenes.noise.mean() < 0.32  # 26 % of its videos of 16 frames
    assert set(np.unique(scenes.radius)) == {2.0, 3.0, 4.0}
    share = sum(s.alive[:, 1:].sum() for s, _ in parts) / sum(s.alive.sum() for s, _ in parts)
    assert share == pytest.approx(0.30, abs=0.01)


def test_the_variant_hard_is_as_described():
    parts = drawn("hard")
    lasting = np.concatenate([s.lifetime[s.persistent & s.exists] for s, _ in parts])
    brief = np.concatenate([s.lifetime[~s.persistent & s.exists] for s, _ in parts])
    assert (lasting.min(), lasting.max()) == (12, 32)
    assert set(brief) == set(range(1, 7))
    for scenes, _ in parts:
        alone = scenes.exists & scenes.persistent
        assert set(alone.sum(1)) == {1, 2, 3}
        assert (scenes.motion[alone] == np.broadcast_to(scenes.video_motion[:, None], alone.shape)[alone]).all()
    hidden = np.concatenate([(s.alive & ~seen).sum(-1)[s.persistent & s.exists] for s, seen in parts])
    assert ((hidden >= 2) & (hidden <= 6)).mean() >= 0.5
    decoys = np.concatenate([s.exists[:, 4] & (s.colour[:, 3] == s.colour[:, 4]).all(-1) for s, _ in parts])
    assert 0.25 < decoys.mean() < 0.35


def test_hard_takes_no_other_number_of_frames():
    with pytest.raises(ValueError, match="made for 32 frames"):
        draw_scenes(SceneConfig(variant="hard", frames=16), np.arange(2))
    assert SceneConfig(variant="hard", frames=HARD_FRAMES).length == 32
