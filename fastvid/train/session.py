"""Everything around a recipe: the run directory, logging, signals, processes, and how it all ends."""

import logging
import os
import platform
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch._functorch.config

import fastvid
from fastvid.command import UserError, sentence, user_errors
from fastvid.data.inventory import Inventory
from fastvid.names import spelled
from fastvid.report.page import Report, write_report
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.config import Launch, RunConfig, to_dict
from fastvid.train.detach import start_detached
from fastvid.train.distributed import (
    World,
    barrier,
    broadcast_text,
    check_launcher,
    destroy_distributed,
    init_distributed,
)
from fastvid.train.engine import Engine
from fastvid.train.logs import log_to, start_logging
from fastvid.train.metrics import Tracker
from fastvid.train.parallel import make_mesh
from fastvid.train.precision import autocast_dtype
from fastvid.train.restarts import after_restart
from fastvid.train.rundir import RunDir, how_it_ended
from fastvid.train.signals import Stopped, StopSignals
from fastvid.train.watch import Watch, end_process, launcher_store

if TYPE_CHECKING:
    from _typeshed import DataclassInstance
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["Session", "UserError", "start"]

log = logging.getLogger(__name__)


class _Checked(Exception):
    """Control-flow exception that ends a start with ``--check`` where the run would begin."""


@dataclass
class Session:
    """The directory, device and options that a recipe runs with.

    Attributes:
        project: name of the recipe.
        path: the run's directory.
        run: the same, open, on the main process; None on the others, and of a new run before :meth:`begin`.
        world: this process among its peers.
        signals: requests to stop.
        options: the run's options.
        config: the resolved configuration as plain values.
        launch: how it was started.
        inventory: what the data holds, once it is opened; see :func:`fastvid.train.data.check_data`.
        begun: whether a stage has its weights and goes on: the options and inputs of this start have proved to fit.
        mesh: processes over which FSDP shards what is trained; None where each process holds all of it.
        watch: kept over processes that hang; None for one process.
    """

    project: str
    path: Path
    run: RunDir | None
    world: World
    signals: StopSignals
    options: RunConfig
    config: dict[str, Any]
    launch: Launch = field(default_factory=Launch)
    inventory: Inventory | None = None
    begun: bool = False
    mesh: "DeviceMesh | None" = None
    watch: Watch | None = None
    _metadata: dict[str, Any] = field(default_factory=dict)

    def begin(self) -> None:
        """Create the directory of a new run, once the options are known to be valid. From then on a signal requests an
        orderly stop. The directory of a continued run is open already.

        Raises:
            UserError: another process has made a run there meanwhile.
            OSError: it cannot be made.
        """
        if self.launch.check:
            raise _Checked
        self.signals.listen()
        if not self.world.is_main:
            return
        if self.run is None:
            with user_errors(RuntimeError):
                self.run = RunDir.create(self.path, self.config)
            log_to(self.path / "log.txt")
            _record_start(self.run, None, self.project)
            self.run.heartbeat("running")
        self.run.record(**self._metadata)

    def record(self, **metadata: Any) -> None:
        """Write metadata of the run to its ``run.json``; for a new run, once it begins."""
        self._metadata |= metadata
        if self.run is not None:
            self.run.record(**metadata)

    def engine(self, stages: dict[str, int]) -> Engine:
        """Return the training engine for stages of the given numbers of steps, in order."""
        tracker = None
        if self.run is not None:
            tracker = Tracker(
                self.run,
                list(stages),
                list(stages.values()),
                tensorboard=self.options.tensorboard,
                wandb_project=self.options.wandb,
                config=self.config,
            )
        if self.world.size > 1 and self.options.hang_minutes:
            limit_s, end = 60 * self.options.hang_minutes, end_process(self._record_hang)
            self.watch = Watch(launcher_store(), self.world, limit_s, end=end)
            barrier(self.world)  # all have said where they are
            self.watch.start()
        return Engine(
            run=self.run,
            tracker=tracker,
            checkpoints=Checkpoints(self.path / "checkpoints", self.options.keep, self.world),
            world=self.world,
            signals=self.signals,
            seed=self.options.seed,
            log_every=self.options.log_every,
            checkpoint_every=self.options.checkpoint_every,
            autocast=autocast_dtype(self.options.precision, self.world.device),
            mesh=self.mesh,
            watch=self.watch,
            begun=self._keep_config,
        )

    def _record_hang(self, sentence: str) -> None:
        """Write to the run's files, from any process, why it ends."""
        with (self.path / "log.txt").open("a") as file:
            file.write(f"{sentence}\n")
        if self.run is not None:
            self.run.heartbeat("failed", force=True, error=sentence)

    def _keep_config(self) -> None:
        # Not before: a resume with an option or data that does not fit must leave the run as it was.
        if self.run is not None and not self.begun:
            self.run.write_json("config.json", self.config)
            if self.inventory is not None:
                self.inventory.save(self.path)
            self.run.heartbeat("running", force=True)
        self.begun = True


