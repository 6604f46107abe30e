"""Batches of tokens: padding, draws that depend on (seed, video, epoch) alone, labels that say nothing."""

import numpy as np
import pytest
import torch

from fastvid.data import LoaderState
from fastvid.projects.trajectory.batches import Draws, TokenLoader, pad, shuffle_labels
from fastvid.projects.trajectory.track_table import TrackTable
from tests.projects.trajectory.token_sets import random_set, token_set

P, T = True, False


def test_padding_by_hand():
    tokens = token_set([[(P, 0, 2), (T, 1, 1)], [(T, 3, 3)]], 4, motion=[2, 1])
    batch = pad(tokens, [1, 0], "motion")
    assert batch.target.tolist() == [1, 2]
    assert batch.valid.tolist() == [[True, False, False, False], [True] * 4]
    assert batch.frame.tolist() == [[3, 0, 0, 0], [0, 1, 1, 2]]
    assert batch.track.tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]
    assert batch.persistent.tolist() == [[False] * 4, [True, True, False, True]]
    assert batch.kinds.tolist() == [[False, False], [True, False]]
    assert batch.present.tolist() == [[True, False], [True, True]]
    assert batch.lengths.tolist() == [[0.25, 0.0], [0.75, 0.25]]
    assert batch.rows.tolist() == [4, 0, 1, 2, 3]
    assert batch.where.tolist() == [0, 4, 5, 6, 7]
    assert batch.geometry[0, 0].tolist() == pytest.approx([-0.1, -0.1, 0, 0, 0, 0, 1], abs=1e-4)


def test_tokens_that_are_not_kept_are_gone_and_a_video_may_be_empty():
    tokens = token_set([[(P, 0, 2), (T, 1, 1)], [(T, 3, 3)]], 4)
    batch = pad(tokens, [0, 1], "noise", keep=tokens.frame < 2)
    assert batch.valid.tolist() == [[True, True, True], [False] * 3]
    assert batch.rows.tolist() == [0, 1, 2]


def test_all_tokens_of_a_track_have_its_code_and_the_draw_changes_it():
    tokens = token_set([[(P, 0, 3), (T, 1, 2)]], 4)
    codes = [pad(tokens, [0], "motion", draws=draw).codes[0] for draw in (0, 1)]
    track = pad(tokens, [0], "motion").track[0]
    for code in codes:
        assert set(code.flatten().tolist()) == {-1.0, 1.0}
        assert all((code[track == m] == code[track == m][0]).all() for m in (0, 1))
        assert (code[track == 0][0] != code[track == 1][0]).any()
    assert (codes[0] != codes[1]).any()


def test_the_curriculum_hides_whole_transient_tracks_at_first():
    tokens = random_set(200)
    draws = Draws(0, curriculum=2)
    shown = []
    for epoch in range(3):
        keep = draws.keep(tokens, np.arange(200), np.full(200, epoch))
        assert keep[tokens.persistent].all()
        table = TrackTable.from_tokens(tokens)
        per_track = np.bincount(table.row, keep) / np.bincount(table.row)
        assert set(per_track) <= {0.0, 1.0}
        shown.append(per_track[~table.persistent].mean())
    assert shown == [pytest.approx(1 / 3, abs=0.08), pytest.approx(2 / 3, abs=0.08), 1.0]


def test_prefixes_show_the_first_frames_and_at_least_one_token():
    tokens = random_set(300)
    keep = Draws(0, prefix=1.0).keep(tokens, np.arange(300), np.zeros(300, int))
    last = []
    for v in range(300):
        span = slice(tokens.offsets[v], tokens.offsets[v + 1])
        frames = tokens.frame[span][keep[span]]
        assert len(frames)
        assert keep[span].tolist() == (tokens.frame[span] <= frames.max()).tolist()
        last.append(frames.max() + 1)
    assert np.bincount(last, minlength=9)[1:] / 300 == pytest.approx(1 / 8, abs=0.06)
    assert Draws(0).keep(tokens, np.arange(300), np.zeros(300, int)).all()


def batches(count, **options):
    loader = TokenLoader(random_set(10), "motion", Draws(3, 0.5, 1), batch=4, **options)
    return loader, [next(loader) for _ in range(count)]


def test_a_loader_resumes_bit_for_bit_and_shows_every_video_once_an_epoch():
    loader, whole = batches(5)
    assert sorted(key for batch in whole for key in batch.keys) == sorted([f"hand/{v}" for v in range(10)] * 2)
    assert loader.state == LoaderState(2, 0)
    middle, _ = batches(2)
    again = TokenLoader(random_set(10), "motion", Draws(3, 0.5, 1), batch=4, state=middle.state)
    for batch in whole[2:]:
        other = next(again)
        assert batch.keys == other.keys
        assert all(torch.equal(batch.extra[name], other.extra[name]) for name in batch.extra)


def test_two_processes_share_the_global_batches():
    _, whole = batches(3)
    shares = [batches(3, rank=rank, world=2)[1] for rank in (0, 1)]
    for k in range(3):
        assert sorted(whole[k].keys) == sorted([*shares[0][k].keys, *shares[1][k].keys])


def test_shuffled_labels_say_nothing_of_the_true_ones():
    tokens = random_set(400)
    shuffled = shuffle_labels(tokens, "motion", 0)
    table, other = TrackTable.from_tokens(tokens), TrackTable.from_tokens(shuffled)
    share = table.persistent.mean()
    assert other.persistent.mean() == pytest.approx(share, abs=0.01)
    for kind in (False, True):  # each true kind has the same share of shuffled ones
        assert other.persistent[table.persistent == kind].mean() == pytest.approx(share, abs=0.01)
    for motion in range(4):
        assert np.bincount(shuffled.motion[tokens.motion == motion], minlength=4).tolist() == [25] * 4
    assert (shuffled.noise == tokens.noise).all()
    assert (shuffle_labels(tokens, "motion", 1).motion != shuffled.motion).any()
