"""Measurements of a training step: time and memory by piece, and arithmetic."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.harness.gemm import gemm_rate as gemm_rate
from benchmarks.training.salt_sides import Variant, autocast, step

PIECES = ("pixels to tokens", "masks", "teacher", "encoder", "predictor", "loss", "optimizer")


def in_turns(measure: Callable, variants: dict[str, Variant], clip: torch.Tensor, rounds: int) -> dict[str, list]:
    """Return what ``measure(variant, clip)`` returns in every round; the variants take turns, so that drift hits all
    alike."""
    results: dict[str, list] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, variant in variants.items():
            results[name].append(measure(variant, clip))
    return results


def seconds(variant: Variant, clip: torch.Tensor) -> tuple[float, float]:
    """Time one whole step on the wall clock, and on the processor's clock, which other programs do not lengthen.

    The latter is summed over threads.
    """
    started, busy = time.perf_counter(), time.process_time()
    step(variant, clip)
    return time.perf_counter() - started, time.process_time() - busy


def seconds_by_piece(variant: Variant, clip: torch.Tensor) -> dict[str, float]:
    """Time the pieces of one step, whose graph is cut between them, so that each piece's backward pass is timed with
    its forward pass. On a GPU the cuts wait for the device, so the pieces add up to more than :func:`seconds`.
    """
    spent = dict.fromkeys(PIECES, 0.0)

    @contextmanager
    def clock(piece: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        if variant.device.type == "cuda":
            torch.cuda.synchronize()
        spent[piece] += time.perf_counter() - started

    with autocast(variant.device):
        with clock("pixels to tokens"):
            pixels = variant.pixels(clip)
        with clock("masks"):
            mask = variant.masks()
        with clock("teacher"):
            target = variant.teach(pixels)
        with clock("pixels to tokens"):
            tokens = variant.embed(pixels, mask)
        tokens_leaf = tokens.detach().requires_grad_()
        with clock("encoder"):
            z = variant.encode(tokens_leaf)
        z_leaf = z.detach().requires_grad_()
        with clock("predictor"):
            pred = variant.predict(z_leaf, mask)
        pred_leaf = pred.detach().requires_grad_()
        with clock("loss"):
            loss = variant.loss(pred_leaf, target, mask)
    with clock("loss"):
        loss.backward()
    with clock("predictor"):
        pred.backward(pred_leaf.grad)
    with clock("encoder"):
        z.backward(z_leaf.grad)
    with clock("pixels to tokens"):
        tokens.backward(tokens_leaf.grad)
    with clock("optimizer"):
        variant.update()
    return spent


def resident_bytes(variant: Variant, clip: torch.Tensor) -> int:
    """Count the bytes that outlive a step: weights of student, predictor and teacher, the optimizer's state, the
    clip.
    """
    tensors = [clip, *variant.module.parameters(), *variant.module.buffers()]
    tensors += [*variant.teacher.parameters(), *variant.teacher.buffers()]
    for state in variant.optimizer.state.values():
        tensors += [value for value in state.values() if torch.is_tensor(value)]
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())


def peak_bytes(variant: Variant, clip: torch.Tensor) -> int:
    """Measure the most bytes of tensors alive at once in a step: what outlives it, and the peak of what does not."""
    step(variant, clip)  # the optimizer has its state, and what compiles is compiled
    return resident_bytes(variant, clip) + peak_of(lambda: step(variant, clip), variant.device)


def peak_of(call: Callable[[], object], device: torch.device) -> int:
    """Measure the most bytes of tensors that are alive at once of those that a call makes.

    On a GPU the peak is CUDA's caching allocator's. On a CPU it is followed through PyTorch's allocator by the
    profiler: every tensor is in it, the scratch memory of MKL, oneDNN and of fused loops is not.
    """
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call()
        return torch.cuda.max_memory_allocated() - before
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        call()
    return max(live for _, live in _live_bytes(prof))


def bytes_by_piece(variant: Variant, clip: torch.Tensor) -> dict[str, int]:
    """Measure the bytes that the forward pass of each piece leaves alive: kept for the backward pass, and its results.

    For a variant that has made a step.
    """
    kept = dict.fromkeys(PIECES, 0)
    if variant.device.type == "cuda":

        @contextmanager
        def watch(piece: str) -> Iterator[None]:
            before = torch.cuda.memory_allocated()
            yield
            kept[piece] += torch.cuda.memory_allocated() - before

        _watched_step(variant, clip, watch)
        return {piece: size for piece, size in kept.items() if piece != "optimizer"}
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as prof:
        _watched_step(variant, clip, record_function)
    live = _live_bytes(prof)
    for event in prof.profiler.kineto_results.events():
        if event.name() in kept:
            start, end = event.start_ns(), event.start_ns() + event.duration_ns()
            kept[event.name()] += _at(live, end) - _at(live, start)
    return {piece: size for piece, size in kept.items() if piece != "optimizer"}


def _watched_step(variant: Variant, clip: torch.Tensor, watch: Callable) -> None:
    with autocast(variant.device):
        with watch("pixels to tokens"):
            pixels = variant.pixels(clip)
        with watch("masks"):
            mask = variant.masks()
        with watch("teacher"):
            target = variant.teach(pixels)
        with watch("pixels to tokens"):
            x = variant.embed(pixels, mask)
        with watch("encoder"):
            x = variant.encode(x)
        with watch("predictor"):
            x = variant.predict(x, mask)
        with watch("loss"):
            loss = variant.loss(x, target, mask)
    del x
    loss.backward()
    variant.update()


def _live_bytes(prof: profile) -> list[tuple[int, int]]:
    """Return (time in ns, bytes allocated since the profile began) after each allocation and release."""
    profiler: Any = prof.profiler
    events = [e for e in profiler.kineto_results.events() if e.name() == "[memory]"]
    live, line = 0, [(0, 0)]
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        line.append((event.start_ns(), live))
    return line


def _at(line: list[tuple[int, int]], time_ns: int) -> int:
    return max((entry for entry in line if entry[0] <= time_ns), key=lambda entry: entry[0])[1]


def flops(variant: Variant, clip: torch.Tensor) -> int:
    """Count the floating point operations of a step's matrix products, convolutions and attention."""
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        step(variant, clip)
    return counter.get_total_flops()


