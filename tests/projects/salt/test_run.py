import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file

from fastvid.eval import __main__ as door
from fastvid.projects.salt.probe import possible_probes
from tests import preloaded
from tests.eval.test_intphys import write_intphys
from tests.train.conftest import TINY, records
from tests.video.clips import encode
from tests.waiting import HANG, wait_for

# How many runs are killed at random moments; raise it to be surer: FASTVID_KILL_TRIALS=20.
KILL_TRIALS = int(os.environ.get("FASTVID_KILL_TRIALS", "1"))

TIME = ("arrow", "order", "static", "reversed")


@pytest.fixture(scope="module")
def finished(environment, tmp_path_factory):
    """An uninterrupted run."""
    directory = tmp_path_factory.mktemp("runs") / "whole"
    done = preloaded.run("fastvid.train", "salt", "--run.dir", str(directory), *TINY, env=environment)
    assert done.returncode == 0, done.stderr
    return directory, done


def test_a_run_leaves_everything_that_is_known_about_it(finished):
    directory, done = finished
    names = {p.name for p in directory.iterdir()}
    assert {
        "config.json", "run.json", "metrics.jsonl", "log.txt", "status.json", "probe.json", "report.html",
        "checkpoints", "student", "teacher", "pictures", "tensorboard",
    } <= names  # fmt: skip
    stages = [r["stage"] for r in records(directory) if "loss" in r]
    assert stages == ["pixel"] * 10 + ["salt"] * 10
    last = records(directory, clock=True)[-2]
    assert last["step"] == 30
    assert last["clips"] == 240
    assert last["clips_per_s"] > 0
    assert 0 < sum(last[f"share_{part}"] for part in ("data", "forward", "backward", "optimizer")) <= 1.001
    assert json.loads((directory / "status.json").read_text())["state"] == "finished"
    assert "\r" not in (directory / "log.txt").read_text()
    assert "\r" not in done.stderr
    probe = json.loads((directory / "probe.json").read_text())
    assert [row["encoder"] for row in probe["rows"]] == [
        "student", "teacher", "random initialisation", "student, single frame",
    ]  # fmt: skip
    assert probe["test"] == 16
    kept = sorted(p.name for p in (directory / "checkpoints").iterdir())
    assert kept == ["pixel-00000028", "pixel-00000030", "salt-00000028", "salt-00000030"]


def test_the_health_of_both_stages_is_recorded(finished):
    directory, _ = finished
    checks = [r for r in records(directory) if "health_rank" in r]
    assert [(r["stage"], r["step"]) for r in checks] == [(s, n) for s in ("pixel", "salt") for n in (10, 20, 30)]
    assert all(1 <= r["health_rank"] <= 32 for r in checks)
    assert all(r["health_mean_predictor_loss"] > 0 for r in checks)
    assert "health_teacher_rank" in checks[-1]


def test_the_report_is_one_file_with_everything(finished):
    directory, _ = finished
    page = (directory / "report.html").read_text()
    assert not re.search(r"""(src|href)=["']http""", page)
    assert page.count("data:image/png;base64") == 4
    for words in ("What was learnt", "random initialisation", "clips per second", "single frame", "Configuration"):
        assert words in page


def equal_runs(a, b) -> None:
    assert records(a) == records(b)
    for part in ("student", "teacher"):
        left, right = (load_file(d / part / "encoder.safetensors") for d in (a, b))
        assert all(torch.equal(left[name], right[name]) for name in left)
    assert (a / "probe.json").read_text() == (b / "probe.json").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("trial", range(KILL_TRIALS))
def test_killed_at_random_moments_and_resumed_it_is_the_same_run(finished, salt, tmp_path, trial):
    rng = random.Random(f"{trial} {KILL_TRIALS}")
    directory = tmp_path / "killed"
    longest, kills = 16.0, 0
    while True:
        process = salt(directory, wait=False, resume=(directory / "config.json").exists())
        try:
            _, err = process.communicate(timeout=rng.uniform(3, longest) if kills < 3 else HANG)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            kills += 1
            continue
        assert process.returncode == 0, err
        if kills:
            break
        shutil.rmtree(directory)  # this machine is done before the moment came: another run, an earlier moment
        longest = 3 + (longest - 3) / 2
    equal_runs(finished[0], directory)


