"""A stage ends where its stop hook says so, and a resume knows that it did."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from fastvid.data import Batch, LoaderState
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.distributed import World
from fastvid.train.engine import Engine
from fastvid.train.metrics import Tracker
from fastvid.train.optim import OptimConfig
from fastvid.train.rundir import RunDir
from fastvid.train.signals import StopSignals
from fastvid.train.stage import Stage


class Ones:
    """Batches of one video."""

    description = "ones"

    def __init__(self, state: LoaderState):
        self.state = state

    @property
    def clips_shown(self):
        return self.state.sample

    def worker_bytes(self):
        return 0

    def __next__(self):
        self.state = self.state.advance(1, 100)
        return Batch(keys=["a"], ids=torch.zeros(1, dtype=torch.int64), view_hashes=torch.zeros(1, dtype=torch.int64))

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


def loss(module, batch, micro):
    return module(torch.ones(1, 2)).square().sum(), {}


@pytest.fixture
def run(tmp_path):
    opened = RunDir.create(tmp_path / "run", {})
    yield opened
    opened.close()


def train(run, **changes):
    """Trains a stage of 10 steps that is evaluated every 2, and returns the steps of its evaluations."""
    evaluated = []

    def evaluate(step):
        evaluated.append(step)
        return {"quality": float(step)}

    tracker = Tracker(run, ["one"], [10], tensorboard=False, wandb_project=None, config={})
    world = World(0, 1, torch.device("cpu"))
    engine = Engine(run, tracker, Checkpoints(run.path / "checkpoints"), world, StopSignals(listen=False), seed=0)
    torch.manual_seed(0)
    optim = OptimConfig(steps=10, warmup=1, batch=1)
    stage = Stage("one", nn.Linear(2, 1), loss, optim, Ones, evaluate, evaluate_every=2)
    engine.train(replace(stage, **changes))
    engine.close()
    return evaluated


def at_6(step, values):
    return "good enough" if values["quality"] >= 6 else None


def test_a_stage_ends_where_its_hook_says_so_with_its_weights_saved(run):
    assert train(run, stop=at_6) == [2, 4, 6]
    assert Checkpoints(run.path / "checkpoints").steps("one") == [6]


def test_a_stage_that_ended_is_complete_for_a_resume(run):
    train(run, stop=at_6)
    before = (run.path / "metrics.jsonl").read_bytes()
    assert train(run, stop=at_6) == []
    assert (run.path / "metrics.jsonl").read_bytes() == before


def test_without_the_hook_it_trains_on_to_its_last_step(run):
    train(run, stop=at_6)
    assert train(run) == [8, 10]


def test_a_stage_that_a_hook_never_ends_comes_to_its_last_step(run):
    assert train(run, stop=lambda step, values: None) == [2, 4, 6, 8, 10]


def test_results_in_folders_are_set_aside_beside_themselves(run):
    (run.path / "models" / "a").mkdir(parents=True)
    run.set_aside("models/a")
    assert (run.path / "models" / "a.superseded").is_dir()
