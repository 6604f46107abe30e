"""multiblock_mask: schema, fake, implementations, public function."""

from collections.abc import Callable

import torch

from fastvid import _native
from fastvid.ops import _checks
from fastvid.ops._dispatch import Backend, choose, register
from fastvid.ops.multiblock_mask import reference
from fastvid.ops.multiblock_mask.spec import MaskSpec

# "plan" is MaskSpec.plan(): plain integers, so that the graph of a compiled step holds no Python object.
_SCHEMA = (
    "multiblock_mask(Tensor sample_ids, SymInt[] plan, SymInt seed, SymInt draw, str backend) -> "
    "(Tensor visible, Tensor masked)"
)
_MASKED, _VISIBLE = 3, 4  # positions in the plan


def empty_outputs(ids: torch.Tensor, plan: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Allocate visible [B, V] and masked [B, M]."""
    visible = ids.new_empty((ids.shape[0], plan[_VISIBLE]))
    masked = ids.new_empty((ids.shape[0], plan[_MASKED]))
    return visible, masked


def _fake(sample_ids, plan, seed, draw, backend):
    return empty_outputs(sample_ids, plan)


def _cpu(sample_ids, plan, seed, draw, backend):
    if backend == "reference":
        return reference.multiblock_mask(sample_ids, plan, seed, draw)
    visible, masked = empty_outputs(sample_ids, plan)
    ids = sample_ids.contiguous()
    _native.CORE.multiblock_mask_cpu(
        ids.data_ptr(), visible.data_ptr(), masked.data_ptr(), len(ids), seed, draw, plan, torch.get_num_threads()
    )
    return visible, masked


def _cuda(sample_ids, plan, seed, draw, backend):
    if backend == "reference":
        return reference.multiblock_mask(sample_ids, plan, seed, draw)
    visible, masked = empty_outputs(sample_ids, plan)
    ids = sample_ids.contiguous()
    if len(ids):
        stream = torch.cuda.current_stream().cuda_stream
        _native.CORE.multiblock_mask_cuda(
            ids.data_ptr(), visible.data_ptr(), masked.data_ptr(), len(ids), seed, draw, plan, stream
        )
    return visible, masked


_op: Callable[..., tuple[torch.Tensor, torch.Tensor]] = register(
    _SCHEMA, fake=_fake, cpu=_cpu, cuda=_cuda, triton="fastvid.ops.multiblock_mask.triton"
)


def multiblock_mask(
    sample_ids: torch.Tensor,
    grid: tuple[int, int, int],
    *,
    masked: int,
    visible: int,
    spec: MaskSpec | None = None,
    seed: int,
    draw: int,
    backend: Backend = "auto",
) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw which tokens of each clip are visible to the student and which it must predict.

    A sample's mask is a pure function of (seed, sample id, draw): it does not depend on the batch it is in, on the rank
    or on a restart, and every backend draws the same one bit for bit. Nothing is copied to or from the host.

    Args:
        sample_ids: int64 [B], one stable id per clip (:func:`fastvid.ops.sample_id` of its key).
        grid: (T, H, W) tokens; token ``t * H * W + h * W + w``.
        masked: M, tokens to predict per clip.
        visible: V, tokens the student sees per clip; M + V <= T * H * W.
        spec: parameters of the masks; default :meth:`MaskSpec.multiblock`.
        seed: the run's seed, in [0, 2**63).
        draw: number of the draw of these samples, in [0, 2**32): give each training step (and each of several masks
            in a step) its own.
        backend: ``"auto"``, ``"reference"`` (plain PyTorch; on a GPU it waits for the device) or ``"native"``.

    Returns:
        ``visible`` int64 [B, V] and ``masked`` int64 [B, M] on the ids' device: ascending, disjoint.

    Raises:
        TypeError: ``sample_ids`` is not an int64 tensor.
        ValueError: counts that do not fit the grid, an empty grid or one with a side over 65536, a seed or draw out of
            range, an unknown backend.
        RuntimeError: ``backend="native"`` where there is no kernel; on a GPU, a grid of more tokens than fit the shared
            memory of a thread block (about 99,000 on consumer cards).

    Example:
        >>> ids = torch.tensor([sample_id("a.mp4"), sample_id("b.mp4")])
        >>> visible, masked = multiblock_mask(ids, (8, 14, 14), masked=1176, visible=392, seed=0, draw=7)
    """
    _checks.tensors("multiblock_mask", sample_ids=sample_ids)
    if sample_ids.ndim != 1:
        raise ValueError(f"multiblock_mask: sample_ids must be [B], got shape {tuple(sample_ids.shape)}")
    _checks.index_dtype("multiblock_mask", "sample_ids", sample_ids)
    if not 0 <= seed < 2**63:
        raise ValueError(f"multiblock_mask: seed must be in [0, 2**63), got {seed}")
    if not 0 <= draw < 2**32:
        raise ValueError(f"multiblock_mask: draw must be in [0, 2**32), got {draw}")
    plan = (spec or MaskSpec.multiblock()).plan(grid, masked, visible)
    kernel = choose("multiblock_mask", sample_ids.device, backend)
    # The reference runs inside the op too: its loop ends when the data says so, which no graph can hold.
    return _op(sample_ids, plan, seed, draw, kernel)
