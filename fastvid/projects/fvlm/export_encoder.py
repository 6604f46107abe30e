"""A vision encoder's weights in the one form that an exported model has, whoever made the encoder."""

from typing import Any

import torch
from torch import nn

from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.dinov3 import Dinov3Encoder
from fastvid.projects.fvlm.encoder import Block, VisionEncoder
from fastvid.projects.fvlm.timm_vit import TimmEncoder

Weights = dict[str, torch.Tensor]
_GELU, _SILU, _RELU = "gelu", "silu", "relu"


def export_encoder(encoder: VisionEncoder) -> tuple[dict[str, Any], Weights]:
    """Return an encoder as the fields of ``FoveatedVisionConfig`` and the weights of ``FoveatedViT``.

    Raises:
        ValueError: it has a part that this form lacks.
    """
    if isinstance(encoder, TimmEncoder):
        fields, weights = _timm(encoder)
    elif isinstance(encoder, Dinov3Encoder):
        fields, weights = _dinov3(encoder)
    elif isinstance(encoder, Dinov2Encoder):
        fields, weights = _dinov2(encoder)
    else:
        raise ValueError(f"a {type(encoder).__name__} cannot be exported: only DINOv2, DINOv3 and those of timm can")
    blocks = encoder.blocks()
    first = blocks[0]
    for number, block in enumerate(blocks):
        for name, tensor in _layer(encoder, block).items():
            weights[f"layers.{number}.{name}"] = tensor
    up = weights["layers.0.mlp.up.weight"]
    return {
        "hidden_size": encoder.width,
        "num_hidden_layers": len(blocks),
        "num_attention_heads": encoder.heads,
        "intermediate_size": len(up),
        "patch_size": encoder.patch,
        "prefix_tokens": encoder.prefix,
        "hidden_act": _activation(first.mlp),
        "gated": "layers.0.mlp.gate.weight" in weights,
        "head_norm": "layers.0.norm_query.weight" in weights,
        "final_norm": "norm.weight" in weights,
        "input_norm": "input_norm.weight" in weights,
        "layer_norm_eps": _layer_norm(first.norm1, "norm1").eps,
        **fields,
    }, {name: tensor.detach().clone().contiguous() for name, tensor in weights.items()}


def _dinov2(encoder: VisionEncoder) -> tuple[dict[str, Any], Weights]:
    model = encoder.model
    embeddings, positions = model.embeddings, model.embeddings.position_embeddings[0]
    registers = getattr(embeddings, "register_tokens", None)
    prefix = [embeddings.cls_token[0] + positions[:1], *([] if registers is None else [registers[0]])]
    side = round((len(positions) - 1) ** 0.5)
    weights = {"prefix": torch.cat(prefix), "positions": positions[1:]}
    weights |= _linear(embeddings.patch_embeddings.projection, "patch_embedding") | _norm(model.layernorm, "norm")
    return {"grid": [side, side], "antialias": registers is not None}, weights


def _dinov3(encoder: VisionEncoder) -> tuple[dict[str, Any], Weights]:
    model = encoder.model
    embeddings = model.embeddings
    weights = {"prefix": torch.cat([embeddings.cls_token[0], embeddings.register_tokens[0]])}
    weights |= _linear(embeddings.patch_embeddings, "patch_embedding") | _norm(model.norm, "norm")
    return {"grid": None, "rotary_base": float(model.rope_embeddings.base)}, weights


def _timm(encoder: VisionEncoder) -> tuple[dict[str, Any], Weights]:
    model = encoder.model
    if model.pos_embed is None or not isinstance(model.patch_embed.norm, nn.Identity):
        raise ValueError(
            "timm's vision transformer without learnt positions, or with a norm of patches, cannot be exported"
        )
    grid, positions = list(model.patch_embed.grid_size), model.pos_embed[0]
    tokens = [token[0] for token in (model.cls_token, model.reg_token) if token is not None]
    prefix = torch.cat(tokens) if tokens else positions[:0]
    shared = len(positions) - grid[0] * grid[1]  # positions of the tokens in front, if these have any
    if shared:
        prefix = prefix + positions[:shared]
    weights = {"prefix": prefix, "positions": positions[shared:]}
    weights |= _linear(model.patch_embed.proj, "patch_embedding")
    weights |= _norm(model.norm, "norm") | _norm(model.norm_pre, "input_norm")
    return {"grid": grid, "antialias": True}, weights


