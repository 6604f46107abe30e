"""The whole check: its stages one after another, and after each the files of what there is so far."""

import json
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from tools.gpu import files
from tools.gpu.plan import LEAST, STAGES, SUMMARY, TUNE, Stage
from tools.gpu.runner import run
from tools.gpu.scale import scale

PASSED, FAILED, KILLED, NOT_RUN = "passed", "failed", "killed", "not run"


@dataclass
class Result:
    """The result of a stage.

    Attributes:
        stage: its name.
        ended: "passed", "failed", "killed" or "not run".
        why: of one that did not run.
        seconds: it took.
        cap: it had.
        found: the content of its record: values, rows, failures, and what was running when it ended.
    """

    stage: str
    ended: str
    why: str = ""
    seconds: float = 0.0
    cap: float = 0.0
    found: dict[str, Any] = field(default_factory=lambda: _found(None))


@dataclass
class Check:
    """A check and its folder.

    Attributes:
        results: folder of what is kept.
        work: folder of everything else.
        minutes: wall clock of all of it, the summary included.
        first: name of the stage to begin with; what the folder holds of the stages before it is kept.
        rehearse: on a CPU, with tiny sizes.
        tune: look for better launch parameters in the stage "ops".
        commit: of the tree, where git does not know it.
        spent: seconds of the minutes that have passed.
        environment: of every stage, beside its own.
        stages: what is run.
        about: date, commit and options, for the files.
        done: results by stage.
    """

    results: Path
    work: Path
    minutes: float = 10.0
    first: str = STAGES[0].name
    rehearse: bool = False
    tune: bool = False
    commit: str = ""
    spent: float = 0.0
    environment: dict[str, str] = field(default_factory=dict)
    stages: Sequence[Stage] = STAGES
    about: dict[str, Any] = field(default_factory=dict)
    done: dict[str, Result] = field(default_factory=dict)

    def run(self) -> None:
        """Run the stages; whatever happens, what there is lies in the folder, and nothing that was started is left."""
        began = time.monotonic() - self.spent
        end = began + 60 * self.minutes - SUMMARY
        for folder in (self.results, self.work / "logs", self.work / "stages"):
            folder.mkdir(parents=True, exist_ok=True)
        self.about = {"date": datetime.now().isoformat(timespec="seconds"), "minutes": self.minutes}
        self.about |= {"rehearsal": self.rehearse, "commit": self.commit or _commit()}
        names = [stage.name for stage in self.stages]
        before = names[: names.index(self.first)]
        self.done = {one["stage"]: Result(**one) for one in files.read(self.results) if one["stage"] in before}
        for stage in self.stages[len(before) :]:
            self._run(stage, end - time.monotonic())
            self._keep()
            last = self.done[stage.name]
            print(f"{stage.name:10s} {last.ended} {last.why} ({last.seconds:.1f} s of {last.cap:.0f})", flush=True)
        self.about["seconds"] = round(time.monotonic() - began, 1)
        files.write(self)

    def _keep(self) -> None:
        """Write what there is so far; where that fails, the stages still go on, and the last write raises."""
        try:
            files.write(self)
        except Exception:
            traceback.print_exc()

    def _run(self, stage: Stage, left: float) -> None:
        extra = TUNE if self.tune and stage.name == "ops" else 0.0
        patience = scale(self.rehearse).patience
        cap = left * stage.share if stage.cap is None else min(left, patience * (stage.cap + extra))
        if left < LEAST:
            self.done[stage.name] = Result(stage.name, NOT_RUN, "no time was left")
            return
        record, log = self.work / "stages" / f"{stage.name}.json", self.work / "logs" / f"{stage.name}.log"
        record.unlink(missing_ok=True)
        command = [
            sys.executable, "-m", stage.module, "--record", str(record), "--results", str(self.results), "--work",
            str(self.work), "--until", f"{time.time() + cap:.1f}", *(["--rehearse"] if self.rehearse else []),
            *(["--tune"] if self.tune else []),
        ]  # fmt: skip
        self.done[stage.name] = Result(stage.name, KILLED, "with the whole check", cap=cap)

        def tick() -> None:
            self.done[stage.name].found = _found(record)
            self._keep()

        try:
            ended = run(command, cap, log, self.environment, tick=tick)
        finally:
            self.done[stage.name].found = _found(record)
        result = self.done[stage.name]
        result.seconds, result.why = round(ended.seconds, 1), ""
        why = result.found["values"].get("not run")
        if ended.killed:
            result.ended = KILLED
            hung = [name for name in result.found["running"] if name != stage.name]
            result.found["failures"] += [f"{name}: running when the time was up" for name in hung[:5]]
        elif why is not None:
            result.ended, result.why = NOT_RUN, why
        elif ended.code == 0:
            result.ended = PASSED
        else:
            result.ended = FAILED
            if not result.found["failures"]:
                lines = log.read_text(errors="replace").strip().splitlines()
                result.found["failures"].append(f"ended with {ended.code}: {lines[-1][:250] if lines else 'no output'}")

    @property
    def failed(self) -> bool:
        """Return whether anything failed, was killed or could not run."""
        return any(result.ended != PASSED for result in self.done.values())

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as JSON values."""
        return {**self.about, "stages": [asdict(self.done[s.name]) for s in self.stages if s.name in self.done]}


def _found(record: Path | None) -> dict[str, Any]:
    if record is not None and record.exists():
        return json.loads(record.read_text())
    return {"values": {}, "rows": [], "failures": [], "running": []}


def _commit() -> str:
    asked = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        done = subprocess.run(asked, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"
