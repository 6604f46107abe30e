"""The training loop. It knows steps, gradients, checkpoints and signals; what is learnt is the recipe's business."""

import dataclasses
import logging
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn
from tqdm import tqdm

from fastvid.data import Batch, LoaderState
from fastvid.random import SampleRandom
from fastvid.train.checkpoint import Checkpoints
from fastvid.train.distributed import World, all_reduce_max, average_over_processes, broadcast_text
from fastvid.train.loader import Loader
from fastvid.train.logs import progress
from fastvid.train.loss_sum import LossSum
from fastvid.train.metrics import Tracker
from fastvid.train.optim import make_optimizer, set_schedules
from fastvid.train.parallel import Shared, share
from fastvid.train.precision import autocast, precision_name
from fastvid.train.rundir import RunDir
from fastvid.train.running_means import RunningMeans
from fastvid.train.signals import Stopped, StopSignals
from fastvid.train.stage import Stage
from fastvid.train.timers import SlowData, StepTimer
from fastvid.train.watch import Watch

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

log = logging.getLogger(__name__)


@dataclass
class Engine:
    """The state that all stages of a run share.

    Attributes:
        run: the run's directory, on the main process.
        tracker: where metrics go, on the main process.
        checkpoints: of the run.
        world: this process among its peers.
        signals: requests to stop.
        seed: seed of the run.
        log_every: steps between records.
        checkpoint_every: steps between checkpoints.
        autocast: dtype of autocast, or None for float32.
        mesh: processes over which FSDP shards what is trained; None where each process holds all of it.
        watch: told where this process is, so that one that hangs is named by the others; None for no watch.
        begun: called when a stage has its weights and is about to go on: the options of this start have proved to fit.
    """

    run: RunDir | None
    tracker: Tracker | None
    checkpoints: Checkpoints
    world: World
    signals: StopSignals
    seed: int
    log_every: int = 10
    checkpoint_every: int = 500
    autocast: torch.dtype | None = None
    mesh: "DeviceMesh | None" = None
    watch: Watch | None = None
    begun: Callable[[], None] = lambda: None
    _means: RunningMeans = field(init=False)
    _norm: torch.Tensor | None = None
    _slow_data: SlowData = field(default_factory=SlowData)

    def train(self, stage: Stage) -> None:
        """Train a stage to its last step, or until its ``stop`` says so, from its newest checkpoint if there is one.

        Raises:
            Stopped: a signal came; the last finished step is saved.
            FloatingPointError: the loss is not finite.
        """
        self._at(f"the start of stage {stage.name}")
        shared = share(stage.module, self.world, self.mesh, dtype=self.autocast, compile=stage.compile)
        self._train(stage, shared)
        shared.finish()
        # What follows, the main process does alone, while the others wait for it at the start of the next stage.
        self._at(f"the results of stage {stage.name}", long=True)

    def _at(self, place: str, *, long: bool = False) -> None:
        if self.watch is not None:
            self.watch.at(place, long=long)

    def _train(self, stage: Stage, shared: Shared) -> None:
        optimizer = make_optimizer(shared.trained, stage.optim, stage.rates)
        state = self.checkpoints.restore(stage.name, shared.trained, optimizer) or {"step": 0}
        first = state["step"]
        if self.world.is_main:
            self.checkpoints.forget_best(stage.name, after=first)
        self._means = RunningMeans(self.world, state)
        self.begun()
        if first >= stage.optim.steps or (stage.stop is not None and state.get("ended")):
            return  # its record is complete, and later stages may have begun theirs
        if self.tracker is not None:
            self._set_results_aside(stage)
            self.tracker.begin(stage.name, first)
        if first:
            log.info("stage %s goes on from its checkpoint at step %d", stage.name, first)
        shared.called.train()
        timer = StepTimer(self.world.device)
        bar = progress(stage.optim.steps, first, stage.name)
        with stage.loader(LoaderState(**state.get("loader", {}))) as loader, bar:
            self._announce(stage, shared, loader, first)
            timer.reset()
            for step in range(first + 1, stage.optim.steps + 1):
                lr, decay = set_schedules(optimizer, stage.optim, step - 1)
                norm = self._step(stage, shared, optimizer, loader, timer, step)
                bar.update()
                if step % self.log_every == 0 or step == stage.optim.steps:
                    self._record(stage, step, timer, bar, lr=lr, weight_decay=decay, grad_norm=norm, loader=loader)
                ended: str | None = None
                if stage.evaluate_every and (step % stage.evaluate_every == 0 or step == stage.optim.steps):
                    ended = self._evaluate(stage, shared, step)
                    timer.reset()
                if self.run is not None:
                    self.run.heartbeat("running", stage=stage.name, step=step)
                stop = all_reduce_max(self.world, self.signals.signum)
                if stop or ended or step == stage.optim.steps or step % self.checkpoint_every == 0:
                    self._save(stage, step, shared, optimizer, loader, ended)
                if stop:
                    raise Stopped(stop)
                if ended:
                    log.info("stage %s ends at step %d of %d: %s", stage.name, step, stage.optim.steps, ended)
                    return

    def _announce(self, stage: Stage, shared: Shared, loader: Loader, first: int) -> None:
        parameters = sum(p.numel() for p in shared.trained.parameters() if p.requires_grad)
        log.info(
            "stage %s: steps %d to %d of %d clips, %.2f M trainable parameters; %s",
            stage.name, first + 1, stage.optim.steps, stage.optim.batch, parameters / 1e6, loader.description,
        )  # fmt: skip

    def _step(
        self,
        stage: Stage,
        shared: Shared,
        optimizer: torch.optim.Optimizer,
        loader: Loader,
        timer: StepTimer,
        step: int,
    ) -> torch.Tensor:
        """Make one optimizer update and return the gradient's norm before clipping."""
        # What randomness modules use (stochastic depth) depends on the step alone: no generator state to save.
        torch.manual_seed(step_seed(stage.name, self.seed, step, self.world.rank))
        accumulate = stage.optim.accumulate
        counts: list[torch.Tensor] = []  # of the items of losses that are sums
        for micro in range(accumulate):
            self._at(f"the loading of a batch of step {step}")
            with timer.part("data"):
                batch = next(loader)
            self._at(f"the passes of step {step}")
            with nullcontext() if micro == accumulate - 1 else shared.accumulating():
                with timer.part("forward"), self.cast():
                    loss, terms = stage.loss(shared.called, batch, (step - 1) * accumulate + micro)
                with timer.part("backward"):
                    if isinstance(loss, LossSum):
                        counts.append(loss.count)
                        loss.total.backward()
                    else:
                        (loss / accumulate).backward()
            timer.clips += len(batch.keys) * self.world.size
            self._means.add({"loss": loss, **terms}, batch)
            value = loss.total if isinstance(loss, LossSum) else loss
            if not value.is_cuda:  # a GPU's is looked at when it is recorded: nothing waits for it before
                self._refuse_bad_loss(stage, step, float(value.detach()), batch)
        self._at(f"the update of step {step}")
        with timer.part("optimizer"):
            parameters = [p for p in shared.trained.parameters() if p.grad is not None]
            if counts:
                self._divide_gradients(stage, step, parameters, torch.stack(counts).sum())
            self._norm = norm = shared.clip(parameters, stage.optim.clip_grad)
            if not norm.is_cuda:
                self._refuse_bad_gradient(stage, step)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        return norm

    def _divide_gradients(
        self, stage: Stage, step: int, parameters: Sequence[nn.Parameter], count: torch.Tensor
    ) -> None:
        """Divide gradients of sums by the number of items of the whole update.

        The gradients have been averaged over the processes, so their counts are averaged too.
        """
        count = average_over_processes(self.world, count.detach().float())
        if not count.is_cuda and not float(count):  # on a GPU the gradient, which is nan, is refused later
            raise FloatingPointError(f"the batch of stage {stage.name} at step {step} has nothing to learn from")
        for parameter in parameters:
            assert parameter.grad is not None
            parameter.grad.div_(count)

    def close(self) -> None:
        """Close the record of the run."""
        if self.tracker is not None:
            self.tracker.close()

    @property
    def precision(self) -> str:
        """Return the name of the dtype of forward passes."""
        return precision_name(self.autocast)

    def cast(self) -> AbstractContextManager[object]:
        """Return the autocast context of this run."""
        return autocast(self.world.device, self.autocast)

    def _record(
        self,
        stage: Stage,
        step: int,
        timer: StepTimer,
        bar: tqdm,
        *,
        lr: float,
        weight_decay: float,
        grad_norm: torch.Tensor,
        loader: Loader,
    ) -> None:
        values = self._means.take()
        loss = values.get("loss", math.nan)
        if not math.isfinite(loss):
            raise FloatingPointError(f"the loss of stage {stage.name} became {loss} before step {step}")
        self._refuse_bad_gradient(stage, step)
        counts = self._means.counts()
        speed = timer.report()
        if self.tracker is None:
            return
        record = {
            **values,
            "lr": lr,
            "weight_decay": weight_decay,
            "grad_norm": float(grad_norm),
            "epoch": loader.state.epoch,
            "clips": loader.clips_shown,
            "micro_batches": step * stage.optim.accumulate,
            **counts,
            **speed,
            "decode_mb": round(loader.worker_bytes() / 1e6, 1),
        }
        if self.world.device.type == "cuda":
            record["gpu_peak_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
        self.tracker.log(stage.name, step, record)
        waited = 100 * speed["share_data"]
        self._slow_data.see(speed["share_data"])
        bar.set_postfix_str(f"loss {values['loss']:.4f}, {speed['clips_per_s']:.0f} clips/s, data wait {waited:.0f}%")
        if bar.disable and (step % (10 * self.log_every) == 0 or step == stage.optim.steps):
            log.info(
                "%s step %d/%d  loss %.4f  lr %.2e  %.1f clips/s  data wait %.0f%%",
                stage.name, step, stage.optim.steps, values["loss"], lr, speed["clips_per_s"], waited,
            )  # fmt: skip

    def _evaluate(self, stage: Stage, shared: Shared, step: int) -> str | None:
        """Evaluate on the main process, and return on all why the stage is to end here, or None."""
        reason = None
        self._at(f"the evaluation after step {step}", long=True)
        with shared.whole(self.world):
            if self.tracker is not None and stage.evaluate is not None:
                values = stage.evaluate(step)
                self.tracker.log(stage.name, step, values)
                if stage.keep_best is not None:
                    self.checkpoints.keep_best(stage.name, step, stage.module, values[stage.keep_best])
                if stage.stop is not None:
                    reason = stage.stop(step, values)
        stage.module.train()
        self._at(f"the end of the evaluation after step {step}")
        return None if stage.stop is None else broadcast_text(self.world, reason or "") or None

    def _save(
        self,
        stage: Stage,
        step: int,
        shared: Shared,
        optimizer: torch.optim.Optimizer,
        loader: Loader,
        ended: str | None,
    ) -> None:
        self._refuse_bad_gradient(stage, step)  # a checkpoint of weights that are not finite would be resumed for ever
        state = {
            "loader": dataclasses.asdict(loader.state),
            **self._means.state(),
            **({} if ended is None else {"ended": ended}),
        }
        self._at(f"the checkpoint of step {step}")
        if self.tracker is not None:
            self.tracker.file.sync()
        self.checkpoints.save(stage.name, step, shared.trained, optimizer, state, sharded=shared.sharded)

    def _refuse_bad_loss(self, stage: Stage, step: int, loss: float, batch: Batch) -> None:
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"the loss of stage {stage.name} is {loss} at step {step}; the batch was "
                f"{', '.join(batch.keys[:4])}{', ...' if len(batch.keys) > 4 else ''}"
            )

    def _refuse_bad_gradient(self, stage: Stage, step: int) -> None:
        if self._norm is not None and not math.isfinite(float(self._norm)):
            raise FloatingPointError(f"the gradient of stage {stage.name} is not finite at step {step}")

    def _set_results_aside(self, stage: Stage) -> None:
        assert self.tracker is not None
        for later in self.tracker.later(stage.name):
            self.checkpoints.set_aside(later)
        if self.run is not None:
            for name in stage.results:
                self.run.set_aside(name)


def step_seed(stage: str, seed: int, step: int, rank: int) -> int:
    """Return the seed of what a process's modules draw in a step: another one for each process."""
    name = stage if rank < 8 else f"{stage}/{rank // 8}"  # there are 16 streams, of which others use the rest
    return SampleRandom(name, seed, step, stream=rank % 8).word()
