"""Resuming: with other data, from another folder, as another project, after a full disk, under other launchers."""

import json
import os
import resource
import shutil
import subprocess
import sys

import pytest
from safetensors import SafetensorError
from torch import nn, optim

from fastvid.command import UserError
from fastvid.data.demo.files import encode_h264
from fastvid.data.demo.render import DemoSpec, demo_frames
from fastvid.data.inventory import FILE
from fastvid.projects.salt.config import SaltConfig
from fastvid.projects.salt.presets import PRESETS
from fastvid.train import checkpoint
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.config import from_dict, parse, to_dict
from fastvid.train.distributed import check_launcher
from fastvid.train.metrics import MetricsFile
from fastvid.train.rundir import RunDir, how_it_ended
from tests import preloaded
from tests.train.conftest import TINY, records
from tests.waiting import HANG

SMALL = [*TINY, "--teacher.optim.steps", "2", "--optim.steps", "2", "--health.every", "0", "--probe.enabled", "False"]


@pytest.fixture(scope="module")
def train(environment):
    """Runs ``python -m fastvid.train`` in a folder."""

    def launch(folder, *arguments, project="salt", **how):
        if not how:
            return preloaded.run("fastvid.train", project, *map(str, arguments), env=environment, cwd=folder)
        process = [sys.executable, "-m", "fastvid.train", project, *map(str, arguments)]
        return subprocess.run(process, env=environment, cwd=folder, capture_output=True, text=True, timeout=HANG, **how)

    return launch


@pytest.fixture(scope="module")
def finished(train, tmp_path_factory):
    """A short run on loose videos, given by a relative path."""
    home = tmp_path_factory.mktemp("home")
    for number in range(8):
        path = home / "videos" / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode_h264(demo_frames(0, number, DemoSpec(size=32, frames=16)), 8))
    done = train(home, *SMALL, "--run.dir", "run", "--data.path", "videos", "--data.holdout", "0")
    assert done.returncode == 0, done.stderr
    return home


@pytest.fixture
def home(finished, tmp_path):
    """A copy of the folder with the run and its videos, and the run's own paths in it."""
    shutil.copytree(finished, tmp_path / "home")
    config = tmp_path / "home" / "run" / "config.json"
    config.write_text(config.read_text().replace(str(finished), str(tmp_path / "home")))
    return tmp_path / "home"


def state(run):
    return {name: (run / name).read_bytes() for name in ("status.json", "config.json", FILE)}


def test_it_goes_on_from_another_folder(train, home, tmp_path):
    assert json.loads((home / "run" / "config.json").read_text())["data"]["path"] == str(home / "videos")
    done = train(tmp_path, "--resume", home / "run", "--optim.steps", "4")
    assert done.returncode == 0, done.stderr
    assert records(home / "run")[-1]["step"] == 4


def test_data_that_changed_is_refused_named_and_accepted_when_told(train, home):
    run, before = home / "run", state(home / "run")
    (home / "videos" / "a" / "new.mp4").write_bytes((home / "videos" / "a" / "0.mp4").read_bytes())
    (home / "videos" / "b" / "1.mp4").unlink()
    done = train(home, "--resume", "run", "--optim.steps", "4")
    assert done.returncode == 2
    assert "not what this run was trained on: 1 file added (a/new.mp4); 1 file removed (b/1.mp4)" in done.stderr
    assert "--accept-changed" in done.stderr
    assert "Traceback" not in done.stderr
    assert state(run) == before
    done = train(home, "--resume", "run", "--optim.steps", "4", "--accept-changed")
    assert done.returncode == 0, done.stderr
    assert "and is accepted: 1 file added" in done.stderr
    assert records(run)[-1]["step"] == 4
    again = train(home, "--resume", "run")  # what was accepted is what it is trained on now
    assert again.returncode == 0, again.stderr
    assert "not what this run" not in again.stderr


