"""The second half of a transformer layer, with fewer operations and less memory for the backward pass.

The factor of each channel behind a linear layer (LayerScale) is multiplied into its weights, so that nothing as large
as the tokens is multiplied or kept for it. What a GELU gives is computed again in the backward pass and not kept: it is
four times the tokens, and a small part of the time.
"""

from typing import Any

import torch
from torch import nn
from torch.nn import functional


def is_plain(mlp: nn.Module) -> bool:
    """Return whether a hidden layer is ``fc1``, an exact GELU and ``fc2``, and nothing else."""
    parts = dict(mlp.named_children())
    linear = [parts.pop(name, None) for name in ("fc1", "fc2")]
    if not all(type(part) is nn.Linear for part in linear) or len(parts) != 1:
        return False
    x = torch.linspace(-3, 3, 7)
    return torch.equal(next(iter(parts.values()))(x), functional.gelu(x))


def finish(layer: Any, out: nn.Linear, tokens: torch.Tensor, attended: torch.Tensor) -> torch.Tensor:
    """Return the tokens [F, N, D] after a layer of DINOv2 whose attention gave ``attended`` [F, N, D].

    Args:
        layer: it has ``norm2``, a plain ``mlp`` and two factors ``layer_scale1.lambda1`` and ``layer_scale2.lambda1``.
        out: the output projection of its attention.
        tokens: in front of the layer.
        attended: what its heads attended to.
    """
    tokens = tokens + functional.linear(attended, *scaled(out, layer.layer_scale1.lambda1))
    hidden = layer.mlp.fc1(layer.norm2(tokens))
    weight, bias = (x.to(hidden.dtype) for x in scaled(layer.mlp.fc2, layer.layer_scale2.lambda1))
    found: torch.Tensor = tokens + GeluLinear.apply(hidden, weight, bias)
    return found


def scaled(linear: nn.Linear, factor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weight and bias of a linear layer with a factor of each channel behind it."""
    return linear.weight * factor[:, None], linear.bias * factor


class GeluLinear(torch.autograd.Function):
    """GELU and a linear layer behind it; keeps what goes into the GELU, and not what comes out."""

    @staticmethod
    def forward(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        """Map hidden [..., H] by weight [D, H] and bias [D] to [..., D]."""
        ctx.save_for_backward(hidden, weight)
        with torch.autocast(hidden.device.type, enabled=False):
            return functional.linear(functional.gelu(hidden), weight, bias)

    @staticmethod
    def backward(ctx: Any, upstream: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the gradients."""
        hidden, weight = ctx.saved_tensors
        with torch.autocast(hidden.device.type, enabled=False):
            rows = upstream.flatten(0, -2)
            weights = biases = hiddens = None
            if ctx.needs_input_grad[1]:
                weights = rows.T @ functional.gelu(hidden).flatten(0, -2)
            if ctx.needs_input_grad[2]:
                biases = rows.sum(0)
            if ctx.needs_input_grad[0]:
                hiddens = torch.ops.aten.gelu_backward(upstream @ weight, hidden)
        return hiddens, weights, biases
