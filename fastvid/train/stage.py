"""One stage of training: what is trained, by which loss and data, for how long."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from fastvid.data import Batch, LoaderState
from fastvid.train.loader import Loader
from fastvid.train.loss_sum import LossSum
from fastvid.train.optim import OptimConfig

# A mean over the clips of a micro-batch, or a sum over items of which each micro-batch has another number.
Loss = torch.Tensor | LossSum
# (module as called, batch on the device, index of the micro-batch) -> loss to minimise and terms to record
LossFunction = Callable[[nn.Module, Batch, int], tuple[Loss, Mapping[str, Loss]]]


@dataclass
class Stage:
    """One training run within a run.

    Attributes:
        name: of its checkpoints and metrics.
        module: what is trained, on the device.
        loss: the recipe's loss; the micro-batch index counts from the first step, so masks drawn from it never repeat.
        optim: how it is trained.
        rates: configurations whose learning rates parts of the module have, by the name of a submodule.
        loader: makes the loader from a state to begin at.
        evaluate: called on the main process every ``evaluate_every`` steps, and after the last, with the step; returns
            values to record.
        evaluate_every: 0 for never.
        keep_best: the value among these whose greatest, so far, has its weights kept
            (:meth:`Checkpoints.load_best`); None to keep none.
        stop: called with the step and the values of each evaluation; returns why the stage is to end there, or None to
            go on. The reason is kept in the checkpoint, so that a resume knows the stage as complete.
        results: files and folders in the run's directory that are made of what was trained: where it is trained on,
            they are set aside.
        compile: torch.compile the training step's forward and backward, for its one set of shapes; evaluations and
            pictures, whose shapes differ, call ``module`` itself. Of a sharded module each block is compiled.
            A module with a method ``compile_parts`` says itself what of it is compiled.
    """

    name: str
    module: nn.Module
    loss: LossFunction
    optim: OptimConfig
    loader: Callable[[LoaderState], Loader]
    evaluate: Callable[[int], dict[str, float]] | None = None
    evaluate_every: int = 0
    keep_best: str | None = None
    stop: Callable[[int, dict[str, float]], str | None] | None = None
    rates: Mapping[str, OptimConfig] = field(default_factory=dict)
    results: Sequence[str] = ()
    compile: bool = False
