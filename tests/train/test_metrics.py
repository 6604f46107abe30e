import json
import sys

from fastvid.train.metrics import MetricsFile, Tracker
from fastvid.train.rundir import RunDir


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
