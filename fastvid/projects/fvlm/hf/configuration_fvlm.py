"""Configuration of a vision-language model that looks: each frame of a video is one token, read by a query."""

from typing import Any

from transformers import AutoConfig, PretrainedConfig


class FoveatedVisionConfig(PretrainedConfig):
    """The vision transformer: DINOv2, DINOv3, or a plain one of timm, in one form.

    Attributes:
        hidden_size: width of its tokens.
        num_hidden_layers: layers.
        num_attention_heads: heads of each.
        intermediate_size: width inside of a layer's hidden part.
        patch_size: side of a patch, pixels.
        prefix_tokens: tokens in front of the patches, such as the class token.
        grid: rows and columns of learnt positions, or None for rotary ones.
        antialias: whether learnt positions are smoothed when they are resized to a smaller grid.
        rotary_base: base of the rotary positions' frequencies.
        hidden_act: activation, by transformers' name.
        gated: whether the hidden part is gated, as in SwiGLU.
        head_norm: whether each head's queries and keys are normalised.
        input_norm: whether tokens are normalised in front of the first layer.
        final_norm: whether they are behind the last.
        layer_norm_eps: of all norms.
    """

    model_type = "fvlm_vision"

    hidden_size = 384
    num_hidden_layers = 12
    num_attention_heads = 6
    intermediate_size = 1536
    patch_size = 14
    prefix_tokens = 1
    grid: Any = (16, 16)
    antialias = False
    rotary_base = 100.0
    hidden_act = "gelu"
    gated = False
    head_norm = False
    input_norm = False
    final_norm = True
    layer_norm_eps = 1e-6


class FoveatedVLMConfig(PretrainedConfig):
    """The whole model.

    Args:
        text_config: of the causal language model.
        vision_config: of the vision transformer.

    Attributes:
        mode: how frames are read. ``coarse``: each with one learnt query. ``parallel``: then once more with queries
            that the language model predicts from the coarse tokens. ``stream``: frame by frame, each query predicted
            from what was read before.
        iterations: fine passes of ``parallel``.
        query: ``deep``: a query passes through every layer; ``shallow``: it reads the finished patches once.
        first_query: ``text``: the first frame's query is predicted from the text in front; ``learnt``: one for all.
        token_scale: constant factor of visual tokens.
        aim: ``text``: queries are predicted from the text in front and the frames so far; ``frames``: from the frames
            alone, in a sequence of their own.
        frame_token_id: the token that stands where a frame is read. It is never said.
        mark_token_id: the one in front of the frames, which is learnt for each kind of pass; None for none.
    """

    model_type = "fvlm"
    sub_configs = {"text_config": AutoConfig, "vision_config": FoveatedVisionConfig}  # noqa: RUF012 as transformers has it
    keys_to_ignore_at_inference = ["past_key_values", "cache"]  # noqa: RUF012

    mode = "stream"
    iterations = 1
    query = "deep"
    first_query = "text"
    token_scale = 0.14
    aim = "text"
    frame_token_id = 0
    mark_token_id: Any = None

    def __init__(self, text_config: Any = None, vision_config: Any = None, **kwargs: Any):
        if text_config is None:
            text_config = {"model_type": "llama"}
        if isinstance(text_config, dict):
            text_config = AutoConfig.for_model(**text_config)
        if not isinstance(vision_config, PretrainedConfig):
            vision_config = FoveatedVisionConfig(**(vision_config or {}))
        self.text_config, self.vision_config = text_config, vision_config
        super().__init__(**kwargs)