@pytest.mark.parametrize(("number", "code", "stage"), [(signal.SIGTERM, 143, "pixel"), (signal.SIGINT, 130, "salt")])
def test_a_polite_stop_saves_within_one_step_and_resumes(finished, salt, tmp_path, number, code, stage):
    directory = tmp_path / "stopped"
    process = salt(directory, wait=False)
    metrics = directory / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count(f'"stage": "{stage}"') >= 2)
    process.send_signal(number)
    _, err = process.communicate(timeout=HANG)
    assert process.returncode == code, err
    status = json.loads((directory / "status.json").read_text())
    assert (status["state"], status["signal"]) == ("stopped", number.name)
    newest = sorted(p.name for p in (directory / "checkpoints").iterdir())[-1]
    assert newest == f"{status['stage']}-{status['step']:08d}"
    assert (directory / "report.html").exists()
    assert salt(directory, resume=True).returncode == 0
    equal_runs(finished[0], directory)


def test_a_run_survives_the_shell_it_was_detached_from(environment, tmp_path):
    directory = tmp_path / "free"
    line = f"{sys.executable} -m fastvid.train salt --detach --run.dir {directory} {' '.join(TINY)}; kill -HUP 0"
    shell = subprocess.Popen(["bash", "-c", line], env=environment, start_new_session=True, stdout=subprocess.PIPE)
    out, _ = shell.communicate(timeout=HANG)
    assert f"running in {directory} as process".encode() in out
    wait_for(lambda: json.loads((directory / "status.json").read_text())["state"] == "finished")


def test_a_detached_run_that_cannot_start_says_so(salt, tmp_path):
    done = salt(tmp_path / "r", "--detach", "--data.path", tmp_path / "nowhere")
    assert done.returncode == 2
    assert "no data at" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--data.path", "/nowhere"), "no data at /nowhere: give a folder of videos or of tar shards"),
        (("--model.name", "vit_nano"), "timm has no model 'vit_nano'"),
        (("--data.frames", "15"), "15 frames of 32 x 32 do not divide into tubelets"),
        (("--predictor.heads", "5"), "predictor: width 32 must be even and divisible by its 5 heads"),
        (("--teacher.source", "magic"), "use pixel, checkpoint:PATH or hf:NAME_OR_DIR"),
        (("--mask.ratio", "1.5"), "--mask.ratio must be above 0 and below 1; got 1.5"),
        (("--optim.batch", "9", "--optim.accumulate", "2"), "a batch of 9 does not divide into 2 micro-batches"),
    ],
)
def test_wrong_options_are_one_sentence_before_anything_is_trained(salt, tmp_path, options, words):
    done = salt(tmp_path / "r", *options)
    assert done.returncode == 2
    assert words in " ".join(re.sub("[│╭╰─╮╯]", " ", done.stderr).split())
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_crash_is_in_the_log_with_its_traceback(salt, tmp_path):
    directory = tmp_path / "r"
    done = salt(directory, "--optim.lr", "1e30", "--teacher.optim.lr", "1e30", "--teacher.optim.clip-grad", "0")
    assert done.returncode == 1
    log = (directory / "log.txt").read_text()
    assert "Traceback" in log
    assert re.search("FloatingPointError: the (loss|gradient) of stage pixel", log)
    assert json.loads((directory / "status.json").read_text())["state"] == "failed"


def test_a_directory_is_used_once(finished, salt):
    done = salt(finished[0])
    assert done.returncode == 2
    assert "holds a run: continue it with --resume" in done.stderr


def test_resuming_a_finished_run_changes_nothing(finished, salt):
    before = records(finished[0])
    assert salt(finished[0], resume=True).returncode == 0
    assert records(finished[0]) == before


def test_a_wrong_option_on_resume_leaves_the_run_as_it_was(finished, salt):
    before = (finished[0] / "config.json").read_text()
    done = salt(finished[0], "--model.name", "vit_nano", resume=True)
    assert done.returncode == 2
    assert "timm has no model" in done.stderr
    assert (finished[0] / "config.json").read_text() == before
    assert salt(finished[0], resume=True).returncode == 0