def _layer(encoder: VisionEncoder, block: Block) -> Weights:
    weights = _norm(block.norm1, "norm1") | _norm(block.norm2, "norm2")
    weights |= _norm(block.norm_query, "norm_query") | _norm(block.norm_key, "norm_key")
    if isinstance(encoder, TimmEncoder):
        weights |= _timm_attention(block)
    else:
        for name in ("query", "key", "value", "out"):
            weights |= _linear(getattr(block, name), name)
    for name in ("scale1", "scale2"):
        scale: Any = getattr(block, name)
        factor = getattr(scale, "lambda1", getattr(scale, "gamma", None))
        if factor is None and not isinstance(scale, nn.Identity):
            raise ValueError(f"a {type(scale).__name__} cannot be exported: it is no factor of each channel")
        weights[name] = torch.ones(encoder.width) if factor is None else factor
    return weights | _mlp(block.mlp)


def _timm_attention(block: Block) -> Weights:
    """Return the weights of timm's fused projection, in three, and of its output."""
    qkv: Any = block.query.args[0]  # type: ignore[attr-defined]
    attention: Any = block.out.args[0]  # type: ignore[attr-defined]
    if not isinstance(attention.norm, nn.Identity):
        raise ValueError("timm's attention with a norm of its own cannot be exported")
    weights = _linear(attention.proj, "out")
    whole = _linear(qkv, "qkv")
    for kind in ("weight", "bias"):
        for name, part in zip(("query", "key", "value"), whole[f"qkv.{kind}"].chunk(3), strict=True):
            weights[f"{name}.{kind}"] = part
    return weights


def _mlp(mlp: Any) -> Weights:
    """Return the weights of a layer's hidden part, by the names that its kind gives to them."""
    if not isinstance(getattr(mlp, "norm", nn.Identity()), nn.Identity):
        raise ValueError(f"a {type(mlp).__name__} with a norm cannot be exported")
    for names in (
        {"fc1": "up", "fc2": "down"},
        {"gate_proj": "gate", "up_proj": "up", "down_proj": "down"},
        {"up_proj": "up", "down_proj": "down"},
        {"fc1_g": "gate", "fc1_x": "up", "fc2": "down"},
    ):
        layers = {name for name, child in mlp.named_children() if isinstance(child, nn.Linear)}
        if layers == names.keys():
            weights: Weights = {}
            for name, ours in names.items():
                weights |= _linear(getattr(mlp, name), f"mlp.{ours}")
            return weights
    if isinstance(getattr(mlp, "weights_in", None), nn.Linear):  # gate and the gated in one, as transformers had it
        weights = _linear(mlp.weights_out, "mlp.down")
        whole = _linear(mlp.weights_in, "both")
        for kind in ("weight", "bias"):
            weights[f"mlp.gate.{kind}"], weights[f"mlp.up.{kind}"] = whole[f"both.{kind}"].chunk(2)
        return weights
    raise ValueError(f"a {type(mlp).__name__} cannot be exported: it is no hidden part of two or three linear layers")


def _activation(mlp: Any) -> str:
    """Return the activation of a layer's hidden part, by transformers' name."""
    if isinstance(getattr(mlp, "weights_in", None), nn.Linear):
        return _SILU
    found = next(
        (getattr(mlp, name) for name in ("activation_fn", "activation", "act_fn", "act") if hasattr(mlp, name)), None
    )
    probe = torch.linspace(-4, 4, 33, dtype=torch.float64)
    from transformers.activations import ACT2FN

    for name in ("gelu", "gelu_pytorch_tanh", "silu", "quick_gelu", "relu"):
        if found is not None and torch.allclose(found(probe), ACT2FN[name](probe), rtol=1e-9, atol=1e-9):
            return name
    raise ValueError(f"the activation {type(found).__name__} cannot be exported")


def _linear(layer: Any, name: str) -> Weights:
    """Return the weight and the bias of a linear layer or convolution, zero where it has none."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        raise ValueError(f"a {type(layer).__name__} cannot be exported as a linear layer")
    bias = layer.weight.new_zeros(len(layer.weight)) if layer.bias is None else layer.bias
    return {f"{name}.weight": layer.weight, f"{name}.bias": bias}


def _norm(norm: Any, name: str) -> Weights:
    """Return the weights of a norm; none where there is none."""
    if isinstance(norm, nn.Identity) or getattr(norm, "__name__", "") == "same":
        return {}
    layer = _layer_norm(norm, name)
    return {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}


def _layer_norm(norm: Any, name: str) -> nn.LayerNorm:
    if not isinstance(norm, nn.LayerNorm) or norm.bias is None:
        raise ValueError(f"a {type(norm).__name__} as {name} cannot be exported: it is no layer norm with a bias")
    return norm
