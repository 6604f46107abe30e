"""Checkpoints that are either complete or absent.

A checkpoint is a folder ``<stage>-<step>`` with ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``. Of
a module that is sharded (FSDP), each process writes its shards, with ``torch.distributed.checkpoint``, to a file
``shard-*.safetensors`` of its own. Either form is read by any number of processes, sharded or not.
``state.json`` lists the tensors that were written, so that a file that is lost is noticed.

The folder is written under a temporary name, every file and the folder are flushed to disk, and only then is it
renamed; a run killed at any moment leaves the previous checkpoint or the new one, never half of one. No pickle is
written or read.

Frozen parameters are not stored: whoever builds the module builds them as they were. The weights that did best are
folders of the same kind, without an optimizer, in ``best``.
"""

import json
import logging
import math
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.command import UserError
from fastvid.files import whole_folder
from fastvid.train.distributed import World, barrier, broadcast_text

log = logging.getLogger(__name__)

_BEST = "best"
_TENSORS = "tensors"  # in state.json


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are kept.
        keep: how many of each stage; older ones are removed once a newer one is safe.
        world: this process among its peers. All of them see the folder, and save and restore together; the main process
            alone makes, renames and removes folders.
    """

    def __init__(self, folder: Path, keep: int = 2, world: World | None = None):
        self.folder, self.keep, self.world = folder, max(1, keep), world or World(0, 1, torch.device("cpu"))

    def save(
        self,
        stage: str,
        step: int,
        module: nn.Module,
        optimizer: torch.optim.Optimizer,
        state: dict[str, Any],
        *,
        sharded: bool = False,
    ) -> Path:
        """Commit a checkpoint. All processes call this, and find it on the disk when it returns.

        Args:
            stage: name of the stage.
            step: optimizer updates done.
            module: parameters that train and buffers are stored.
            optimizer: its state is stored by parameter name.
            state: anything else, JSON-serialisable.
            sharded: whether each process holds a shard of every parameter.

        Raises:
            OSError: it cannot be written.
        """
        final = self.folder / _name(stage, step)
        weights, moments = _stored(module), _optimizer_tensors(module, optimizer)
        state = {"stage": stage, "step": step, **state, _TENSORS: sorted(weights | moments)}
        if self.world.is_main:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_leftovers()
        # One of this step may be there already, and was perhaps resumed from.
        if not self._agreed(final.exists()):
            if sharded:
                self._commit_shards(final, state, weights | moments)
            elif self.world.is_main:
                _commit(final, state, model=weights, optimizer=moments)
            if self.world.is_main:
                self._remove_old(stage, step)
        barrier(self.world)
        return final

    def _agreed(self, found: bool) -> bool:
        """Return on all processes what the main process found."""
        return bool(broadcast_text(self.world, "yes" if found else ""))

    def _commit_shards(self, final: Path, state: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        """Write the folder of a checkpoint to which each process adds its shards."""
        from fastvid.train.sharded_files import write_shards  # slow to import

        if not self.world.is_main:
            write_shards(Path(broadcast_text(self.world, None)), tensors)
            return
        with whole_folder(final) as partial:
            broadcast_text(self.world, str(partial))
            write_shards(partial, tensors)
            (partial / "state.json").write_text(json.dumps(state))

    def _remove_old(self, stage: str, step: int) -> None:
        """Remove the checkpoints, and the best weights, that no resume needs now that a step is saved."""
        for old in self.steps(stage)[: -self.keep]:
            shutil.rmtree(self.folder / _name(stage, old))
        for old in [s for s in self._best_steps(stage) if s <= step][:-1]:  # now no resume can come before the newer
            shutil.rmtree(self.folder / _BEST / _name(stage, old))

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
        """Load the newest checkpoint that can be read into module and optimizer. All processes call this.

        Returns:
            Its state, or None if there is no checkpoint of this stage.

        Raises:
            UserError: there are checkpoints, but none can be read; or it is of another model.
        """
        found = self._newest(stage) if self.world.is_main else None
        found = json.loads(broadcast_text(self.world, json.dumps(found)))
        if found is None:
            return None
        if "error" in found:
            raise UserError(found["error"])
        from fastvid.train.sharded_files import StoredTensors  # slow to import: a run that starts anew goes without

        folder = self.folder / found["name"]
        stored = StoredTensors(folder, self.world)
        weights = {name: tensor for name, tensor in module.state_dict().items() if name not in _frozen(module)}
        _check_fit(module, {name: size for name, size in stored.sizes.items() if "/" not in name}, folder)
        stored.read(weights | _new_moments(module, optimizer, stored.sizes))
        state: dict[str, Any] = found["state"]
        return state

    def _newest(self, stage: str) -> dict[str, Any] | None:
        """Return name and state of the newest checkpoint whose files are whole, and set newer ones aside; or an error
        where none is; or None where there is none.
        """
        steps = self.steps(stage)
        if not steps:
            return None
        for step in reversed(steps):
            folder = self.folder / _name(stage, step)
            try:
                return {"name": folder.name, "state": _whole_state(folder, step)}
            except (OSError, SafetensorError, ValueError) as error:
                log.error("checkpoint %s cannot be read (%s); set aside, trying the one before it", folder, error)
                _rename(folder, "unreadable")
        return {
            "error": f"none of the {len(steps)} checkpoints of stage {stage} in {self.folder} can be read; they are "
            "kept as *.unreadable: resuming once more begins the stage anew"
        }

    def set_aside(self, stage: str) -> None:
        """Rename the checkpoints of a stage, so that it begins anew."""
        self.forget_best(stage, after=-1)
        for step in self.steps(stage):
            folder = self.folder / _name(stage, step)
            aside = _rename(folder, "superseded")
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


def _rename(folder: Path, ending: str) -> Path:
    """Add an ending to a folder's name, in place of a folder that has that name already."""
    aside = folder.with_name(f"{folder.name}.{ending}")
    shutil.rmtree(aside, ignore_errors=True)
    return folder.rename(aside)


