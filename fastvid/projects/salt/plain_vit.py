"""An encoder's weights in the form that most libraries have: separate queries, keys and values, no layer scale."""

from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import nn

from fastvid.models.vit import VideoViT

# Activations by the name of timm's or torch's class, and by transformers' name.
_ACTIVATIONS = {
    "GELU": "gelu", "GELUTanh": "gelu_pytorch_tanh", "QuickGELU": "quick_gelu", "ReLU": "relu", "SiLU": "silu",
}  # fmt: skip

Weights = dict[str, torch.Tensor]


class PlainViT:
    """The parts of a pre-norm ViT with LayerNorm, softmax attention and a hidden part of two layers.

    A layer scale is multiplied into the weights in front of it. A bias of keys is dropped: it adds the same to all
    logits of a query, which a softmax does not see.

    Args:
        encoder: the video ViT.

    Attributes:
        blocks: weights of each block, named ``norm1``, ``query``, ``key``, ``value``, ``output``, ``norm2``, ``enter``
            and ``leave``, with ``.weight`` and ``.bias``; keys have no bias, queries and values where ``bias`` says so.
        bias: whether queries and values have a bias.
        heads: number of heads.
        hidden: width inside of a block's hidden part.
        act: its activation, by transformers' name.
        eps: of all norms.

    Raises:
        ValueError: the encoder has a part that such a ViT lacks.
    """

    def __init__(self, encoder: VideoViT):
        blocks: list[Any] = list(encoder.blocks)
        if odd := _odd_part(encoder, blocks):
            raise ValueError(f"{encoder.config.name} has {odd}, which transformers' VideoMAE lacks: use --to timm")
        first = blocks[0]
        self.bias: bool = first.attn.qkv.bias is not None
        self.heads: int = first.attn.num_heads
        self.act, self.eps = _ACTIVATIONS[type(first.mlp.act).__name__], float(first.norm1.eps)
        self.blocks = [_weights(block) for block in blocks]
        self.hidden = len(self.blocks[0]["enter.bias"])


def _odd_part(encoder: VideoViT, blocks: list[Any]) -> str | None:
    """Describe a part of the encoder that a plain ViT lacks, or return None."""
    if not isinstance(encoder.patch_norm, nn.Identity):
        return "a norm behind its patch embedding"
    for block in blocks:
        layers = {name for name, _ in block.mlp.named_parameters()} if type(block) is Block else set()
        if layers != {f"{name}.{kind}" for name in ("fc1", "fc2") for kind in ("weight", "bias")}:
            return f"blocks of another kind ({type(block).__name__})"
        attn = block.attn
        if not hasattr(attn, "qkv") or getattr(attn, "gate", None) is not None:
            return f"attention of another kind ({type(attn).__name__})"
        for where, name in ((attn, "q_norm"), (attn, "k_norm"), (attn, "norm"), (block.mlp, "norm")):
            if not isinstance(getattr(where, name, nn.Identity()), nn.Identity):
                return f"a norm inside of its blocks ({name})"
        if type(block.mlp.act).__name__ not in _ACTIVATIONS:
            return f"the activation {type(block.mlp.act).__name__}"
    norms = [encoder.norm, *(norm for block in blocks for norm in (block.norm1, block.norm2))]
    if any(not isinstance(norm, nn.LayerNorm) or norm.bias is None for norm in norms):
        return "norms that are no LayerNorm with a bias"
    if len({norm.eps for norm in norms}) > 1:
        return "norms of several epsilons"
    return None


def _weights(block: Any) -> Weights:
    """Return the weights of a block under plain names."""
    qkv, out = block.attn.qkv, Weights()
    for part, name in enumerate(("query", "key", "value")):
        out[f"{name}.weight"] = qkv.weight.chunk(3)[part]
        if qkv.bias is not None and name != "key":
            out[f"{name}.bias"] = qkv.bias.chunk(3)[part]
    for name, layer, scale in (("output", block.attn.proj, block.ls1), ("leave", block.mlp.fc2, block.ls2)):
        weight, gamma = layer.weight, getattr(scale, "gamma", None)
        bias = weight.new_zeros(len(weight)) if layer.bias is None else layer.bias
        out[f"{name}.weight"] = weight if gamma is None else gamma[:, None] * weight
        out[f"{name}.bias"] = bias if gamma is None else gamma * bias
    for name, layer in (("norm1", block.norm1), ("norm2", block.norm2), ("enter", block.mlp.fc1)):
        out |= {f"{name}.{kind}": getattr(layer, kind) for kind in ("weight", "bias")}
    return {name: tensor.detach().clone() for name, tensor in out.items()}