def start(
    project: str,
    config: "DataclassInstance",
    options: RunConfig,
    launch: Launch,
    recipe: Callable[[Session], None],
    report: Report | None = None,
) -> int:
    """Run a recipe in a run directory and return the process's exit code. ``report`` returns the project's own sections
    of the run's page.

    0 when it finished; 128 + the signal when it was stopped by one and has saved its state; 1 when it failed, with the
    traceback in the log.
    """
    if options.dir is not None and spelled(options.dir) != str(options.dir):
        raise UserError(f"--run.dir {spelled(options.dir)}: the name is no UTF-8, and TensorBoard takes no other")
    check_launcher(project)
    launch = after_restart(options, launch)
    if launch.detach:
        return start_detached(choose_dir(project, options, launch), launch)
    signals = StopSignals(listen=False)
    world = init_distributed()
    mesh = make_mesh(world, options.parallel, options.shard)
    if options.threads:
        torch.set_num_threads(options.threads)
    torch._functorch.config.activation_memory_budget = options.memory_budget
    path = Path(broadcast_text(world, str(choose_dir(project, options, launch)) if world.is_main else None))
    run = None
    start_logging(hold=world.is_main)
    if world.is_main and launch.resume is None:
        RunDir.refuse_used(path)
    elif world.is_main:
        before = how_it_ended(path)
        with user_errors(RuntimeError):  # another process has the run
            run = RunDir.reopen(path)
        log_to(path / "log.txt")
        _record_start(run, before, project)
    session = Session(project, path, run, world, signals, options, to_dict(config), launch, mesh=mesh)
    code = _guarded(session, recipe)
    if session.watch is not None:
        session.watch.close()
    run = session.run
    if run is not None:
        try:
            log.info("report: %s", write_report(path, report))
        except OSError as error:
            log.error("the report is not written: %s", sentence(error))
            code = code or 2
        except Exception:
            log.exception("the report could not be written; `python -m fastvid.report %s` tries again", path)
            code = code or 1
        run.close()
    destroy_distributed(world)
    return code


def _guarded(session: Session, recipe: Callable[[Session], None]) -> int:
    def heartbeat(state: str, **values: str) -> None:
        if session.run is None:
            return
        try:
            session.run.heartbeat(state, force=True, **values)
        except OSError as error:
            log.error("the run's status is not written: %s", sentence(error))

    def failed(error: str) -> None:
        # A resume that does not come to train says nothing about the run, which is as it was.
        if session.begun or session.launch.resume is None:
            heartbeat("failed", error=error)

    try:
        recipe(session)
    except _Checked:
        log.info("a run with these options can begin")
        return 0
    except Stopped as stop:
        log.warning("%s; continue with --resume %s", stop, session.path)
        heartbeat("stopped", signal=str(stop).removeprefix("stopped by "))
        return 128 + stop.signum
    except KeyboardInterrupt:
        if not session.signals.signum:  # it was not listened to yet: the run is as it was, or not made
            raise
        log.error(
            "interrupted before the state could be saved; --resume %s goes on from the last checkpoint", session.path
        )
        heartbeat("stopped", signal="a second SIGINT")
        return 130
    except UserError as error:
        log.error("%s", error)
        failed(str(error))
        return 2
    except OSError as error:
        said = sentence(error)
        if session.begun:
            said += f". With --resume {session.path} the run goes on from its last checkpoint"
        log.error("%s", said)
        failed(said)
        return 2
    except Exception as error:
        log.error("the run failed:\n%s", traceback.format_exc())
        # The log is the main process's, but nothing is to be lost.
        if not session.world.is_main and session.path.is_dir():
            with (session.path / "log.txt").open("a") as file:
                file.write(f"process {session.world.rank} failed:\n{traceback.format_exc()}")
        failed(f"{type(error).__name__}: {error}")
        return 1
    heartbeat("finished")
    return 0


def choose_dir(project: str, options: RunConfig, launch: Launch) -> Path:
    """Return a run's directory: the one to resume, the one that the options name, or a new one below ``runs/``."""
    if launch.resume is not None:
        return launch.resume
    if options.dir is not None:
        return Path(options.dir)
    return Path("runs") / f"{project}-{datetime.now():%Y%m%d-%H%M%S}"


def _record_start(run: RunDir, before: str | None, project: str) -> None:
    start = {
        "time": datetime.now().isoformat(timespec="seconds"),
        "command": [Path(sys.executable).name, *sys.orig_argv[1:]],
        "pid": os.getpid(),
        "host": platform.node(),
        "fastvid": fastvid.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    run.record(project=project, starts=[*run.metadata().get("starts", []), start])
    log.info("run directory %s", run.path)
    if before is not None:
        log.info("resumed; before this, the run %s", before)