def _whole_state(folder: Path, step: int) -> dict[str, Any]:
    """Return the state in a checkpoint's folder that has all that was written.

    Raises:
        safetensors.SafetensorError, OSError, ValueError: it has not, or a file is damaged.
    """
    from fastvid.train.sharded_files import StoredTensors  # slow to import

    state = json.loads((folder / "state.json").read_text())
    if not isinstance(state, dict) or state.get("step") != step:
        raise ValueError(f"state.json is not the state of step {step}")
    names = state.pop(_TENSORS, None)
    if names is None:  # of an older run, which wrote these two files
        for name in ("model.safetensors", "optimizer.safetensors"):
            if not (folder / name).is_file():
                raise ValueError(f"{name} is missing")
    elif not isinstance(names, list):
        raise ValueError(f"{_TENSORS} in state.json is not a list")
    StoredTensors(folder).check(names or [])
    return state


def _commit(final: Path, state: dict[str, Any], **tensors: dict[str, torch.Tensor]) -> None:
    """Write a folder of safetensors files and ``state.json``, complete or not at all."""
    with whole_folder(final) as partial:
        for name, content in tensors.items():
            plain = {key: tensor.cpu().contiguous() for key, tensor in content.items()}
            save_file(plain, partial / f"{name}.safetensors")
        (partial / "state.json").write_text(json.dumps(state))


def _frozen(module: nn.Module) -> set[str]:
    return {name for name, parameter in module.named_parameters() if not parameter.requires_grad}


def _stored(module: nn.Module) -> dict[str, torch.Tensor]:
    frozen = _frozen(module)
    return {name: tensor.detach() for name, tensor in module.state_dict().items() if name not in frozen}


def _load_weights(module: nn.Module, weights: dict[str, torch.Tensor], folder: Path) -> None:
    _check_fit(module, {name: tensor.shape for name, tensor in weights.items()}, folder)
    module.load_state_dict(weights, strict=False)


def _check_fit(module: nn.Module, sizes: Mapping[str, torch.Size], folder: Path) -> None:
    """Raise UserError unless stored weights of these sizes are those of a module."""
    own = module.state_dict()
    absent = sorted(own.keys() - sizes.keys() - _frozen(module))
    unknown = sorted(sizes.keys() - own.keys())
    other = [name for name in sorted(sizes.keys() & own.keys()) if sizes[name] != own[name].shape]
    faults = [
        f"{len(names)} {what} ({', '.join(names[:3])})"
        for names, what in ((absent, "missing"), (unknown, "not known"), (other, "of another shape"))
        if names
    ]
    if faults:
        raise UserError(
            f"the weights in {folder} are of another model: {'; '.join(faults)}. Resume with the model's own options"
        )


def _optimizer_tensors(module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Return the optimizer's state as ``<parameter>/<key>``."""
    names: dict[torch.Tensor, str] = {parameter: name for name, parameter in module.named_parameters()}
    return {
        f"{names[parameter]}/{key}": value
        for parameter, values in optimizer.state.items()
        for key, value in values.items()
    }


def _new_moments(
    module: nn.Module, optimizer: torch.optim.Optimizer, sizes: Mapping[str, torch.Size]
) -> dict[str, torch.Tensor]:
    """Give the optimizer the state that is stored, empty, and return it by its stored names."""
    parameters, made = dict(module.named_parameters()), {}
    for name, size in sizes.items():
        owner, slash, key = name.rpartition("/")
        if slash:
            # A moment is sharded as its parameter is. AdamW's step counter is a scalar on the parameter's device.
            parameter = parameters[owner]
            like = size == parameter.shape and size != ()
            value = torch.zeros_like(parameter) if like else torch.zeros(size, device=parameter.device)
            optimizer.state[parameter][key] = made[name] = value.detach()
    return made