def test_training_the_teacher_on_sets_the_student_aside(salt, tmp_path):
    directory = tmp_path / "r"
    assert salt(directory, "--optim.steps", "10").returncode == 0
    done = salt(directory, "--teacher.optim.steps", "40", resume=True)
    assert done.returncode == 0, done.stderr
    assert "salt-00000010 belongs to an earlier training" in done.stderr
    steps = {stage: [r["step"] for r in records(directory) if r["stage"] == stage] for stage in ("pixel", "salt")}
    assert (steps["pixel"][-1], steps["salt"][-1]) == (40, 10)
    assert (directory / "probe.json.superseded").exists()
    assert (directory / "probe.json").exists()


def test_detaching_onto_a_finished_run_is_refused(finished, salt):
    done = salt(finished[0], "--detach")
    assert done.returncode == 2
    assert "holds a run: continue it with --resume" in done.stderr


@pytest.mark.slow
def test_two_processes_are_one_process_at_the_same_global_batch(finished, salt, tmp_path):
    directory = tmp_path / "two"
    options = ("--loss.variance", "0.1", "--loss.covariance", "0.01", "--optim.accumulate", "2")
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    two = salt(directory, *options, launcher=launcher)
    assert two.returncode == 0, two.stderr
    one = salt(tmp_path / "one", *options)
    assert one.returncode == 0, one.stderr
    for a, b in zip(records(tmp_path / "one"), records(directory), strict=True):
        assert a.keys() == b.keys()
        assert (a["stage"], a["step"]) == (b["stage"], b["step"])
        for name in a.keys() - {"stage", "step"}:
            assert b[name] == pytest.approx(a[name], rel=2e-3, abs=1e-5), (a["stage"], a["step"], name)


def test_own_videos_with_a_bad_one(salt, tmp_path):
    for label in ("run", "sit"):
        folder = tmp_path / "videos" / label
        folder.mkdir(parents=True)
        for i in range(8):
            (folder / f"{i}.mp4").write_bytes(encode(20, container="matroska" if i % 2 else "mp4"))
    (tmp_path / "videos" / "run" / "bad.mp4").write_bytes(encode(20)[:700])
    directory = tmp_path / "r"
    done = salt(directory, "--data.path", tmp_path / "videos", "--data.holdout", "0.4")
    assert done.returncode == 0, done.stderr
    (bad,) = [json.loads(line) for line in (directory / "bad_samples.jsonl").read_text().splitlines()]
    assert (bad["key"], bad["reason"]) == ("run/bad.mp4", "truncated")
    assert "bad sample run/bad.mp4: truncated" in done.stderr
    assert "run/bad.mp4" in (directory / "report.html").read_text()
    assert json.loads((directory / "probe.json").read_text())["classes"] == ["run", "sit"]


def test_the_page_shows_what_is_known_of_time(salt, tmp_path):
    directory = tmp_path / "r"
    done = salt(directory, "--teacher.optim.steps", "2", "--optim.steps", "2", "--probe.probes", *TIME)
    assert done.returncode == 0, done.stderr
    rows = json.loads((directory / "probe.json").read_text())["rows"]
    for name, chance, total in (("arrow", 1 / 2, 32), ("order", 1 / 6, 16)):
        assert all((row[name]["chance"], row[name]["total"]) == (chance, total) for row in rows)
    assert all(row["static"]["total"] == row["reversed"]["total"] == 16 for row in rows)
    page = (directory / "report.html").read_text()
    assert "What the encoders know of time: forwards or backwards?" in page
    assert "chance 17 %" in page


def test_clips_that_are_too_short_for_the_probe_of_order_go_without(caplog):
    with caplog.at_level("INFO"):
        assert possible_probes(TIME, 2) == ("arrow", "static", "reversed")
    assert "no probe of order: it shuffles 3 segments, and clips have 2 time slots" in caplog.text
    assert possible_probes(TIME, 3) == TIME


