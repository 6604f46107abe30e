"""What a call costs beside the arithmetic: on tiny inputs, at most 2.5 times the ATen expression that does the same.

Both sides take turns for many short rounds, and their fastest rounds are compared: a busy neighbour only adds time.
"""

import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F

from fastvid import _native
from fastvid.ops import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    MaskSpec,
    foveated_glimpse,
    gather_tokens,
    gather_tubelets,
    masked_latent_loss,
    multiblock_mask,
    peak_to_center,
    query_attend,
)

pytestmark = pytest.mark.skipif(_native.CORE is None, reason="measures the native CPU kernels")

LIMIT = 2.5
ROUNDS, CALLS = 200, 10
ATTEMPTS = 3  # too slow is what is too slow each time

X, INDEX = torch.randn(1, 4, 8), torch.tensor([[0, 2]])
PRED, TARGET = torch.randn(1, 2, 8), torch.randn(1, 4, 8)
QUERY, KEY, VALUE = torch.randn(1, 1, 1, 8), torch.randn(1, 1, 4, 8), torch.randn(1, 1, 4, 8)
CLIP, TUBELET = torch.randint(256, (1, 2, 8, 8, 3), dtype=torch.uint8), torch.tensor([[3]])
FRAMES = torch.randint(256, (1, 1, 8, 8, 3), dtype=torch.uint8)
CENTER, SCALE = torch.zeros(1, 1, 1, 2), torch.full((1, 1, 1), 0.5)
IDS, PEAK = torch.tensor([7]), torch.tensor([[1, 3]])
MEAN, STD = 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)


def gather(x):
    return x.gather(1, INDEX.unsqueeze(-1).expand(-1, -1, x.shape[2]))


def pick_and_normalize(clip):
    """The picked tubelet of 1 x 4 x 4 pixels, then its normalisation."""
    tubelets = clip.view(1, 2, 1, 2, 4, 2, 4, 3).permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(1, 8, 3, 16)
    picked = tubelets.gather(1, TUBELET.view(1, 1, 1, 1).expand(-1, -1, 3, 16))
    return picked.float().sub_(MEAN.view(3, 1)).div_(STD.view(3, 1)).view(1, 1, 48)


def loss(pred):
    return F.mse_loss(pred, TARGET.gather(1, INDEX.unsqueeze(-1).expand(-1, -1, 8)))


def attend_with_statistics(query, key, value):
    weights = (query @ key.mT * 8**-0.5).softmax(-1)
    return weights @ value, -(weights * weights.log()).sum(-1), weights.argmax(-1)


def sample_grid(center, scale):
    """One level, without antialiasing: the crop's grid and F.grid_sample."""
    pixels = FRAMES[0].permute(0, 3, 1, 2).float().sub_(MEAN.view(3, 1, 1)).div_(STD.view(3, 1, 1))
    offset = (torch.arange(4) + 0.5) / 2 - 1
    x = center[0, :, :, :1] + offset * scale[0].unsqueeze(-1)
    y = center[0, :, :, 1:] + offset * scale[0].unsqueeze(-1)
    grid = torch.stack(torch.broadcast_tensors(x.unsqueeze(-2), y.unsqueeze(-1)), -1).view(1, 4, 4, 2)
    return F.grid_sample(pixels, grid, padding_mode="border", align_corners=False).view(1, 1, 1, 1, 3, 4, 4)


def random_masks():
    shuffled = torch.rand(1, 4).argsort(1)
    return shuffled[:, :2].sort(1).values, shuffled[:, 2:].sort(1).values


def centers(peak):
    cell = (peak - 0) % 4
    x, y = (2 * (cell % 2) + 1).float() / 2 - 1, (2 * (cell // 2) + 1).float() / 2 - 1
    return torch.stack([x, y], dim=-1) * (peak >= 0).unsqueeze(-1)


def masks():
    return multiblock_mask(IDS, (1, 2, 2), masked=2, visible=2, spec=MaskSpec.random(), seed=0, draw=1)


def glimpse(center, scale):
    return foveated_glimpse(FRAMES, center, scale, size=4, levels=1, antialias=False)


Case = tuple[Callable, Callable, list[torch.Tensor]]
# ours, the ATen expression, what both take
CASES: dict[str, Case] = {
    "gather_tokens: gather of the expanded index": (lambda x: gather_tokens(x, INDEX), gather, [X]),
    "gather_tubelets: permute, gather, normalise": (
        lambda clip: gather_tubelets(clip, TUBELET, tubelet=1, patch=4),
        pick_and_normalize,
        [CLIP],
    ),
    "masked_latent_loss: gather, mse_loss": (lambda pred: masked_latent_loss(pred, TARGET, INDEX), loss, [PRED]),
    "query_attend: scaled_dot_product_attention": (query_attend, F.scaled_dot_product_attention, [QUERY, KEY, VALUE]),
    "query_attend with statistics: softmax, log, argmax": (
        lambda *tensors: query_attend(*tensors, return_stats=True),
        attend_with_statistics,
        [QUERY, KEY, VALUE],
    ),
    "foveated_glimpse: normalise, grid_sample": (glimpse, sample_grid, [CENTER, SCALE]),
    "multiblock_mask of random tokens: rand, argsort, two sorts": (masks, random_masks, []),
    "peak_to_center: its formula": (lambda peak: peak_to_center(peak, (2, 2)), centers, [PEAK]),
}
DIFFERENTIABLE = [name for name, (_, _, inputs) in CASES.items() if inputs and inputs[0].is_floating_point()]


def with_gradients(function: Callable, inputs: list[torch.Tensor]) -> Callable[[], tuple[torch.Tensor, ...]]:
    """Forward and backward pass; of several results, to the first."""
    leaves = [x.clone().requires_grad_() for x in inputs]

    def first():
        out = function(*leaves)
        return out[0] if isinstance(out, tuple) else out

    upstream = torch.ones_like(first())
    return lambda: torch.autograd.grad(first(), leaves, upstream)


def fastest(calls: list[Callable[[], object]]) -> list[float]:
    """Seconds for CALLS calls of each, in its fastest round."""
    best = [float("inf")] * len(calls)
    for _ in range(ROUNDS):
        for i, call in enumerate(calls):
            started = time.perf_counter()
            for _ in range(CALLS):
                call()
            best[i] = min(best[i], time.perf_counter() - started)
    return best


def check(ours: Callable[[], object], aten: Callable[[], object]) -> None:
    ratios = []
    for _ in range(ATTEMPTS):
        one, other = fastest([ours, aten])
        ratios.append(one / other)
        if ratios[-1] <= LIMIT:
            return
    pytest.fail(f"a call takes {', '.join(f'{ratio:.2f}' for ratio in ratios)} times the ATen expression's, not 2.5")


@pytest.mark.parametrize("name", CASES)
def test_a_call_costs_little(name):
    ours, aten, inputs = CASES[name]
    if inputs:  # random masks are not equal
        torch.testing.assert_close(ours(*inputs), aten(*inputs), rtol=1e-4, atol=1e-4)
    check(lambda: ours(*inputs), lambda: aten(*inputs))


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_forward_and_backward_cost_little(name):
    ours, aten, inputs = CASES[name]
    calls = [with_gradients(function, inputs) for function in (ours, aten)]
    for got, expected in zip(*(call() for call in calls), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    check(*calls)