def test_an_older_run_has_no_record_of_its_data_and_goes_on(train, home):
    (home / "run" / FILE).unlink()
    done = train(home, "--resume", "run")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("which data this run was trained on until now was not written down") == 1
    assert (home / "run" / FILE).exists()


def test_a_relative_path_of_an_older_run(train, home, tmp_path):
    run, config = home / "run", home / "run" / "config.json"
    config.write_text(config.read_text().replace(str(home / "videos"), "videos"))
    before = state(run)
    done = train(tmp_path, "--resume", run)
    assert done.returncode == 2
    assert "started with the relative path --data.path videos, from a folder that it did not write down" in done.stderr
    assert done.stderr.count("\n") == 1
    assert state(run) == before
    assert train(home, "--resume", "run").returncode == 0


def test_inputs_that_are_gone_leave_the_status_as_it_was(train, home):
    before = state(home / "run")
    shutil.rmtree(home / "videos")
    done = train(home, "--resume", "run")
    assert done.returncode == 2
    assert "no data at" in done.stderr
    assert state(home / "run") == before
    assert how_it_ended(home / "run") == "finished"


def test_a_run_of_another_project_is_named(tmp_path, capsys):
    for facts in ({"project": "salt"}, {}):  # older runs do not say it
        run = tmp_path / f"run{len(facts)}"
        RunDir.create(run, to_dict(SaltConfig())).record(**facts)
        with pytest.raises(UserError, match=r"run of salt: .*`python -m fastvid.train salt --resume"):
            parse("vjepa2", PRESETS, "demo", ["--resume", str(run)])
        parse("salt", PRESETS, "demo", ["--resume", str(run)])
    (run / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"config\.json is damaged"):
        parse("salt", PRESETS, "demo", ["--resume", str(run)])
    (run / "config.json").write_text('{"colour": 1}')
    with pytest.raises(UserError, match="fields this version does not know: colour"):
        parse("salt", PRESETS, "demo", ["--resume", str(run)])


def test_every_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    for option, value, expected in (
        ("--data.path", "videos", tmp_path / "videos"),
        ("--data.path", "demo", "demo"),
        ("--data.path", "s3://bucket/videos", "s3://bucket/videos"),
        ("--data.path", "~/videos", os.path.expanduser("~/videos")),
        ("--data.labels", "../labels.csv", tmp_path.parent / "labels.csv"),
        ("--data.disk-dir", "disk", tmp_path / "disk"),
        ("--latents", "latents", tmp_path / "latents"),
        ("--teacher.source", "checkpoint:run", f"checkpoint:{tmp_path / 'run'}"),
        ("--teacher.source", "hf:model", f"hf:{tmp_path / 'model'}"),
        ("--teacher.source", "hf:owner/name", "hf:owner/name"),
        ("--teacher.source", "pixel", "pixel"),
    ):
        config, _ = parse("salt", PRESETS, "demo", [option, value])
        for part in option.lstrip("-").replace("-", "_").split("."):
            config = getattr(config, part)
        assert config == str(expected)


def test_the_paths_of_fine_tuning_are_absolute(tmp_path, monkeypatch):
    from fastvid.projects.vjepa2.presets import PRESETS as VJEPA2

    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").mkdir()
    options = ["--data.lists", "lists", "--features.dir", "features", "--model.source", "model"]
    config, _ = parse("vjepa2", VJEPA2, "demo", options)
    found = (config.data.lists, config.features.dir, config.model.source)
    assert found == tuple(str(tmp_path / name) for name in ("lists", "features", "model"))
    hub, _ = parse("vjepa2", VJEPA2, "demo", ["--model.source", "owner/name"])
    assert hub.model.source == "owner/name"
    assert from_dict(type(config), to_dict(config)) == config


