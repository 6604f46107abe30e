import dataclasses
import itertools
import math

import pytest
import torch
from torch import nn

from fastvid.command import UserError
from fastvid.ranges import check_numbers
from fastvid.train.optim import (
    OptimConfig,
    decays,
    learning_rate,
    limit_epochs,
    make_optimizer,
    set_schedules,
    weight_decay,
)


def test_the_schedule_warms_up_and_ends_at_its_floor():
    config = OptimConfig(steps=100, lr=1.0, min_lr=0.1, warmup=10, weight_decay=0.04, weight_decay_end=0.4)
    rates = [learning_rate(config, step) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(rates[10:]))
    assert rates[10 + 45] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 45 / 89)))
    assert weight_decay(config, 0) == pytest.approx(0.04)
    assert weight_decay(config, 99) == pytest.approx(0.4)


def test_steps_are_limited_by_epochs():
    config = OptimConfig(steps=1000, batch=32, max_epochs=100, warmup=50)
    assert limit_epochs(config, 2048) is config
    limited = limit_epochs(config, 7)
    assert (limited.steps, limited.warmup) == (22, 2)  # the last batch is filled up
    assert limit_epochs(dataclasses.replace(config, max_epochs=0), 7).steps == 1000


@pytest.mark.parametrize("fields", [{"steps": -1}, {"batch": 0}, {"batch": 10, "accumulate": 3}])
def test_optimisation_that_makes_no_sense_is_refused(fields):
    with pytest.raises((ValueError, UserError), match=r"optim|steps|batch"):
        check_numbers(OptimConfig(**fields))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.LayerNorm(3)
        self.positions, self.mask_tokens = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        return self.norm(self.linear(x)) + self.positions.sum(0) + self.mask_tokens.sum(0)


def test_parts_have_learning_rates_of_their_own():
    config = OptimConfig(steps=100, lr=1e-3, min_lr=3e-5, warmup=0, weight_decay=0.1, weight_decay_end=0.1)
    net = nn.ModuleDict({"head": Net(), "body": nn.ModuleDict({"backbone": Net()})})
    optimizer = make_optimizer(net, config, {"backbone": config.with_rate(1e-5, None)})
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(list(net.parameters()))
    where = {id(p): name for name, p in net.named_parameters()}
    for step, (head, backbone) in {0: (1e-3, 1e-5), 99: (3e-5, 3e-5)}.items():
        assert set_schedules(optimizer, config, step) == (pytest.approx(head), pytest.approx(0.1))
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                name = where[id(parameter)]
                assert group["lr"] == pytest.approx(backbone if "backbone" in name else head)
                assert group["weight_decay"] == pytest.approx(0.1 if name.endswith("linear.weight") else 0)


def test_only_matrices_decay():
    net = Net()
    assert [name for name, p in net.named_parameters() if decays(name, p)] == ["linear.weight"]
    optimizer = make_optimizer(net, OptimConfig())
    set_schedules(optimizer, OptimConfig(steps=10, weight_decay=0.3, weight_decay_end=0.3), 5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.0])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6
