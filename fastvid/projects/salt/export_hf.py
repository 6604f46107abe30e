"""An encoder as a folder that transformers opens, with its processors."""

import copy
import json
from pathlib import Path
from typing import Any

import torch

from fastvid.files import write_whole
from fastvid.models.vit import VideoViT
from fastvid.projects.processor_file import pixel_fields
from fastvid.projects.salt.export_check import check_equal, normalized, random_clips
from fastvid.projects.salt.plain_vit import PlainViT, Weights
from fastvid.projects.salt.trained import TrainedEncoder

# Where the parts of a block are in the two models.
_VIDEOMAE = {
    "norm1": "layernorm_before", "query": "attention.attention.query", "key": "attention.attention.key",
    "value": "attention.attention.value", "output": "attention.output.dense", "norm2": "layernorm_after",
    "enter": "intermediate.dense", "leave": "output.dense",
}  # fmt: skip
_VIDEO_VIT = {name: f"attention.{name}" for name in ("query", "key", "value", "output")}


def is_videomae(encoder: VideoViT) -> bool:
    """Return whether transformers alone can open the encoder: VideoMAE's positions are a table that it computes."""
    return encoder.config.positions == "sinusoid"


def write_hf(trained: TrainedEncoder, folder: Path) -> None:
    """Write weights, configuration and processors of an encoder, and compare what transformers opens with it.

    Raises:
        ValueError: the encoder has a part that VideoMAE lacks.
    """
    model = hf_model(trained.encoder)
    model.save_pretrained(folder)
    for name, kind in (("preprocessor_config", "image"), ("video_preprocessor_config", "video")):
        write_whole(folder / f"{name}.json", (json.dumps(processor(trained, kind), indent=2) + "\n").encode())
    check_same(trained.encoder, type(model).from_pretrained(folder))


def hf_model(encoder: VideoViT) -> Any:
    """Return transformers' model with an encoder's weights: a ``VideoMAEModel`` where its positions are VideoMAE's,
    else a model whose code travels with it.

    Raises:
        ValueError: the encoder has a part that VideoMAE lacks.
    """
    from transformers import VideoMAEConfig, VideoMAEModel

    from fastvid.projects.salt.hf.modeling_video_vit import (
        VideoViTConfig,
        VideoViTForVideoClassification,
        VideoViTModel,
    )

    vit, options = PlainViT(encoder), encoder.config
    fields: dict[str, Any] = {
        "image_size": options.size, "num_frames": options.frames, "patch_size": encoder.patch_embed.patch,
        "tubelet_size": options.tubelet, "hidden_size": encoder.dim, "num_hidden_layers": len(vit.blocks),
        "num_attention_heads": vit.heads, "intermediate_size": vit.hidden, "hidden_act": vit.act,
        "layer_norm_eps": vit.eps, "qv_bias": vit.bias,
    }  # fmt: skip
    proj, norm = encoder.patch_embed.proj.state_dict(), encoder.norm.state_dict()
    model: Any
    if is_videomae(encoder):
        # Mean pooling, as transformers calls it, would leave out the norm at the end.
        model = VideoMAEModel(VideoMAEConfig(**fields, use_mean_pooling=False))
        weights = _blocks(vit, "encoder.layer", _VIDEOMAE)
        weights |= {f"embeddings.patch_embeddings.projection.{kind}": tensor for kind, tensor in proj.items()}
        weights |= {f"layernorm.{kind}": tensor for kind, tensor in norm.items()}
        weights = {_as_named(name, model): tensor for name, tensor in weights.items()}
    else:
        model = VideoViTModel(VideoViTConfig(**fields, learned_positions=options.positions == "learned"))
        weights = _blocks(vit, "blocks", _VIDEO_VIT) | {"positions": encoder.positions.detach()}
        weights |= {f"patches.{kind}": tensor for kind, tensor in proj.items()}
        weights |= {f"norm.{kind}": tensor for kind, tensor in norm.items()}
        VideoViTConfig.register_for_auto_class("AutoConfig")
        VideoViTModel.register_for_auto_class("AutoModel")
        VideoViTForVideoClassification.register_for_auto_class("AutoModelForVideoClassification")
        code = "modeling_video_vit.VideoViTForVideoClassification"
        model.config.auto_map = {"AutoModelForVideoClassification": code}  # saving adds the other two
    model.load_state_dict(weights)
    return model.eval()


def _blocks(vit: PlainViT, where: str, names: dict[str, str]) -> Weights:
    out: Weights = {}
    for number, block in enumerate(vit.blocks):
        for name, tensor in block.items():
            part, _, kind = name.partition(".")
            out[f"{where}.{number}.{names.get(part, part)}.{kind}"] = tensor
    return out


def _as_named(name: str, model: Any) -> str:
    """Return a tensor's name in the installed transformers: before 5.4 the biases of attention had one of their own."""
    older = name.replace(".query.bias", ".q_bias").replace(".value.bias", ".v_bias")
    return older if older in model.state_dict() else name


def processor(trained: TrainedEncoder, kind: str) -> dict[str, Any]:
    """Return the content of a processor's file: the centred square of each frame, as large as the encoder's clips.

    Args:
        trained: the encoder.
        kind: ``"image"`` for lists of frames, or ``"video"`` for tensors and files.
    """
    config = trained.encoder.config
    named = {"image": "image_processor_type", "video": "video_processor_type"}[kind]
    return {
        named: {"image": "VideoMAEImageProcessor", "video": "VideoMAEVideoProcessor"}[kind],
        **pixel_fields(trained.views, config.mean, config.std),
        **({"do_sample_frames": False} if kind == "video" else {}),
    }


@torch.no_grad()
def check_same(encoder: VideoViT, model: Any, tolerance: float = 1e-5) -> None:
    """Raise ValueError unless a model of transformers computes an encoder's tokens, in float64 on the CPU.

    Args:
        encoder: the video ViT.
        model: what was made of it.
        tolerance: greatest difference, as a share of the largest value; weights with a layer scale were rounded once.
    """
    config, exact = encoder.config, copy.deepcopy(encoder).cpu().double().eval()
    clip = random_clips(config, 1)
    pixels = normalized(clip, config).permute(0, 1, 4, 2, 3)
    found = copy.deepcopy(model).double().eval()(pixel_values=pixels).last_hidden_state
    check_equal(found, exact(clip), tolerance, "the exported model", f"{config.name} has a part that it lacks")
