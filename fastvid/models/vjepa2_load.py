"""Where a V-JEPA 2 classifier comes from: the hub, a local folder, or random weights."""

import logging
from typing import Any, Literal

import torch
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, VJEPA2Config, VJEPA2ForVideoClassification

from fastvid.models.teachers import pixel_statistics
from fastvid.models.vjepa2 import VJepa2Classifier

log = logging.getLogger(__name__)

VITL_SSV2 = "facebook/vjepa2-vitl-fpc16-256-ssv2"


def load_vjepa2(
    source: str = VITL_SSV2,
    *,
    num_classes: int,
    frames: int | None = None,
    size: int | None = None,
    init: Literal["pretrained", "tiny"] = "pretrained",
) -> VJepa2Classifier:
    """Opens a V-JEPA 2 video classifier in float32, all of it trainable.

    The head is kept if it has ``num_classes`` outputs, and drawn anew otherwise (said in the log). Code of the source
    is never executed, and weights are read from safetensors only. Pixels are normalised by the source's own processor
    where it has one, by ImageNet's statistics otherwise.

    Args:
        source: hub name or local folder with ``config.json`` and ``model.safetensors``; unused with ``init="tiny"``.
        num_classes: of the head, at least 2.
        frames: per clip; None for the source's own (16 with ``"tiny"``). Rotary positions take any number of tubelets.
        size: side of a frame in pixels, likewise; None for the source's own (64 with ``"tiny"``).
        init: ``"pretrained"``, or ``"tiny"`` for a small model with random weights.

    Raises:
        OSError: nothing to open at ``source``, or a damaged file of weights.
        ValueError: another model family; weights that do not fit or lack the encoder or the pooler; frames or a size
            that do not divide; fewer than 2 classes; another ``init``.
    """
    if num_classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes, got {num_classes}")
    if init == "tiny":
        config = tiny_config(num_classes)
        _resize(config, frames or config.frames_per_clip, size or config.crop_size)
        return VJepa2Classifier(VJEPA2ForVideoClassification(config))
    if init != "pretrained":
        raise ValueError(f"unknown init {init!r}: use pretrained or tiny")
    config = _config(source)
    _resize(config, frames or config.frames_per_clip, size or config.crop_size)
    model = _pretrained(source, config)
    if config.num_labels != num_classes:
        log.info("%s has a head for %d classes: a new one for %d is drawn", source, config.num_labels, num_classes)
        _new_head(model, num_classes)
    mean, std = pixel_statistics(source)
    return VJepa2Classifier(model, mean=mean, std=std)


def tiny_config(num_classes: int) -> VJEPA2Config:
    """0.5 million parameters on 16 frames of 64 x 64.

    The weights start larger than in a large model: with 0.02 at this width attention is uniform and adds next to
    nothing, and a frozen encoder's tokens would be little more than their own pixels.
    """
    config: Any = VJEPA2Config(
        crop_size=64, frames_per_clip=16, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2, pred_num_mask_tokens=1,
        initializer_range=0.1,
    )  # fmt: skip
    config.num_labels = num_classes
    return config


def _config(source: str) -> Any:
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except OSError as error:
        raise OSError(
            f"no V-JEPA 2 model at {source!r}: it must be a folder with config.json and model.safetensors, or a name "
            f"that the hub (or its cache here) knows: {_first_line(error)}"
        ) from error
    except ValueError as error:
        raise ValueError(f"{source!r} is no V-JEPA 2 model that transformers can open: {_first_line(error)}") from error
    if config.model_type != "vjepa2":
        raise ValueError(f"{source!r} is a {config.model_type} model; a V-JEPA 2 video classifier is needed")
    return config


def _resize(config: Any, frames: int, size: int) -> None:
    tubelet, patch = config.tubelet_size, config.patch_size
    if frames < 1 or size < 1 or frames % tubelet or size % patch:
        raise ValueError(
            f"{frames} frames of {size} x {size} do not divide into tubelets of {tubelet} x {patch} x {patch}"
        )
    config.frames_per_clip, config.crop_size = frames, size


def _pretrained(source: str, config: Any) -> Any:
    try:
        loaded: Any = VJEPA2ForVideoClassification.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True, output_loading_info=True
        )
    except (OSError, SafetensorError) as error:
        raise OSError(f"the weights of {source!r} cannot be opened: {_first_line(error)}") from error
    except RuntimeError as error:
        raise ValueError(f"the weights of {source!r} do not fit its config.json: {_first_line(error)}") from error
    model, found = loaded
    # A head can be drawn, and the predictor is not used.
    absent = sorted(n for n in found["missing_keys"] if not n.startswith(("classifier.", "vjepa2.predictor.")))
    if absent:
        raise ValueError(
            f"{source!r} lacks {len(absent)} of a V-JEPA 2 classifier's weights ({absent[0]}, ...): use a fine-tuned "
            f"classifier such as {VITL_SSV2}"
        )
    if "classifier.weight" in found["missing_keys"]:
        log.info("%s comes without a head: a new one is drawn", source)
    return model


def _new_head(model: Any, num_classes: int) -> None:
    head = nn.Linear(model.config.hidden_size, num_classes)
    nn.init.trunc_normal_(head.weight, std=model.config.initializer_range)
    nn.init.zeros_(head.bias)
    model.classifier = head
    model.config.num_labels = model.num_labels = num_classes


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
