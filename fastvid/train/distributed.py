"""One process or many: ranks, devices, and the few collectives the engine needs."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from fastvid.command import UserError

# The main process validates while the others wait for it.
_PATIENCE = timedelta(hours=12)
_SLURM_STEP_SIZE = "SLURM_STEP_NUM_TASKS"  # SLURM_NTASKS is set in a batch script, too, which runs once


@dataclass(frozen=True)
class World:
    """This process among its peers.

    Attributes:
        rank: 0 writes the run directory.
        size: processes.
        device: where this process computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        return self.rank == 0


def check_launcher(project: str) -> None:
    """Raise an error where a launcher other than ``torchrun`` started several processes, each of which would train
    alone.

    ``srun`` sets SLURM_STEP_NUM_TASKS ("number of processes in the job step") and SLURM_PROCID for the processes of a
    step. SLURM_NTASKS does not tell: the script of ``sbatch`` and the shell of ``salloc`` have it too, and run once.
    Sources: srun(1), "OUTPUT ENVIRONMENT VARIABLES"; Open MPI's manual, "Environment variables" (OMPI_COMM_WORLD_SIZE);
    MPICH's Hydra sets PMI_SIZE.

    Raises:
        UserError: with the line to use.
    """
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
        return
    for launcher, size, rank in (
        ("srun", _SLURM_STEP_SIZE, "SLURM_PROCID"),
        ("mpirun", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("mpirun", "PMI_SIZE", "PMI_RANK"),
    ):
        count = os.environ.get(size, "")
        if rank in os.environ and count.isdigit() and int(count) > 1:
            nodes = os.environ.get("SLURM_STEP_NUM_NODES", "1") if launcher == "srun" else "1"
            raise UserError(
                f"{launcher} started {count} processes ({size}), and without torchrun each of them would train alone: "
                f"{_torchrun_line(project, int(count), nodes)}, or set RANK=0 WORLD_SIZE=1 if each is to be a run of "
                "its own"
            )


def _torchrun_line(project: str, count: int, nodes: str) -> str:
    """Return the ``torchrun`` command that starts as many processes together."""
    command = f"-m fastvid.train {project} ..."
    if not nodes.isdigit() or int(nodes) <= 1:
        return f"use `torchrun --nproc-per-node {count} {command}`"
    each = max(1, count // int(nodes))
    return (
        f"use `srun --nodes {nodes} --ntasks-per-node 1 torchrun --nnodes {nodes} --nproc-per-node {each} "
        f"--rdzv-backend c10d --rdzv-endpoint FIRST_NODE:29500 --rdzv-id $SLURM_JOB_ID {command}`"
    )


def init_distributed() -> World:
    """Join the process group that ``torchrun`` describes in the environment. Without it, train alone."""
    rank, size = environment_number("RANK", 0), environment_number("WORLD_SIZE", 1)
    lacking = [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if size > 1 and lacking:
        raise UserError(f"WORLD_SIZE is {size} and {', '.join(lacking)} not set: start all processes with torchrun")
    if torch.cuda.is_available():
        device = torch.device("cuda", environment_number("LOCAL_RANK", 0))
        torch.cuda.set_device(device)
    else:
        device = torch.device("cpu")
    if size > 1:
        # Both, so that flags and names can be agreed upon without touching the GPU.
        backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
        # Every attempt of torchrun --max-restarts may be served by one store: the addresses that the one before left
        # there are not this one's.
        attempt = environment_number("TORCHELASTIC_RESTART_COUNT", 0)
        store, _, _ = next(rendezvous("env://", timeout=_PATIENCE))
        store = dist.PrefixStore(f"fastvid/attempt {attempt}", store)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=_PATIENCE)
    return World(rank, size, device)


def place_of_this_process() -> tuple[int, int]:
    """Return (rank, size) from torchrun, or else from a SLURM array or step, or (0, 1) without either: for work that
    processes share without talking to each other.

    Raises:
        UserError: these variables are not numbers, or name no place.
    """
    for rank, size in (
        ("RANK", "WORLD_SIZE"),
        ("SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"),
        ("SLURM_PROCID", _SLURM_STEP_SIZE),
    ):
        if rank in os.environ and size in os.environ:
            first = environment_number("SLURM_ARRAY_TASK_MIN", 0) if "ARRAY" in rank else 0
            place = environment_number(rank) - first, environment_number(size)
            if not 0 <= place[0] < place[1]:
                raise UserError(
                    f"this process has rank {place[0]} of {place[1]}: the environment describes no place for it"
                )
            return place
    return 0, 1


def environment_number(name: str, default: int | None = None) -> int:
    """Return the whole number in an environment variable that a launcher sets.

    Raises:
        UserError: it is none, or it is not set and there is no default.
    """
    value = os.environ.get(name, "" if default is None else str(default))
    if not value.isdecimal():
        raise UserError(f"the environment variable {name} is {value!r}: it is a whole number that the launcher sets")
    return int(value)


def destroy_distributed(world: World) -> None:
    """Leave the process group."""
    if world.size > 1:
        dist.destroy_process_group()


def barrier(world: World) -> None:
    """Wait until all processes have called this."""
    all_reduce_max(world, 0)  # over the CPU: a GPU is not waited for


def broadcast_text(world: World, text: str | None) -> str:
    """Return the main process's text on every process."""
    if world.size == 1:
        assert text is not None
        return text
    box = [text]
    dist.broadcast_object_list(box, src=0)
    assert box[0] is not None
    return box[0]


def all_reduce_max(world: World, value: int) -> int:
    """Return the greatest of all processes' values. With it a signal that reached one process stops all at the same
    step.
    """
    if world.size == 1:
        return value
    tensor = torch.tensor(value)
    dist.all_reduce(tensor, op=dist.ReduceOp.MAX)
    return int(tensor)


def all_reduce_mean(world: World, values: list[float]) -> list[float]:
    """Return the mean of each value over the processes."""
    if world.size == 1:
        return values
    tensor = torch.tensor(values, dtype=torch.float64)
    dist.all_reduce(tensor)
    return (tensor / world.size).tolist()


def average_over_processes(world: World, x: torch.Tensor) -> torch.Tensor:
    """Return the mean of a tensor over the processes, on its device: nothing waits for a GPU."""
    if world.size == 1:
        return x
    x = x.clone()
    dist.all_reduce(x)
    return x / world.size


def all_gather_rows(world: World, x: torch.Tensor) -> torch.Tensor:
    """Gather [n, ...] of each process to [world * n, ...], with gradients: for losses on batch statistics.

    Each process then computes the same loss of all rows, and DDP divides the gradients by the number of processes;
    the rows' gradients are therefore multiplied by it on the way back, so that the result is that of one process.
    """
    if world.size == 1:
        return x
    rows: torch.Tensor = _GatherRows.apply(x, world.rank, world.size)
    return rows


class _GatherRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, rank: int, size: int) -> torch.Tensor:
        ctx.rank, ctx.size, ctx.rows = rank, size, x.shape[0]
        parts = [torch.empty_like(x) for _ in range(size)]
        dist.all_gather(parts, x.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        return ctx.size * grad[ctx.rank * ctx.rows : (ctx.rank + 1) * ctx.rows], None, None
