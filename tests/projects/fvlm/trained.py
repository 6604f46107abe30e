"""Small models with random weights, of every kind of encoder, as a run would save them."""

import dataclasses
from pathlib import Path

import timm
import torch
from safetensors.torch import load_file
from transformers import (
    Dinov2Config,
    Dinov2Model,
    Dinov2WithRegistersConfig,
    Dinov2WithRegistersModel,
    DINOv3ViTConfig,
    DINOv3ViTModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.dinov3 import Dinov3Encoder
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.saved import TrainedFvlm
from fastvid.projects.fvlm.timm_vit import ALWAYS, TimmEncoder
from fastvid.projects.fvlm.tokenizer import word_tokenizer
from fastvid.video import ViewSpec

QUESTION = "Read the tile that is red"
TEXTS = [QUESTION, "Which letter is teal?", "A B C D E F G H"]
SIZE = 32
VIT = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "patch_size": 16, "image_size": 32}
SMALL = {"img_size": 32, "patch_size": 16, "embed_dim": 16, "depth": 2, "num_heads": 2}


def _timm(**options):
    name = "vit_tiny_patch16_224"
    return TimmEncoder(timm.create_model(name, **ALWAYS, **{**SMALL, **options}), name)


def _dinov3(**options):
    config = DINOv3ViTConfig(**VIT, intermediate_size=24, num_register_tokens=2, **options)
    return Dinov3Encoder(DINOv3ViTModel(config), mean=(0.1, 0.2, 0.3))


# Where the size differs from the frames', positions are resized.
ENCODERS = {
    "dinov2": lambda: Dinov2Encoder(Dinov2Model(Dinov2Config(**VIT, use_swiglu_ffn=True))),
    "dinov2 of another size": lambda: Dinov2Encoder(Dinov2Model(Dinov2Config(**{**VIT, "image_size": 64}))),
    "dinov2 with registers": lambda: Dinov2Encoder(
        Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**{**VIT, "image_size": 64}))
    ),
    "dinov3": _dinov3,
    "dinov3, gated": lambda: _dinov3(use_gated_mlp=True, hidden_act="silu", key_bias=True),
    "timm": lambda: _timm(img_size=48, init_values=0.3, qk_norm=True),
    "timm, registers": lambda: _timm(reg_tokens=2, no_embed_class=True, qkv_bias=False),
    "timm, no class token": lambda: _timm(class_token=False, global_pool="avg", pre_norm=True),
    "timm, gated": lambda: _timm(mlp_layer=timm.layers.SwiGLU, act_layer=torch.nn.SiLU),
}


def shaken(model):
    """Draw weights large enough that what is said depends on what was seen, and move all others, so that what starts as
    zero or one is told from what is not there."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=max(0.3, parameter[0].numel() ** -0.5))
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def trained(encoder="dinov2", *, tied=False, max_fps=None, views=None, **options):
    """Make a model as a run would save it, with random weights."""
    tokenizer = word_tokenizer(TEXTS)
    language = LlamaConfig(
        hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, vocab_size=len(tokenizer),
        tie_word_embeddings=tied, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )  # fmt: skip
    config = ModelConfig(init="tiny", **options)
    model = FoveatedVLM(config, ENCODERS[encoder](), LanguageModel(LlamaForCausalLM(language)), 0.5)
    spec = dataclasses.asdict(views or ViewSpec(frames=4, size=SIZE))
    about = {"views": spec, "max_fps": max_fps, "question": QUESTION, "mode": config.mode}
    return TrainedFvlm(shaken(model), tokenizer, about).eval()


def saved_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a saved model, under the names that the files have."""
    files = sorted(folder.rglob("*.safetensors"))
    return {f"{path.parent.name}.{name}": tensor for path in files for name, tensor in load_file(path).items()}