_KINDS = {  # parts of the names of PyTorch's operators on a CPU, and of kernels on a GPU
    "attention": ("scaled_dot_product", "flash", "fmha", "attention"),
    "ours": ("fastvid", "gather_tokens", "gather_tubelets", "masked_latent_loss", "multiblock_mask", "scatter_tokens",
             "scale_gradient_kernel", "sum_rows_kernel"),
    "GEMM": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "convolution", "gemm", "cutlass", "nvjet",
             "cublas", "triton_tem"),
}  # fmt: skip


def shares(variant: Variant, clip: torch.Tensor) -> dict[str, float]:
    """Return the share of the step's processor or device time in matrix products, in attention, in fastvid's ops, in
    the rest.

    On a CPU what a compiled block fuses counts as rest. For a variant that has made a step.
    """
    cuda = variant.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if cuda else [])
    with profile(activities=activities) as prof:
        step(variant, clip)
    spent = {"GEMM": 0.0, "attention": 0.0, "ours": 0.0, "rest": 0.0}
    for event in prof.key_averages():
        if (event.device_type != torch.autograd.DeviceType.CPU) != cuda:
            continue  # on a GPU, kernels only: operators would count their kernels again
        if event.is_user_annotation:
            continue  # and so would the spans of the optimizer and of compiled regions
        kind = next((k for k, parts in _KINDS.items() if any(part in event.key for part in parts)), "rest")
        spent[kind] += event.self_device_time_total if cuda else event.self_cpu_time_total
    whole = sum(spent.values())
    return {kind: value / whole for kind, value in spent.items()}
