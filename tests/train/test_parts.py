"""The engine's parts, one at a time."""

import dataclasses
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch import nn

from fastvid.train.checkpoint import Checkpoints
from fastvid.train.config import DataConfig, differences, from_dict, parse, to_dict
from fastvid.train.metrics import MetricsFile, Tracker
from fastvid.train.optim import (
    OptimConfig,
    decays,
    learning_rate,
    limit_epochs,
    make_optimizer,
    set_schedules,
    weight_decay,
)
from fastvid.train.rundir import RunDir, how_it_ended
from fastvid.train.salt_config import MaskConfig, SaltConfig
from fastvid.train.salt_masks import MaskSampler
from fastvid.train.salt_presets import PRESETS
from fastvid.train.timers import StepTimer


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
    assert (limited.steps, limited.warmup) == (21, 2)
    assert limit_epochs(dataclasses.replace(config, max_epochs=0), 7).steps == 1000


@pytest.mark.parametrize("fields", [{"steps": -1}, {"batch": 0}, {"batch": 10, "accumulate": 3}])
def test_optimisation_that_makes_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match="optim"):
        OptimConfig(**fields)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 3), nn.LayerNorm(3)
        self.positions, self.mask_tokens = nn.Parameter(torch.randn(5, 3)), nn.Parameter(torch.randn(2, 3))

    def forward(self, x):
        return self.norm(self.linear(x)) + self.positions.sum(0) + self.mask_tokens.sum(0)


def test_only_matrices_decay():
    net = Net()
    assert [name for name, p in net.named_parameters() if decays(name, p)] == ["linear.weight"]
    optimizer = make_optimizer(net, OptimConfig())
    set_schedules(optimizer, OptimConfig(steps=10, weight_decay=0.3, weight_decay_end=0.3), 5)
    assert [group["weight_decay"] for group in optimizer.param_groups] == pytest.approx([0.3, 0.0])
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 6


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
    with pytest.raises(ValueError, match="none of the 1 checkpoints of stage a"):
        checkpoints.restore("a", net, optimizer)


_SAVE_FOR_EVER = """
import sys, torch
from pathlib import Path
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.optim import OptimConfig, make_optimizer
net = torch.nn.Linear(600, 600)
optimizer = make_optimizer(net, OptimConfig())
net(torch.randn(2, 600)).sum().backward()
optimizer.step()
for step in range(1, 100_000):
    Checkpoints(Path(sys.argv[1]), keep=2).save("a", step, net, optimizer, {})
"""


def test_killed_while_saving_leaves_a_checkpoint_that_loads(tmp_path):
    """SIGKILL at random moments of a process that does nothing but save."""
    for trial in range(6):
        folder = tmp_path / str(trial)
        process = subprocess.Popen([sys.executable, "-c", _SAVE_FOR_EVER, str(folder)])
        checkpoints = Checkpoints(folder)
        while not checkpoints.steps("a"):
            assert process.poll() is None
            time.sleep(0.01)
        time.sleep(0.05 * float(torch.rand(())))
        process.kill()
        process.wait()
        newest = checkpoints.steps("a")[-1]
        net = nn.Linear(600, 600)
        assert checkpoints.restore("a", net, make_optimizer(net, OptimConfig()))["step"] == newest
        checkpoints.save("a", newest + 1, net, make_optimizer(net, OptimConfig()), {})
        assert not list(folder.glob(".*.part"))


def test_metrics_drop_what_a_kill_cut_short(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"stage": "a", "step": 1}\n{"stage": "a", "st')
    file = MetricsFile(path)
    file.write({"stage": "a", "step": 2})
    file.close()
    assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 2]


def make_tracker(path, **options):
    run = RunDir.create(path, {"x": 1}) if not (path / "config.json").exists() else RunDir.reopen(path)
    arguments = {"tensorboard": False, "wandb_project": None, "config": {}, **options}
    return run, Tracker(run, ["a", "b"], [10, 10], **arguments)


def test_a_resumed_stage_records_nothing_twice(tmp_path):
    run, tracker = make_tracker(tmp_path / "r")
    tracker.begin("a", 0)
    for step in (2, 4, 6):
        tracker.log("a", step, {"loss": 1.0})
    tracker.begin("b", 0)
    tracker.log("b", 2, {"loss": 2.0})
    tracker.begin("b", 0)  # killed before b's first checkpoint
    tracker.log("b", 2, {"loss": 2.0})
    tracker.begin("a", 4)  # and once more, from an earlier one
    tracker.close()
    run.close()
    lines = [json.loads(line) for line in (tmp_path / "r/metrics.jsonl").read_text().splitlines()]
    assert [(r["stage"], r["step"]) for r in lines] == [("a", 2), ("a", 4)]


