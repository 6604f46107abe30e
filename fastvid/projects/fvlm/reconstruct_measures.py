"""The test of reconstructions: squared errors by pass, on clips that nothing was chosen by."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from fastvid.eval.attention import mean_of_sums
from fastvid.eval.hierarchical import bootstrap_interval
from fastvid.projects.fvlm.evaluation import EvalBatch
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.reconstruct import Rebuilt, Reconstructor, latents_of

UNCHANGED = "unchanged"
"""The error of taking each frame for the one before it."""


@torch.no_grad()
def measure_reconstruction(
    module: Reconstructor,
    batches: Iterable[EvalBatch],
    mode: Mode,
    cast: Callable[[], AbstractContextManager[object]],
    check: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
    """Return the mean squared error of a latent's elements by pass, and what there is to compare it with.

    Args:
        module: the model.
        batches: of the clips.
        mode: in which it was trained.
        cast: makes the autocast context of forward passes.
        check: called before each batch; raises where the process is to stop.

    Returns:
        ``fine``, ``coarse`` and ``unchanged``; ``ratio``, of coarse to fine with its 95 % interval over clips from
        ``low`` to ``high``. In the mode ``coarse`` fine and ratio are left out.
    """
    rows = []
    for test in batches:
        check()
        inputs = Inputs.of(test.batch)
        inputs = inputs.told() if module.config.told else inputs
        latents = latents_of(test.batch, module.config)
        with cast():
            _, rebuilt = module(inputs, mode, latents, coarse=mode != "coarse")
        if rebuilt is not None:
            rows.append(_by_clip(module, rebuilt, latents))
    if not rows:
        return {}
    fine, coarse, unchanged, count = np.concatenate(rows).T
    means = {name: float(x.sum() / count.sum()) for name, x in (("coarse", coarse), (UNCHANGED, unchanged))}
    if mode == "coarse":
        return means
    pairs = np.stack([coarse, fine], 1)
    low, high = bootstrap_interval([pairs], mean_of_sums)
    ratio = float(mean_of_sums(pairs.sum(0)))
    return {"fine": float(fine.sum() / count.sum()), **means, "ratio": ratio, "low": low, "high": high}


def _by_clip(module: Reconstructor, rebuilt: Rebuilt, latents: torch.Tensor) -> np.ndarray:
    """Return float64 [C, 4] of each clip: the sums of the fine, coarse and unchanged errors, and their number."""
    real = rebuilt.real.double()
    latents = latents[:, : real.shape[2]].float().expand(-1, real.shape[2], -1, -1, -1)
    moved = (latents - module.film.before(latents)).square().mean((-3, -2, -1))[:, None]
    coarse = rebuilt.fine if rebuilt.coarse is None else rebuilt.coarse
    sums = [(x.double() * real).sum((1, 2)) for x in (rebuilt.fine, coarse, moved)]
    return torch.stack([*sums, real.sum((1, 2))], 1).cpu().numpy()
