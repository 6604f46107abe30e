"""A small encoder and a small language model with random weights."""

from typing import Any

import torch
from torch import nn

from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.tokenizer import END, PAD, SPECIAL, START

TOKEN_STD = 0.5  # of embeddings, positions and visual tokens


def tiny_model(config: ModelConfig, vocabulary: int, size: int) -> FoveatedVLM:
    """Make a small model of Hugging Face's own DINOv2 and Llama.

    Weights start at a standard deviation of 1 / sqrt(inputs): with the 0.02 of large models, attention in a narrow one
    is uniform, and a query learns nothing.

    Args:
        config: options; the ``tiny_...`` ones say how small.
        vocabulary: number of tokens.
        size: side of a frame in pixels.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.init_seed)
        encoder, language = _encoder(config, size), _language(config, vocabulary)
        return FoveatedVLM(config, Dinov2Encoder(encoder), LanguageModel(language), config.token_scale or TOKEN_STD)


def _encoder(config: ModelConfig, size: int) -> Any:
    from transformers import Dinov2Config, Dinov2Model

    model: Any = Dinov2Model(
        Dinov2Config(
            hidden_size=config.tiny_width, num_hidden_layers=config.tiny_encoder_layers or config.tiny_layers,
            num_attention_heads=config.tiny_heads, patch_size=config.tiny_patch, image_size=size, layerscale_value=1.0,
            use_mask_token=False,
        )
    )  # fmt: skip
    _draw(model)
    nn.init.normal_(model.embeddings.cls_token, std=TOKEN_STD)
    nn.init.normal_(model.embeddings.position_embeddings, std=TOKEN_STD)
    return model


def _language(config: ModelConfig, vocabulary: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    special = {f"{kind}_token_id": SPECIAL.index(token) for kind, token in (("pad", PAD), ("bos", START), ("eos", END))}
    model: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary, hidden_size=config.tiny_width, intermediate_size=8 * config.tiny_width // 3,
            num_hidden_layers=config.tiny_layers, num_attention_heads=config.tiny_heads, tie_word_embeddings=False,
            max_position_embeddings=2048, attn_implementation="sdpa",
            **special,
        )
    )  # fmt: skip
    _draw(model)
    nn.init.normal_(model.get_input_embeddings().weight, std=TOKEN_STD)
    return model


def _draw(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.normal_(module.weight, std=module.weight[0].numel() ** -0.5)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
