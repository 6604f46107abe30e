"""One process, two with DDP and two with FSDP train alike; what some save, others of another number go on from."""

import contextlib
import json
import shutil

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.checkpoint import checkpoint

from fastvid.command import UserError
from fastvid.data import Batch, LoaderState
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.distributed import World
from fastvid.train.engine import Engine
from fastvid.train.metrics import Tracker
from fastvid.train.optim import OptimConfig
from fastvid.train.parallel import make_mesh
from fastvid.train.rundir import RunDir
from fastvid.train.sharded import Sharded, blocks
from fastvid.train.sharded_files import StoredTensors
from fastvid.train.signals import StopSignals
from fastvid.train.stage import Stage
from tests.processes import together

ALONE = World(0, 1, torch.device("cpu"))
STEPS, BATCH = 6, 8


class Rows:
    """Rows of a fixed table, in order; a process takes every ``size``-th of a batch, as the loaders do."""

    description = "rows"

    def __init__(self, state: LoaderState, world: World, until: int):
        self.state, self.world, self.until = state, world, until
        self.table = torch.randn(50, 5, generator=torch.Generator().manual_seed(3))

    @property
    def clips_shown(self):
        return self.state.epoch * len(self.table) + self.state.sample

    def worker_bytes(self):
        return 0

    def __next__(self):
        if self.clips_shown >= self.until * BATCH:
            raise Enough
        rows = [(self.state.sample + slot) % len(self.table) for slot in range(self.world.rank, BATCH, self.world.size)]
        self.state = self.state.advance(BATCH, len(self.table))
        ids = torch.tensor(rows)
        return Batch(keys=[str(row) for row in rows], ids=ids, view_hashes=ids, extra={"x": self.table[ids]})

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        pass


class Enough(Exception):
    """The run is to end here, as if it was killed."""


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.norm, self.linear = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x):
        return x + torch.tanh(self.linear(self.norm(x)))


class Net(nn.Module):
    """Blocks that are recomputed in the backward pass, a frozen layer, sizes that no number of processes divides."""

    def __init__(self):
        super().__init__()
        self.embed, self.blocks = nn.Linear(5, 7), nn.ModuleList(Block(7) for _ in range(2))
        self.frozen, self.head = nn.Linear(7, 7).requires_grad_(False), nn.Linear(7, 1)
        self.scale = nn.Parameter(torch.ones(3))
        self.register_buffer("shift", torch.tensor(0.5))

    def forward(self, x):
        x = self.embed(x) + self.shift
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        return self.head(self.frozen(x)) * self.scale.mean()


def loss(module, batch, micro):
    x = batch.extra["x"]
    return (module(x).squeeze(1) - x.sum(1).sin()).square().mean(), {}


def train(folder, world=ALONE, *, mesh=None, until=STEPS, dtype=None):
    """Train to the end, or as far as the rows of ``until`` steps go, and return the weights."""
    run = tracker = None
    if world.is_main:
        run = RunDir.reopen(folder) if (folder / "config.json").exists() else RunDir.create(folder, {})
        tracker = Tracker(run, ["one"], [STEPS], tensorboard=False, wandb_project=None, config={})
    engine = Engine(
        run, tracker, Checkpoints(folder / "checkpoints", world=world), world, StopSignals(listen=False), 0,
        log_every=1, checkpoint_every=2, mesh=mesh, autocast=dtype,
    )  # fmt: skip
    torch.manual_seed(world.rank)  # of several processes the main process's weights are taken
    net = Net()

    def evaluate(step):
        with torch.no_grad():
            return {"quality": -float(net(torch.ones(2, 5)).square().mean())}

    optim = OptimConfig(steps=STEPS, warmup=1, batch=BATCH, lr=0.05, clip_grad=0.5)
    stage = Stage(
        "one", net, loss, optim, lambda state: Rows(state, world, until), evaluate, evaluate_every=3,
        keep_best="quality",
    )  # fmt: skip
    with contextlib.suppress(Enough):
        engine.train(stage)
    engine.close()
    if run:
        run.close()
    return net.state_dict()