def test_a_resume_keeps_the_step_it_comes_from(tmp_path):
    run = RunDir.create(tmp_path / "r", {})
    run.heartbeat("running", force=True, stage="salt", step=7)
    run.close()
    run = RunDir.reopen(tmp_path / "r")
    run.heartbeat("stopped", force=True, signal="SIGTERM")
    run.close()
    assert how_it_ended(tmp_path / "r").startswith("stopped at salt step 7 by SIGTERM")


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    module = nn.Linear(2, 2)
    optimizer, kept = optim.AdamW(module.parameters()), Checkpoints(tmp_path, keep=1)
    kept.save("a", 1, module, optimizer, {})

    def full(tensors, path):
        path.write_bytes(b"half")
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(checkpoint, "save_file", full)
    for save in (lambda: kept.save("a", 2, module, optimizer, {}), lambda: kept.keep_best("a", 2, module, 0.5)):
        with pytest.raises(OSError, match="No space left") as caught:
            save()
        assert caught.value.filename.endswith("a-00000002")
    assert [path.name for path in tmp_path.rglob("*") if path.name.startswith(".")] == []
    assert kept.steps("a") == [1]
    assert kept.restore("a", module, optimizer) is not None


def test_a_run_that_met_a_full_disk_goes_on(train, finished, tmp_path):
    """A limit on the size of files stands for the disk: metrics and settings fit under it, a checkpoint does not."""

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))

    run = tmp_path / "run"
    options = [*SMALL, "--run.tensorboard", "False", "--data.path", finished / "videos", "--data.holdout", "0"]
    done = train(tmp_path, *options, "--run.dir", run, "--model.width", "96", preexec_fn=limited)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "pixel-00000002 cannot be written: it is larger than the limit on the size of a file" in done.stderr
    assert f"With --resume {run} the run goes on" in done.stderr
    assert json.loads((run / "status.json").read_text())["state"] == "failed"
    assert list(run.rglob("*.part")) == []
    done = train(tmp_path, "--resume", run)
    assert done.returncode == 0, done.stderr


def test_a_line_that_a_full_disk_refused_is_not_tried_again(tmp_path):
    file = MetricsFile(tmp_path / "metrics.jsonl")
    file.write({"step": 1})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        with pytest.raises(OSError, match="File too large") as caught:
            file.write({"step": 2, "loss": 0.5})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert caught.value.filename == str(tmp_path / "metrics.jsonl")
    file.close()
    MetricsFile(tmp_path / "metrics.jsonl").close()
    assert (tmp_path / "metrics.jsonl").read_text() == '{"step": 1}\n'


def test_processes_that_would_each_train_alone_are_refused(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "PMI_")) or name in ("RANK", "WORLD_SIZE"):
            monkeypatch.delenv(name)
    check_launcher("salt")
    for name, value in {"SLURM_NTASKS": "8", "SLURM_PROCID": "0", "SLURM_JOB_ID": "7"}.items():
        monkeypatch.setenv(name, value)
    check_launcher("salt")  # the script of sbatch, or the shell of salloc: one process
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    check_launcher("salt")
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "8")
    with pytest.raises(UserError, match="srun started 8 processes") as caught:
        check_launcher("salt")
    assert "`torchrun --nproc-per-node 8 -m fastvid.train salt ...`" in str(caught.value)
    monkeypatch.setenv("SLURM_STEP_NUM_NODES", "2")
    with pytest.raises(UserError, match="srun --nodes 2 --ntasks-per-node 1 torchrun --nnodes 2 --nproc-per-node 4"):
        check_launcher("salt")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "1")
    check_launcher("salt")  # torchrun's, or told to be alone


@pytest.mark.parametrize("name", ["OMPI_COMM_WORLD", "PMI"])
def test_processes_of_mpirun_are_refused(monkeypatch, name):
    for variable in ("RANK", "WORLD_SIZE", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(f"{name}_SIZE", "2")
    monkeypatch.setenv(f"{name}_RANK", "1")
    with pytest.raises(UserError, match=rf"mpirun started 2 processes \({name}_SIZE\)"):
        check_launcher("salt")
