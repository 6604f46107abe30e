"""Checkpoints that are either complete or absent.

A checkpoint is a folder ``<stage>-<step>`` with ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``. It
is written under a temporary name, every file and the folder are flushed to disk, and only then is it renamed; a run
killed at any moment leaves the previous checkpoint or the new one, never half of one. No pickle is written or read.

Frozen parameters are not stored: whoever builds the module builds them as they were. The weights that did best are
folders of the same kind, without an optimizer, in ``best``.
"""

import json
import logging
import math
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.command import UserError
from fastvid.files import whole_folder

log = logging.getLogger(__name__)

_BEST = "best"


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are kept.
        keep: how many of each stage; older ones are removed once a newer one is safe.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, max(1, keep)

    def save(
        self, stage: str, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, state: dict[str, Any]
    ) -> Path:
        """Commit a checkpoint.

        Args:
            stage: name of the stage.
            step: optimizer updates done.
            module: parameters that train and buffers are stored.
            optimizer: its state is stored by parameter name.
            state: anything else, JSON-serialisable.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        final = self.folder / _name(stage, step)
        if final.exists():
            return final  # this step was saved, and perhaps resumed from, before
        moments = _optimizer_tensors(module, optimizer)
        _commit(final, {"stage": stage, "step": step, **state}, model=_stored(module), optimizer=moments)
        for old in self.steps(stage)[: -self.keep]:
            shutil.rmtree(self.folder / _name(stage, old))
        for old in [s for s in self._best_steps(stage) if s <= step][:-1]:  # now no resume can come before the newer
            shutil.rmtree(self.folder / _BEST / _name(stage, old))
        return final

    def keep_best(self, stage: str, step: int, module: nn.Module, value: float) -> bool:
        """Keep a copy of the weights if ``value`` is greater than all kept before, and return whether it is."""
        before = self.best(stage)
        if math.isnan(value) or (before is not None and value <= before[1]):
            return False
        (self.folder / _BEST).mkdir(parents=True, exist_ok=True)
        final = self.folder / _BEST / _name(stage, step)
        _commit(final, {"stage": stage, "step": step, "value": value}, model=_stored(module))
        return True

    def best(self, stage: str) -> tuple[int, float] | None:
        """Return step and value of the best weights kept, or None before there are any."""
        steps = self._best_steps(stage)
        if not steps:
            return None
        state = json.loads((self.folder / _BEST / _name(stage, steps[-1]) / "state.json").read_text())
        return state["step"], state["value"]

    def load_best(self, stage: str, module: nn.Module) -> int:
        """Load the best weights kept and return their step.

        Raises:
            ValueError: none are kept, or they do not fit the module.
        """
        found = self.best(stage)
        if found is None:
            raise ValueError(f"no weights of stage {stage} were kept in {self.folder / _BEST}")
        folder = self.folder / _BEST / _name(stage, found[0])
        _load_weights(module, load_file(folder / "model.safetensors"), folder)
        return found[0]

    def forget_best(self, stage: str, *, after: int) -> None:
        """Remove the weights kept after step ``after``, from which the stage goes on: those steps are trained again."""
        for step in self._best_steps(stage):
            if step > after:
                shutil.rmtree(self.folder / _BEST / _name(stage, step))

    def _best_steps(self, stage: str) -> list[int]:
        return _steps(self.folder / _BEST, stage)

    def steps(self, stage: str) -> list[int]:
        """Return the steps of the stage's checkpoints, ascending."""
        return _steps(self.folder, stage)

    def restore(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Load the newest checkpoint that can be read into module and optimizer.

        Returns:
            Its state, or None if there is no checkpoint of this stage.

        Raises:
            ValueError: there are checkpoints, but none can be read.
        """
        steps = self.steps(stage)
        for step in reversed(steps):
            folder = self.folder / _name(stage, step)
            try:
                weights = load_file(folder / "model.safetensors")
                moments = load_file(folder / "optimizer.safetensors")
                state: dict[str, Any] = json.loads((folder / "state.json").read_text())
            except (OSError, SafetensorError, json.JSONDecodeError) as error:
                log.error("checkpoint %s cannot be read (%s); set aside, trying the one before it", folder, error)
                folder.rename(folder.with_name(f"{folder.name}.unreadable"))
                continue
            _load_weights(module, weights, folder)
            _load_optimizer(module, optimizer, moments)
            return state
        if steps:
            raise UserError(
                f"none of the {len(steps)} checkpoints of stage {stage} in {self.folder} can be read; they are kept as "
                "*.unreadable: resuming once more begins the stage anew"
            )
        return None

    def set_aside(self, stage: str) -> None:
        """Rename the checkpoints of a stage, so that it begins anew."""
        self.forget_best(stage, after=-1)
        for step in self.steps(stage):
            folder = self.folder / _name(stage, step)
            aside = folder.with_name(f"{folder.name}.superseded")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            log.warning("checkpoint %s belongs to an earlier training and was renamed to %s", folder, aside.name)

    def _remove_leftovers(self) -> None:
        for path in (*self.folder.glob(".*.part"), *(self.folder / _BEST).glob(".*.part")):
            shutil.rmtree(path)


def _name(stage: str, step: int) -> str:
    return f"{stage}-{step:08d}"


def _steps(folder: Path, stage: str) -> list[int]:
    """Return the steps of the stage's folders, ascending."""
    found = (path.name.rpartition("-") for path in folder.glob(f"{stage}-*"))
    return sorted(int(step) for name, _, step in found if name == stage and step.isdigit())


def _commit(final: Path, state: dict[str, Any], **tensors: dict[str, torch.Tensor]) -> None:
    """Write a folder of safetensors files and ``state.json``, complete or not at all."""
    with whole_folder(final) as partial:
        for name, content in tensors.items():
            save_file(content, partial / f"{name}.safetensors")
        (partial / "state.json").write_text(json.dumps(state))


def _frozen(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


def _stored(module: nn.Module) -> dict[str, torch.Tensor]:
    frozen = _frozen(module)
    return _plain({name: tensor for name, tensor in module.state_dict().items() if name not in frozen})


def _load_weights(module: nn.Module, weights: dict[str, torch.Tensor], folder: Path) -> None:
    own = module.state_dict()
    absent = sorted(own.keys() - weights.keys() - _frozen(module))
    unknown = sorted(weights.keys() - own.keys())
    other = [name for name in sorted(weights.keys() & own.keys()) if weights[name].shape != own[name].shape]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])})"
        for names, what in ((absent, "missing"), (unknown, "not known"), (other, "of another shape"))
        if names
    ]
    if faults:
        raise UserError(
            f"the weights in {folder} are of another model: {'; '.join(faults)}. Resume with the model's own options"
        )
    module.load_state_dict(weights, strict=False)


def _plain(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    flat = {}
    for parameter, values in optimizer.state.items():
        for key, value in values.items():
            flat[f"{names[parameter]}/{key}"] = value
    return _plain(flat)


def _load_optimizer(module: nn.Module, optimizer: torch.optim.Optimizer, flat: dict[str, torch.Tensor]) -> None:
    parameters = dict(module.named_parameters())
    for name, value in flat.items():
        parameter, key = name.rpartition("/")[::2]
        # AdamW's step counter is a scalar on the parameter's device when fused.
        optimizer.state[parameters[parameter]][key] = value.to(parameters[parameter].device)
