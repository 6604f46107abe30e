"""Checkpoints that are either complete or absent.

A checkpoint is a folder ``<stage>-<step>`` with ``model.safetensors``, ``optimizer.safetensors`` and ``state.json``. It
is written under a temporary name, every file and the folder are flushed to disk, and only then is it renamed; a run
killed at any moment leaves the previous checkpoint or the new one, never half of one. No pickle is written or read.
"""

import json
import logging
import os
import shutil
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.files import flush

log = logging.getLogger(__name__)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: where they are kept.
        keep: how many of each stage; older ones are removed once a newer one is safe.
    """

    def __init__(self, folder: Path, keep: int = 2):
        self.folder, self.keep = folder, max(1, keep)

    def save(self, stage: str, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, state: dict) -> Path:
        """Commits a checkpoint.

        Args:
            stage: name of the stage.
            step: optimizer updates done.
            module: parameters and buffers are stored.
            optimizer: its state is stored by parameter name.
            state: anything else, JSON-serialisable.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._remove_leftovers()
        final = self.folder / f"{stage}-{step:08d}"
        if final.exists():
            return final  # this step was saved, and perhaps resumed from, before
        partial = self.folder / f".{final.name}.{os.getpid()}.part"
        partial.mkdir()
        save_file(_plain(module.state_dict()), partial / "model.safetensors")
        save_file(_optimizer_tensors(module, optimizer), partial / "optimizer.safetensors")
        (partial / "state.json").write_text(json.dumps({"stage": stage, "step": step, **state}))
        for path in (*partial.iterdir(), partial):
            flush(path)
        os.replace(partial, final)
        flush(self.folder)
        for old in self.steps(stage)[: -self.keep]:
            shutil.rmtree(self.folder / f"{stage}-{old:08d}")
        return final

    def steps(self, stage: str) -> list[int]:
        """Steps of the stage's checkpoints, ascending."""
        found = self.folder.glob(f"{stage}-*")
        return sorted(int(path.name.rpartition("-")[2]) for path in found if path.name.rpartition("-")[2].isdigit())

    def restore(self, stage: str, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any] | None:
        """Loads the newest checkpoint that can be read into module and optimizer.

        Returns:
            Its state, or None if there is no checkpoint of this stage.

        Raises:
            ValueError: there are checkpoints, but none can be read.
        """
        steps = self.steps(stage)
        for step in reversed(steps):
            folder = self.folder / f"{stage}-{step:08d}"
            try:
                weights = load_file(folder / "model.safetensors")
                moments = load_file(folder / "optimizer.safetensors")
                state = json.loads((folder / "state.json").read_text())
            except (OSError, SafetensorError, json.JSONDecodeError) as error:
                log.error("checkpoint %s cannot be read (%s); set aside, trying the one before it", folder, error)
                folder.rename(folder.with_name(f"{folder.name}.unreadable"))
                continue
            module.load_state_dict(weights)
            _load_optimizer(module, optimizer, moments)
            return state
        if steps:
            raise ValueError(f"none of the {len(steps)} checkpoints of stage {stage} in {self.folder} can be read")
        return None

    def set_aside(self, stage: str) -> None:
        """Renames the checkpoints of a stage, so that it begins anew."""
        for step in self.steps(stage):
            folder = self.folder / f"{stage}-{step:08d}"
            aside = folder.with_name(f"{folder.name}.superseded")
            shutil.rmtree(aside, ignore_errors=True)
            folder.rename(aside)
            log.warning("checkpoint %s belongs to an earlier training and was renamed to %s", folder, aside.name)

    def _remove_leftovers(self) -> None:
        for path in self.folder.glob(".*.part"):
            shutil.rmtree(path)


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
