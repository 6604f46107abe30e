"""The record of a run, ``metrics.jsonl``, and its views: TensorBoard and Weights & Biases.

The file is the truth: one JSON object a line, flushed as it is written. The views are fed from it and may fail without
stopping the run.
"""

import json
import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastvid.files import naming
from fastvid.train.rundir import RunDir

log = logging.getLogger(__name__)


class MetricsFile:
    """Appends records to a JSON-lines file.

    Args:
        path: the file. A line that a kill cut short is removed.
    """

    def __init__(self, path: Path):
        self.path = path
        path.touch()
        self.truncate(lambda record: True)
        self._file = path.open("ab", buffering=0)  # a line that a full disk refused must not be tried again

    def truncate(self, keep: Callable[[dict[str, Any]], bool]) -> None:
        """Drop the first record for which ``keep`` is False, and everything after it."""
        data = self.path.read_bytes()
        end = 0
        for line in data.splitlines(keepends=True):
            if not line.endswith(b"\n") or not keep(json.loads(line)):
                break
            end += len(line)
        if end < len(data):
            os.truncate(self.path, end)

    def write(self, record: dict[str, Any]) -> None:
        """Append one record; it survives a kill of the process from here on."""
        line = memoryview((json.dumps(record) + "\n").encode())
        with naming(self.path):
            while line:
                line = line[self._file.write(line) :]

    def sync(self) -> None:
        """Make what was written survive a power cut; called before each checkpoint."""
        with naming(self.path):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


class Tracker:
    """Writes metrics to the file and to the views.

    Args:
        run: the run's directory.
        stages: names of the stages in order; TensorBoard and W&B get one axis of steps across all.
        stage_steps: optimizer updates of each stage.
        tensorboard: write TensorBoard events.
        wandb_project: the W&B project, or None.
        config: for W&B's run page.
    """

    def __init__(
        self,
        run: RunDir,
        stages: list[str],
        stage_steps: list[int],
        *,
        tensorboard: bool,
        wandb_project: str | None,
        config: dict[str, Any],
    ):
        self.file = MetricsFile(run.path / "metrics.jsonl")
        self._stages = stages
        self._offsets = {name: sum(stage_steps[:i]) for i, name in enumerate(stages)}
        self._run, self._tensorboard, self._wandb_project, self._config = run, tensorboard, wandb_project, config
        self._board: Any = None
        self._wandb: Any = None

    def later(self, stage: str) -> list[str]:
        """Return the stages that come after this one."""
        return self._stages[self._stages.index(stage) + 1 :]

    def begin(self, stage: str, step: int) -> None:
        """Prepare to record ``stage`` after ``step``. Records of a killed process beyond it are dropped."""
        order = self._stages.index(stage)

        def keep(record: dict[str, Any]) -> bool:
            stage = record["stage"]
            # A stage that this configuration does not have (another teacher was given) is history, and stays.
            return stage not in self._stages or (self._stages.index(stage), record["step"]) <= (order, step)

        self.file.close()
        self.file.truncate(keep)
        self.file = MetricsFile(self.file.path)
        self._open_views(self._offsets[stage] + step)

    def log(self, stage: str, step: int, values: dict[str, Any]) -> None:
        """Record values after optimizer update ``step`` of ``stage``."""
        self.file.write({"stage": stage, "step": step, **values})
        numbers = {f"{stage}/{k}": v for k, v in values.items() if isinstance(v, int | float)}
        overall = self._offsets.get(stage, 0) + step
        if self._board is not None:
            try:
                for name, value in numbers.items():
                    self._board.add_scalar(name, value, overall)
            except OSError as error:
                log.warning("TensorBoard's events cannot be written (%s); metrics.jsonl goes on", error)
                self._board = None
        if self._wandb is not None:
            try:
                self._wandb.log(numbers, step=overall)
            except Exception as error:  # a tracker's trouble is not the run's
                log.warning("Weights & Biases failed (%s); metrics.jsonl goes on", error)
                self._wandb = None

    def close(self) -> None:
        """Flush everything."""
        self.file.close()
        if self._board is not None:
            try:
                self._board.close()
            except OSError as error:
                log.warning("TensorBoard's last events cannot be written (%s)", error)
        if self._wandb is not None:
            self._wandb.finish()

    def _open_views(self, overall: int) -> None:
        if self._tensorboard and self._board is None:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(self._run.path / "tensorboard"), purge_step=overall + 1)
        if self._wandb_project and self._wandb is None:
            self._wandb = self._open_wandb(self._wandb_project)

    def _open_wandb(self, project: str) -> Any:
        import wandb

        # The id is on disk before W&B hears of it, so that every restart continues the same run.
        if "wandb_id" not in self._run.metadata():
            self._run.record(wandb_id=uuid.uuid4().hex[:16])
        return wandb.init(
            project=project,
            id=self._run.metadata()["wandb_id"],
            resume="allow",
            name=self._run.path.name,
            dir=str(self._run.path),
            config=self._config,
        )