class FakeWandb:
    """Stands in for the wandb package: remembers what it was told."""

    def __init__(self, broken=False):
        self.inits, self.logged, self.broken = [], [], broken

    def init(self, **arguments):
        self.inits.append(arguments)
        return self

    def log(self, values, step):
        if self.broken:
            raise ConnectionError("no network")
        self.logged.append(step)

    def finish(self):
        pass


def test_wandb_continues_the_same_run_and_its_failure_is_not_ours(tmp_path, monkeypatch):
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    for stage, step in (("a", 0), ("b", 4)):
        run, tracker = make_tracker(tmp_path / "r", wandb_project="p")
        tracker.begin(stage, step)
        tracker.log(stage, step + 2, {"loss": 1.0})
        tracker.close()
        run.close()
    assert len({arguments["id"] for arguments in fake.inits}) == 1
    assert all(arguments["resume"] == "allow" for arguments in fake.inits)
    assert fake.logged == [2, 16]  # one axis over both stages
    fake.broken = True
    run, tracker = make_tracker(tmp_path / "r", wandb_project="p")
    tracker.begin("b", 6)
    tracker.log("b", 8, {"loss": 1.0})
    tracker.log("b", 10, {"loss": 1.0})
    tracker.close()
    run.close()
    assert '"step": 10' in (tmp_path / "r/metrics.jsonl").read_text()


def test_two_processes_cannot_write_one_run(tmp_path):
    run = RunDir.create(tmp_path / "r", {})
    with pytest.raises(RuntimeError, match=r"is in use by process \d+ on .*: two processes cannot write one run"):
        RunDir.reopen(tmp_path / "r")
    run.close()
    RunDir.reopen(tmp_path / "r").close()
    with pytest.raises(FileExistsError, match="continue it with --resume"):
        RunDir.create(tmp_path / "r", {})
    with pytest.raises(FileNotFoundError, match=r"nothing to resume in .*: it has no config\.json"):
        RunDir.reopen(tmp_path / "other")


def test_a_run_tells_how_it_ended(tmp_path):
    run = RunDir.create(tmp_path / "r", {})
    assert how_it_ended(run.path) == "running, before its first step"
    run.beat("running", force=True, stage="a", step=7)
    assert how_it_ended(run.path) == "running, at a step 7"
    run.close()
    assert how_it_ended(run.path).startswith("died at a step 7 without a word: killed with SIGKILL")
    for state, facts, words in (
        ("stopped", {"signal": "SIGTERM"}, "stopped at a step 7 by SIGTERM"),
        ("failed", {"error": "ValueError: x"}, "failed at a step 7: ValueError: x"),
        ("finished", {}, "finished"),
    ):
        run.beat(state, force=True, **facts)
        assert how_it_ended(run.path).startswith(words)
    with pytest.raises(FileNotFoundError, match="no run directory"):
        how_it_ended(tmp_path)


def test_configurations_survive_json():
    for preset in PRESETS.values():
        config = preset()
        assert from_dict(SaltConfig, json.loads(json.dumps(to_dict(config)))) == config
    with pytest.raises(ValueError, match="fields this version does not know: colour"):
        from_dict(DataConfig, {"colour": "red"})


def test_the_published_preset_is_the_published_configuration():
    c = PRESETS["seed-vit-base"]()
    o = c.optim
    assert (c.model.name, o.batch, o.lr, o.min_lr, o.warmup) == ("vit_base_patch16_224", 32, 3e-4, 3e-5, 500)
    assert (o.betas, o.weight_decay, o.weight_decay_end, o.clip_grad) == ((0.9, 0.95), 0.04, 0.4, 0.02)
    assert (c.mask.ratio, c.mask.specs, c.predictor.width, c.predictor.depth) == (0.75, ("salt",), 384, 12)


def test_options_change_a_preset(capsys):
    config, launch = parse("salt", PRESETS, "demo", ["--preset", "vit-base", "--optim.lr", "1e-3", "--detach"])
    assert (config.optim.lr, config.model.name, launch.detach) == (1e-3, "vit_base_patch16_224", True)
    assert parse("salt", PRESETS, "demo", [])[0] == PRESETS["demo"]()
    assert parse("salt", PRESETS, "demo", ["--preset=vit-small"])[0] == PRESETS["vit-small"]()
    for arguments in (["--preset", "vit-enormous"], ["--preset"], ["--optim.speed", "9"], ["--resume", "/nowhere"]):
        with pytest.raises(SystemExit) as caught:
            parse("salt", PRESETS, "demo", arguments)
        assert caught.value.code != 0