@pytest.mark.parametrize("source", ["checkpoint", "hf"])
def test_a_given_teacher(finished, salt, tmp_path, source):
    if source == "checkpoint":
        teacher = f"checkpoint:{finished[0]}"
    else:
        from transformers import VideoMAEConfig, VideoMAEModel

        config = VideoMAEConfig(
            image_size=32, num_frames=16, hidden_size=24, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=48,
        )  # fmt: skip
        VideoMAEModel(config).save_pretrained(tmp_path / "videomae")
        teacher = f"hf:{tmp_path / 'videomae'}"
    done = salt(tmp_path / "r", "--teacher.source", teacher)
    assert done.returncode == 0, done.stderr
    assert {r["stage"] for r in records(tmp_path / "r")} == {"salt"}
    assert (tmp_path / "r" / "probe.json").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--mask.specs", "vjepa_short", "vjepa_long", "--mask.temporal", "None", "--mask.area", "None"),
        ("--predictor.layout", "dense", "--loss.kind", "l1"),
        ("--loss.kind", "cosine", "--model.positions", "learned", "--model.checkpointing", "True"),
        ("--run.precision", "bfloat16", "--model.drop-path", "0.2"),
        (
            "--teacher.layers",
            "1,2",
            "--model.depth",
            "2",
            "--loss.context",
            "0.5",
            "--loss.context-warmup",
            "0",
            "0",
            "--run.precision",
            "bfloat16",
        ),
    ],
)
def test_other_ways_to_train(salt, tmp_path, options):
    done = salt(tmp_path / "r", *options, "--probe.enabled", "False")
    assert done.returncode == 0, done.stderr
    losses = [r["loss"] for r in records(tmp_path / "r") if r["stage"] == "salt" and "loss" in r]
    assert losses[-1] < losses[0]


@pytest.mark.slow
def test_a_compiled_run_is_close_to_an_eager_one_and_compiles_once(finished, salt, tmp_path):
    options = ("--run.compile", "True", "--run.memory-budget", "0.5", "--probe.enabled", "False")
    done = salt(tmp_path / "r", *options, TORCH_LOGS="recompiles")
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Recompiling function") == 1, done.stderr  # when the second stage brings its own module
    for a, b in zip(records(finished[0]), records(tmp_path / "r"), strict=True):
        if "loss" in a:
            assert b["loss"] == pytest.approx(a["loss"], rel=1e-2)


def test_any_run_can_be_probed_on_labelled_videos(finished, environment, tmp_path):
    for label in ("a", "b"):
        (tmp_path / "v" / label).mkdir(parents=True)
        for i in range(12):
            (tmp_path / "v" / label / f"{i}.mp4").write_bytes(encode(20))
    options = ("--data.path", str(tmp_path / "v"), "--attentive-epochs", "1", "--out", str(tmp_path / "result.json"))
    done = preloaded.run("fastvid.eval", str(finished[0]), *options, env=environment)
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["classes"] == ["a", "b"]
    assert [row["encoder"] for row in result["rows"]] == [
        "student", "teacher", "random initialisation", "student, single frame",
    ]  # fmt: skip
    for arguments, words in (
        ([str(tmp_path), "--data.path", str(tmp_path / "v")], "no encoder in"),
        ([str(finished[0]), "--data.path", str(tmp_path / "v" / "a")], "has 0 classes; probes need at least two"),
    ):
        done = preloaded.run("fastvid.eval", *arguments, env=environment)
        assert done.returncode == 2
        assert words in done.stderr


def test_the_surprise_of_a_run_can_be_measured(finished, tmp_path):
    directory, _ = finished
    names = load_file(directory / "student" / "predictor.safetensors")
    assert {name.partition(".")[0] for name in names} == {"predictor"}
    folder, out = write_intphys(tmp_path / "Main", scenes=2), tmp_path / "result.json"
    arguments = [str(directory), "--data.path", str(folder), "--probe", "intphys", "--out", str(out)]
    assert door.main([*arguments, "--intphys.windows", "2"]) == 0
    result = json.loads(out.read_text())
    assert [row["encoder"] for row in result["rows"]] == ["student", "random initialisation", "student, single frame"]
    assert all(row["intphys"]["total"] == 4 for row in result["rows"])
    assert set(result["rows"][0]["intphys"]["by"]) == {"seen", "condition", "difficulty", "camera"}


def test_how_a_run_ended_can_be_asked(finished, environment, tmp_path):
    assert "finished" in preloaded.run("fastvid.info", str(finished[0]), env=environment).stdout
