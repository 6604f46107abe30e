"""Means between records and counts of clips: what they are, and that a resume goes on with them."""

import json

import pytest
import torch

from fastvid.data import Batch
from fastvid.train import running_means
from fastvid.train.distributed import World
from fastvid.train.loss_sum import LossSum
from fastvid.train.running_means import RunningMeans

ALONE = World(0, 1, torch.device("cpu"))


def batch(substitutes=(), repeats=()):
    one = torch.zeros(1, dtype=torch.int64)
    return Batch(keys=["a"], ids=one, view_hashes=one, substitutes=list(substitutes), repeats=list(repeats))


def values(loss, accuracy):
    return {"loss": torch.tensor(loss, requires_grad=True), "accuracy": torch.tensor(accuracy)}


def test_means_begin_anew_and_counts_go_on():
    means = RunningMeans(ALONE, {})
    means.add(values(1.0, 0.0), batch([True, False], [False, False]))
    means.add(values(2.0, 0.5), batch([True, True], [True, False]))
    assert means.take() == {"loss": 1.5, "accuracy": 0.25}
    means.add(values(7.0, 1.0), batch([False], [True]))
    assert means.take() == {"loss": 7.0, "accuracy": 1.0}
    assert means.counts() == {"substituted_clips": 3, "short_clips": 2}


def test_saved_in_the_middle_they_go_on_as_if_they_had_not_been():
    without, before = RunningMeans(ALONE, {}), RunningMeans(ALONE, {})
    for means in (without, before):
        means.add(values(0.1, 0.3), batch([True], [True]))
    after = RunningMeans(ALONE, json.loads(json.dumps(before.state())))
    for means in (without, after):
        means.add(values(0.2, 0.6), batch([True], [False]))
    assert after.take() == without.take()
    assert after.counts() == without.counts() == {"substituted_clips": 2, "short_clips": 1}


@pytest.mark.parametrize("rank", [0, 1])
def test_they_are_of_all_processes_and_only_the_main_one_goes_on_with_the_saved_counts(monkeypatch, rank):
    others: list[list[float]] = []  # what the other of two processes gives

    def all_reduce_mean(world, mine):
        return [(a + b) / 2 for a, b in zip(mine, others.pop(0), strict=True)]

    monkeypatch.setattr(running_means, "all_reduce_mean", all_reduce_mean)
    means = RunningMeans(
        World(rank, 2, torch.device("cpu")), {"sums": {"loss": 4.0}, "summed": 2, "counts": {"short_clips": 5}}
    )
    means.add({"loss": torch.tensor(2.0)}, batch([True], [True]))
    others[:] = [[9.0], [0.0, 0.0]]
    assert means.take() == {"loss": (6.0 + 9.0) / 2 / 3}
    assert means.counts() == {"substituted_clips": 1, "short_clips": 6 if rank == 0 else 1}


def test_sums_have_the_mean_of_their_items_also_after_a_resume():
    def tokens(total, count):
        return {"loss": LossSum(torch.tensor(total), torch.tensor(count)), "clips": torch.tensor(1.0)}

    means = RunningMeans(ALONE, {})
    means.add(tokens(6.0, 3), batch())
    means = RunningMeans(ALONE, json.loads(json.dumps(means.state())))
    means.add(tokens(2.0, 5), batch())
    assert means.take() == {"loss": 1.0, "clips": 1.0}
    means.add(tokens(0.0, 0), batch())
    assert means.take() == {"clips": 1.0}
    means.add(tokens(3.0, 1), batch())
    assert means.take()["loss"] == 3.0