def test_help_explains_every_option(capsys):
    with pytest.raises(SystemExit) as caught:
        parse("salt", PRESETS, "demo", ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for option, meaning in (("--optim.lr", "Peak learning rate"), ("--data.path", "A folder of videos")):
        assert option in text
        assert meaning in text

    def leaves(config, prefix=""):
        for field in dataclasses.fields(config):
            value = getattr(config, field.name)
            if dataclasses.is_dataclass(value):
                yield from leaves(value, f"{prefix}{field.name}.")
            else:
                yield f"--{prefix}{field.name}".replace("_", "-")

    missing = [option for option in leaves(PRESETS["demo"]()) if option not in text]
    assert missing == []


def test_what_changed_is_listed():
    a = PRESETS["demo"]()
    b = dataclasses.replace(a, optim=dataclasses.replace(a.optim, lr=0.5))
    assert differences(a, b) == [f"optim.lr: {a.optim.lr} -> 0.5"]


@pytest.mark.parametrize("specs", [("multiblock",), ("salt",), ("vjepa_short", "vjepa_long"), ("tube",), ("random",)])
def test_masks_of_a_step(specs):
    sampler = MaskSampler(MaskConfig(specs=specs, ratio=0.75), (4, 6, 6), 20, seed=0, stage="salt")
    ids = torch.arange(5)
    masks = sampler(ids, 3)
    assert len(masks) == len(specs)
    for (visible, masked), (n_masked, n_visible) in zip(masks, sampler.counts, strict=True):
        assert visible.shape == (5, n_visible)
        assert masked.shape == (5, min(20, n_masked))
        assert bool((masked.diff(dim=1) > 0).all())
        assert not set(visible[0].tolist()) & set(masked[0].tolist())
    again, other = sampler(ids, 3), sampler(ids, 4)
    assert all(torch.equal(a[1], b[1]) for a, b in zip(masks, again, strict=True))
    assert not all(torch.equal(a[1], b[1]) for a, b in zip(masks, other, strict=True))
    whole = sampler.whole(ids, 3)[1]
    assert all(set(row.tolist()) <= set(all_.tolist()) for row, all_ in zip(masks[0][1], whole, strict=True))
    apart = MaskSampler(MaskConfig(specs=specs, ratio=0.75), (4, 6, 6), 20, seed=0, stage="pixel")(ids, 3)
    assert not torch.equal(apart[0][1], masks[0][1])


def test_a_predicted_subset_is_drawn_evenly():
    sampler = MaskSampler(MaskConfig(specs=("tube",), ratio=0.5), (4, 4, 4), 8, seed=0, stage="salt")
    whole, chosen = torch.zeros(64), torch.zeros(64)
    for draw in range(300):
        ids = torch.arange(16)
        chosen += torch.bincount(sampler(ids, draw)[0][1].flatten(), minlength=64)
        whole += torch.bincount(sampler.whole(ids, draw)[1].flatten(), minlength=64)
    assert (chosen / whole).std() < 0.02


def test_masks_that_leave_nothing_are_refused():
    with pytest.raises(ValueError, match=r"mask ratio 1\.0 leaves 0 visible"):
        MaskSampler(MaskConfig(ratio=1.0), (2, 2, 2), None, 0, "salt")


def test_timers_report_shares_of_the_wall_clock():
    timer = StepTimer(torch.device("cpu"))
    with timer.part("data"):
        time.sleep(0.03)
    with timer.part("forward"):
        time.sleep(0.01)
    time.sleep(0.01)
    timer.clips = 10
    report = timer.report()
    assert 0.4 < report["share_data"] < 0.75
    assert report["share_forward"] < report["share_data"]
    assert report["share_backward"] == 0
    assert 100 < report["clips_per_s"] < 210
    assert timer.report()["clips_per_s"] == 0


def test_signals_set_a_flag_and_sighup_is_ignored():
    from fastvid.train.signals import Stopped, StopSignals

    kept = {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    try:
        stop = StopSignals()
        os.kill(os.getpid(), signal.SIGHUP)
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(Stopped, match="stopped by SIGTERM") as caught:
            stop.check()
        assert caught.value.signum == signal.SIGTERM
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
