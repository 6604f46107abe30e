import errno
import json
import subprocess
import sys

from fastvid.train.metrics import MetricsFile, Tracker
from fastvid.train.rundir import RunDir
from tests.waiting import HANG


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


def test_a_view_that_a_full_disk_refuses_is_dropped_and_the_record_goes_on(tmp_path, monkeypatch, caplog):
    run, tracker = make_tracker(tmp_path / "r", tensorboard=True)
    tracker.begin("a", 0)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tracker._board, "add_scalar", full)
    for step in (1, 2):
        tracker.log("a", step, {"loss": 1.0})
    tracker.close()
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2]
    assert caplog.text.count("TensorBoard's events cannot be written") == 1


def test_a_thread_that_cannot_write_is_a_sentence_and_a_bug_in_one_a_traceback():
    code = """
import errno, threading
from fastvid.train.logs import start_logging

def fail(error):
    raise error

start_logging()
for error in (OSError(errno.ENOSPC, "No space left on device", "events"), ZeroDivisionError("bug")):
    thread = threading.Thread(target=fail, args=(error,))
    thread.start()
    thread.join()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG)
    assert "events cannot be written: the disk is full" in done.stderr
    assert "ZeroDivisionError: bug" in done.stderr
    assert done.stderr.count("Traceback") == 1