def records(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    kept = ("step", "loss", "grad_norm", "quality")
    return [{name: record[name] for name in kept if name in record} for record in map(json.loads, lines)]


def assert_alike(folder, other, near=1e-5):
    for ours, theirs in zip(records(folder), records(other), strict=True):
        assert ours == pytest.approx(theirs, rel=near), (ours, theirs)


def in_two(world, folder):
    """What two processes do."""
    mesh = make_mesh(world, "fsdp", None)
    ddp, fsdp = train(folder / "ddp", world), train(folder / "fsdp", world, mesh=mesh)
    torch.save([ddp, fsdp], folder / f"weights-{world.rank}.pt")
    train(folder / "moved", world, mesh=mesh, until=2)
    train(folder / "bfloat16", world, mesh=mesh, dtype=torch.bfloat16)
    net = Net()
    total = numbers(net)
    sharded = Sharded(net, mesh, dtype=None, compile=False)
    held = [numbers(net), sum(parameter.to_local().numel() for parameter in sharded.trained.parameters())]
    with sharded.whole(world):
        held.append(numbers(net))
    held.append(numbers(net))
    if world.is_main:
        (folder / "sizes.json").write_text(json.dumps([total, *held]))


def numbers(module):
    return sum(parameter.numel() for parameter in module.parameters())


def in_four(world, folder):
    """What four processes do: they go on from what one process, and from what two, have saved."""
    train(folder / "moved", world, mesh=make_mesh(world, "fsdp", None))
    train(folder / "hybrid", world, mesh=make_mesh(world, "fsdp", 2))


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Runs of one process, of two, and of two and then one and then four."""
    folder = tmp_path_factory.mktemp("home")
    weights = train(folder / "one")
    torch.save(weights, folder / "weights.pt")
    together(2, in_two, folder)
    shutil.copytree(folder / "moved", folder / "hybrid")
    train(folder / "moved", until=4)
    together(4, in_four, folder)
    return folder


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_are_one_at_the_same_global_batch(home, name):
    assert_alike(home / name, home / "one")
    whole = torch.load(home / "weights.pt")
    for rank in (0, 1):
        weights = torch.load(home / f"weights-{rank}.pt")[name == "fsdp"]
        assert weights.keys() == whole.keys()
        for key, value in weights.items():
            torch.testing.assert_close(value, whole[key])


def test_two_save_one_goes_on_and_then_four(home):
    assert_alike(home / "moved", home / "one")


def test_shards_of_two_go_on_as_two_replicas_of_two_shards(home):
    assert_alike(home / "hybrid", home / "one")


def test_weights_gathered_in_bfloat16_learn_nearly_the_same(home):
    assert_alike(home / "bfloat16", home / "one", near=0.03)
    stored = StoredTensors(home / "bfloat16" / "checkpoints" / "one-00000006")
    tensors = {name: torch.empty(size) for name, size in stored.sizes.items()}
    stored.read(tensors)
    weight = tensors["head.weight"]
    assert not torch.equal(weight, weight.bfloat16().float())  # what the optimizer updates is float32


def test_a_process_holds_a_shard_and_all_weights_only_for_an_evaluation(home):
    total, training, shard, evaluation, after = json.loads((home / "sizes.json").read_text())
    assert (training, evaluation, after) == (0, total, 0)
    assert total / 2 <= shard < 0.6 * total  # the main process's is the larger where they do not divide


def test_a_sharded_checkpoint_holds_what_a_whole_one_does(home):
    shards, whole = (home / name / "checkpoints" / "one-00000006" for name in ("fsdp", "one"))
    assert sorted(path.name for path in shards.iterdir()) == [
        "shard-00001-model-00001-of-00001.safetensors", "shard-00002-model-00001-of-00001.safetensors", "state.json"
    ]  # fmt: skip
    assert StoredTensors(shards).sizes == StoredTensors(whole).sizes
    assert "frozen.weight" not in StoredTensors(shards).sizes


@pytest.mark.parametrize("shard", [1, 2])
def test_a_checkpoint_that_lacks_a_shard_is_set_aside(home, tmp_path, shard):
    shutil.copytree(home / "fsdp", tmp_path / "run")
    newest = tmp_path / "run" / "checkpoints" / "one-00000006"
    (newest / f"shard-0000{shard}-model-00001-of-00001.safetensors").unlink()
    checkpoints, net = Checkpoints(tmp_path / "run" / "checkpoints"), Net()
    assert checkpoints.restore("one", net, torch.optim.AdamW(net.parameters()))["step"] == 4
    assert newest.with_name("one-00000006.unreadable").is_dir()


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")
def test_a_tensor_that_lay_whole_in_a_lost_shard_is_missed(tmp_path):
    """Of what is left, every tensor is whole."""
    net = nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        net(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        checkpoints.save("one", step, net, optimizer, {}, sharded=True)
    shard = tmp_path / "one-00000002" / "shard-00001-model-00001-of-00001.safetensors"
    with safe_open(shard, "pt") as file:
        sharding = json.loads(file.metadata()["DCP_SHARDING_INFO"])
    tensors = load_file(shard)
    tensors.pop("bias/step")
    save_file(tensors, shard, {"DCP_SHARDING_INFO": json.dumps(sharding)})
    StoredTensors(shard.parent).check(tensors)
    assert checkpoints.restore("one", net, optimizer)["step"] == 1


def test_blocks_are_the_elements_of_lists_of_one_class():
    net = Net()
    assert list(blocks(net)) == list(net.blocks)
    mixed = nn.Sequential(nn.Linear(2, 2), nn.GELU(), nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)))
    assert list(blocks(mixed)) == list(mixed[2])
    mixed[2].whole_in_step = True
    assert list(blocks(mixed)) == []


def test_processes_that_do_not_divide_into_shards_are_refused():
    with pytest.raises(UserError, match=r"--run.shard 3: 4 processes do not divide"):
        make_mesh(World(0, 4, torch.device("cpu")), "fsdp", 3)
    assert make_mesh(ALONE, "fsdp", None) is None
