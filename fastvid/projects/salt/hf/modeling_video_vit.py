"""A video ViT without a class token whose positions are in its weights: VideoMAE's encoder, but for its fixed table."""

from typing import Any

import torch
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, ImageClassifierOutput


class VideoViTConfig(PretrainedConfig):
    """The shape of the encoder and of its clips.

    Attributes:
        image_size: side of a clip, pixels.
        num_frames: frames of a clip.
        patch_size: side of a token, pixels.
        tubelet_size: frames of a token.
        hidden_size: width of a token.
        num_hidden_layers: blocks.
        num_attention_heads: heads of each.
        intermediate_size: width inside of a block's hidden part.
        hidden_act: activation, by transformers' name.
        layer_norm_eps: of all norms.
        qv_bias: whether queries and values have a bias. Keys have none: it would change no softmax.
        learned_positions: whether positions were learnt, and are when the model is trained on.
        initializer_range: standard deviation of new weights.
    """

    model_type = "video_vit"

    image_size = 224
    num_frames = 16
    patch_size = 16
    tubelet_size = 2
    hidden_size = 768
    num_hidden_layers = 12
    num_attention_heads = 12
    intermediate_size = 3072
    hidden_act = "gelu"
    layer_norm_eps = 1e-6
    qv_bias = True
    learned_positions = False
    initializer_range = 0.02


class Attention(nn.Module):
    """Self-attention of all tokens."""

    def __init__(self, config: Any):
        super().__init__()
        width = config.hidden_size
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width, bias=config.qv_bias)
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width, bias=config.qv_bias)
        self.output = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in (self.query, self.key, self.value)
        )
        return self.output(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: Any):
        super().__init__()
        width, hidden, eps = config.hidden_size, config.intermediate_size, config.layer_norm_eps
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=eps), nn.LayerNorm(width, eps=eps)
        self.attention = Attention(config)
        self.enter, self.leave = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.act = ACT2FN[config.hidden_act]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.leave(self.act(self.enter(self.norm2(x))))


class VideoViTPreTrainedModel(PreTrainedModel):
    """Base of the models: how new weights begin."""

    config_class = VideoViTConfig
    base_model_prefix = "encoder"
    main_input_name = "pixel_values"
    _no_split_modules = ("Block",)


class VideoViTModel(VideoViTPreTrainedModel):
    """The encoder."""

    def __init__(self, config: VideoViTConfig):
        super().__init__(config)
        kernel = (config.tubelet_size, config.patch_size, config.patch_size)
        side = config.image_size // config.patch_size
        tokens = config.num_frames // config.tubelet_size * side * side
        self.patches = nn.Conv3d(3, config.hidden_size, kernel, kernel)
        positions = torch.zeros(tokens, config.hidden_size)
        if config.learned_positions:
            self.positions = nn.Parameter(positions)
        else:
            self.register_buffer("positions", positions)
        self.blocks = nn.ModuleList([Block(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, output_hidden_states: bool = False, return_dict: bool = True, **kwargs: Any
    ) -> Any:
        """Map normalised pixels [B, frames, 3, height, width] to tokens [B, N, width], by time, row and column."""
        shape, config = tuple(pixel_values.shape[1:]), self.config
        wanted = (config.num_frames, 3, config.image_size, config.image_size)
        if shape != wanted:
            raise ValueError(f"pixel_values must be [B, {', '.join(map(str, wanted))}]; got {list(pixel_values.shape)}")
        x = self.patches(pixel_values.transpose(1, 2)).flatten(2).transpose(1, 2) + self.positions
        states = [x]
        for block in self.blocks:
            x = block(x)
            states.append(x)
        x = self.norm(x)
        if not return_dict:
            return (x, *((tuple(states),) if output_hidden_states else ()))
        return BaseModelOutput(last_hidden_state=x, hidden_states=tuple(states) if output_hidden_states else None)


class VideoViTForVideoClassification(VideoViTPreTrainedModel):
    """The encoder with a linear classifier of its tokens' mean."""

    def __init__(self, config: VideoViTConfig):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.encoder = VideoViTModel(config)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(
        self, pixel_values: torch.Tensor, labels: torch.Tensor | None = None, return_dict: bool = True, **kwargs: Any
    ) -> Any:
        """Map normalised pixels [B, frames, 3, height, width] to logits [B, classes]; labels int64 [B]."""
        logits = self.classifier(self.encoder(pixel_values).last_hidden_state.mean(1))
        loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
        if not return_dict:
            return (logits,) if loss is None else (loss, logits)
        return ImageClassifierOutput(loss=loss, logits=logits)
