"""Losses that are sums over items: every item of an update weighs the same, whatever batch and process it is in."""

import json

import pytest
import torch
from torch import nn

from fastvid.data import Batch, LoaderState
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.distributed import World
from fastvid.train.engine import Engine
from fastvid.train.loss_sum import LossSum
from fastvid.train.metrics import Tracker
from fastvid.train.optim import OptimConfig
from fastvid.train.rundir import RunDir
from fastvid.train.signals import StopSignals
from fastvid.train.stage import Stage
from tests.processes import together

ITEMS = [3, 1, 4, 2]  # of each clip
STEPS = 4


class Items:
    """Batches of ``batch`` clips in order, each clip with items of its own; a process takes every other batch."""

    description = "items"

    def __init__(self, state: LoaderState, batch: int, world: World):
        self.state, self.batch, self.world = state, batch, world

    @property
    def clips_shown(self):
        return self.state.epoch * len(ITEMS) + self.state.sample

    def worker_bytes(self):
        return 0

    def __next__(self):
        first = self.state.sample + self.world.rank * self.batch
        self.state = self.state.advance(self.batch * self.world.size, len(ITEMS))
        rows = range(first, first + self.batch)
        items = torch.cat([torch.linspace(-1, 1 + row, ITEMS[row]) for row in rows])
        ids = torch.zeros(self.batch, dtype=torch.int64)
        return Batch(keys=[str(row) for row in rows], ids=ids, view_hashes=ids, extra={"items": items})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def sums(module, batch, micro):
    items = batch.extra["items"]
    errors = (module(items[:, None]).squeeze(1) - items.sin()).square()
    count = torch.tensor(len(items))
    return LossSum(errors.sum(), count), {"half": LossSum(errors.detach().sum() / 2, count)}


def no_items(module, batch, micro):
    return LossSum(module(torch.ones(1, 1)).sum() * 0, torch.tensor(0)), {}


def train(folder, *, accumulate, loss=sums, world=None):
    """Train a stage whose updates see all clips once, and return its weights."""
    world = world or World(0, 1, torch.device("cpu"))
    run = RunDir.create(folder, {}) if world.is_main else None
    tracker = Tracker(run, ["one"], [STEPS], tensorboard=False, wandb_project=None, config={}) if run else None
    checkpoints = Checkpoints(folder / "checkpoints", world=world)
    engine = Engine(run, tracker, checkpoints, world, StopSignals(listen=False), 0, log_every=2)
    torch.manual_seed(0)
    module = nn.Linear(1, 1)
    optim = OptimConfig(steps=STEPS, warmup=1, batch=len(ITEMS), accumulate=accumulate, lr=0.1, clip_grad=0.5)
    share = optim.micro_batch // world.size
    engine.train(Stage("one", module, loss, optim, lambda state: Items(state, share, world)))
    engine.close()
    if run:
        run.close()
    return module.state_dict()


def losses(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(record["loss"], record["half"], record["grad_norm"]) for record in map(json.loads, lines)]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, train(folder, accumulate=1)


def assert_same(folder, weights, whole):
    for name, value in weights.items():
        torch.testing.assert_close(value, whole[1][name])
    for ours, theirs in zip(losses(folder), losses(whole[0]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_of_unequal_numbers_of_items_are_one_batch(tmp_path, whole, accumulate):
    assert_same(tmp_path / "run", train(tmp_path / "run", accumulate=accumulate), whole)


def test_the_record_is_the_mean_over_items(whole):
    first, second = losses(whole[0])
    assert first[1] == pytest.approx(first[0] / 2)
    assert 0 < second[0] < first[0]


def in_two(world, folder):
    torch.save(train(folder / "run", accumulate=2, world=world), folder / f"weights-{world.rank}.pt")


def test_two_processes_are_one(tmp_path, whole):
    together(2, in_two, tmp_path)
    for rank in (0, 1):
        assert_same(tmp_path / "run", torch.load(tmp_path / f"weights-{rank}.pt"), whole)


def test_an_update_without_items_is_refused(tmp_path):
    with pytest.raises(FloatingPointError, match="stage one at step 1 has nothing to learn from"):
        train(tmp_path / "run", accumulate=1, loss=no_items)
