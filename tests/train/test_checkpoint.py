import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.command import UserError
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.optim import (
    OptimConfig,
    make_optimizer,
)
from tests.waiting import wait_for


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.LayerNorm(3)

    def forward(self, x):
        return self.norm(self.linear(x))


def trained(steps=3):
    torch.manual_seed(0)
    net = Net()
    optimizer = make_optimizer(net, OptimConfig())
    for _ in range(steps):
        net(torch.randn(8, 4)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net, optimizer


def test_a_checkpoint_restores_weights_and_moments_exactly(tmp_path):
    net, optimizer = trained()
    checkpoints = Checkpoints(tmp_path, keep=2)
    checkpoints.save("a", 3, net, optimizer, {"loader": {"epoch": 1, "sample": 2}})
    other, fresh = trained(0)
    state = checkpoints.restore("a", other, fresh)
    assert (state["step"], state["loader"]) == (3, {"epoch": 1, "sample": 2})
    for p, q in zip(net.parameters(), other.parameters(), strict=True):
        assert torch.equal(p, q)
        for key, value in optimizer.state[p].items():
            assert torch.equal(value, fresh.state[q][key])
    assert checkpoints.restore("b", other, fresh) is None


def test_old_checkpoints_go_and_unreadable_ones_are_set_aside(tmp_path):
    net, optimizer = trained()
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save("a", step, net, optimizer, {})
    checkpoints.save("b", 1, net, optimizer, {})
    assert (checkpoints.steps("a"), checkpoints.steps("b")) == ([2, 3], [1])
    weights = tmp_path / "a-00000003" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    assert checkpoints.restore("a", net, optimizer)["step"] == 2
    assert (tmp_path / "a-00000003.unreadable").is_dir()
    (tmp_path / "a-00000002" / "state.json").write_text("{")
    with pytest.raises(UserError, match="none of the 1 checkpoints of stage a"):
        checkpoints.restore("a", net, optimizer)


def without(path, name):
    """Write a file of tensors again without one."""
    save_file({key: tensor for key, tensor in load_file(path).items() if key != name}, path)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "optimizer.safetensors").unlink(), "tensors are missing (12): linear.bias/exp_avg,"),
        (lambda folder: (folder / "model.safetensors").unlink(), "tensors are missing (4): linear.bias,"),
        (lambda folder: without(folder / "optimizer.safetensors", "norm.bias/step"), "are missing (1): norm.bias/step"),
        (lambda folder: without(folder / "model.safetensors", "norm.bias"), "tensors are missing (1): norm.bias"),
        (lambda folder: (folder / "optimizer.safetensors").write_bytes(b""), "header"),
        (lambda folder: (folder / "state.json").unlink(), "state.json"),
        (lambda folder: (folder / "state.json").write_text("{}"), "state.json is not the state of step 2"),
        (lambda folder: (folder / "state.json").write_text("[]"), "state.json is not the state of step 2"),
        (lambda folder: (folder / "state.json").write_text('{"step": 1}'), "state.json is not the state of step 2"),
        (lambda folder: (folder / "state.json").write_bytes(b"\xff"), "decode"),
    ],
)
def test_a_checkpoint_that_lacks_anything_is_set_aside_for_the_one_before_it(tmp_path, caplog, damage, said):
    net, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("a", 1, net, optimizer, {})
    damage(checkpoints.save("a", 2, net, optimizer, {}))
    other, fresh = trained(0)
    assert checkpoints.restore("a", other, fresh) == {"stage": "a", "step": 1}
    assert said in caplog.text
    assert torch.equal(fresh.state[other.norm.bias]["exp_avg"], optimizer.state[net.norm.bias]["exp_avg"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-00000001", "a-00000002.unreadable"]


def test_a_checkpoint_of_before_tensors_were_listed_needs_both_files(tmp_path):
    net, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    folders = [checkpoints.save("a", step, net, optimizer, {}) for step in (1, 2)]
    for step, folder in enumerate(folders, start=1):
        (folder / "state.json").write_text(json.dumps({"stage": "a", "step": step}))
    other, fresh = trained(0)
    assert checkpoints.restore("a", other, fresh) == {"stage": "a", "step": 2}
    assert torch.equal(fresh.state[other.norm.bias]["exp_avg"], optimizer.state[net.norm.bias]["exp_avg"])
    (folders[1] / "optimizer.safetensors").unlink()
    assert checkpoints.restore("a", other, fresh)["step"] == 1


def test_a_step_that_was_set_aside_can_be_set_aside_again(tmp_path):
    net, optimizer = trained()
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save("a", 1, net, optimizer, {})
    for _ in range(2):
        (checkpoints.save("a", 2, net, optimizer, {}) / "model.safetensors").unlink()
        assert checkpoints.restore("a", net, optimizer)["step"] == 1


_SAVE_FOR_EVER = """
import os, sys, torch
from pathlib import Path
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.optim import OptimConfig, make_optimizer
torch.set_num_threads(1)
for folder in sys.stdin:  # a process of its own for each, without the seconds of the imports
    child = os.fork()
    if child:
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    net = torch.nn.Linear(600, 600)
    optimizer = make_optimizer(net, OptimConfig())
    net(torch.randn(2, 600)).sum().backward()
    optimizer.step()
    for step in range(1, 100_000):
        Checkpoints(Path(folder.strip()), keep=2).save("a", step, net, optimizer, {})
    os._exit(0)
"""


def test_killed_while_saving_leaves_a_checkpoint_that_loads(tmp_path):
    """SIGKILL at random moments of a process that does nothing but save."""
    server = [sys.executable, "-c", _SAVE_FOR_EVER]
    with subprocess.Popen(server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for trial in range(6):
            folder = tmp_path / str(trial)
            print(folder, file=process.stdin, flush=True)
            child = int(process.stdout.readline())
            checkpoints = Checkpoints(folder)
            wait_for(lambda checkpoints=checkpoints: checkpoints.steps("a"))
            time.sleep(0.05 * float(torch.rand(())))
            os.kill(child, signal.SIGKILL)
            assert int(process.stdout.readline()) == -signal.SIGKILL
            newest = checkpoints.steps("a")[-1]
            net = nn.Linear(600, 600)
            assert checkpoints.restore("a", net, make_optimizer(net, OptimConfig()))["step"] == newest
            checkpoints.save("a", newest + 1, net, make_optimizer(net, OptimConfig()), {})
            assert not list(folder.glob(".*.part"))


def test_frozen_parameters_are_not_stored_and_stay_as_they_were_built(tmp_path):
    net, _ = trained()
    net.linear.requires_grad_(False)
    checkpoints = Checkpoints(tmp_path)
    folder = checkpoints.save("a", 1, net, make_optimizer(net, OptimConfig()), {})
    assert set(load_file(folder / "model.safetensors")) == {"norm.weight", "norm.bias"}
    other = Net()
    other.linear.requires_grad_(False)
    before = other.linear.weight.clone()
    checkpoints.restore("a", other, make_optimizer(other, OptimConfig()))
    assert torch.equal(other.norm.weight, net.norm.weight)
    assert torch.equal(other.linear.weight, before)
    with pytest.raises(UserError, match=r"2 missing \(linear.bias, linear.weight\)"):
        checkpoints.restore("a", Net(), make_optimizer(Net(), OptimConfig()))


def test_the_best_weights_are_a_copy_that_later_updates_do_not_change(tmp_path):
    net, _ = trained()
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(ValueError, match="stage a"):
        checkpoints.load_best("a", net)
    assert checkpoints.keep_best("a", 10, net, 0.5)
    best = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    assert not checkpoints.keep_best("a", 20, net, 0.5)  # the first of equals
    assert not checkpoints.keep_best("a", 30, net, float("nan"))
    assert checkpoints.best("a") == (10, 0.5)
    assert checkpoints.load_best("a", net) == 10
    assert all(torch.equal(tensor, best[name]) for name, tensor in net.state_dict().items())
    assert checkpoints.steps("a") == []  # no step to resume from


def test_a_better_one_replaces_the_best_only_when_no_resume_can_come_before_it(tmp_path):
    net, optimizer = trained()
    checkpoints = Checkpoints(tmp_path, keep=1)
    checkpoints.keep_best("a", 10, net, 0.5)
    checkpoints.save("a", 10, net, optimizer, {})
    checkpoints.keep_best("a", 20, net, 0.7)
    checkpoints.forget_best("a", after=10)  # killed before step 20 was saved: it comes again
    assert checkpoints.best("a") == (10, 0.5)
    checkpoints.keep_best("a", 20, net, 0.7)
    checkpoints.save("a", 30, net, optimizer, {})
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["a-00000020"]
    checkpoints.set_aside("a")
    assert checkpoints.best("a") is None
