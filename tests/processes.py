"""Processes that train together, started quickly: forked from one that has imported torch."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed as dist

from fastvid.train.distributed import World
from tests.waiting import HANG

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["torch.distributed.checkpoint", "torch.distributed.fsdp", "fastvid.train.engine"])


def together(count: int, function: Callable[[World, Path], None], folder: Path) -> None:
    """Call ``function(world, folder)`` in ``count`` processes of one group, and wait until all have returned."""
    store = folder / f"group-of-{count}"
    processes = [
        _CONTEXT.Process(target=_join, args=(rank, count, store, function, folder), daemon=True)
        for rank in range(count)
    ]  # fmt: skip
    for process in processes:
        process.start()
    for process in processes:
        process.join(HANG)
    assert [process.exitcode for process in processes] == [0] * count
    store.unlink(missing_ok=True)  # the last process to leave may have removed it


def _join(rank: int, count: int, store: Path, function: Callable[[World, Path], None], folder: Path) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=count)
    function(World(rank, count, torch.device("cpu")), folder)
    dist.destroy_process_group()
