"""Loading of a V-JEPA 2 classifier: from the hub, a local folder, or with random weights."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import nn

from fastvid.models.pixel_statistics import pixel_statistics
from fastvid.models.pretrained import Parts, load_pretrained, open_config

if TYPE_CHECKING:  # transformers takes seconds, and the options of a run are read without it
    from transformers import VJEPA2Config

    from fastvid.projects.vjepa2.model import VJepa2Classifier

log = logging.getLogger(__name__)

VITL_SSV2 = "facebook/vjepa2-vitl-fpc16-256-ssv2"

# A head can be drawn, and the predictor is not used.
_PARTS = Parts(
    may_lack=("classifier.", "vjepa2.predictor."), advice=f"use a fine-tuned V-JEPA 2 classifier such as {VITL_SSV2}"
)


def load_vjepa2(
    source: str = VITL_SSV2,
    *,
    classes: int | Sequence[str],
    frames: int | None = None,
    size: int | None = None,
    init: Literal["pretrained", "tiny"] = "pretrained",
    init_seed: int = 0,
    head_seed: int = 0,
    keep_head: bool = False,
) -> "VJepa2Classifier":
    """Open a V-JEPA 2 video classifier in float32, all of it trainable.

    The head is kept if it is for the same classes, and drawn anew otherwise (said in the log). Code of the source
    is never executed, and weights are read from safetensors only. Pixels are normalised by the source's own processor
    where it has one, by ImageNet's statistics otherwise. What is drawn depends on the two seeds alone, and torch's
    generators are afterwards as they were.

    Args:
        source: hub name or local folder with ``config.json`` and ``model.safetensors``; unused with ``init="tiny"``.
        classes: names of the head's classes, at least 2; or their number: then any head for as many is for the same.
        frames: per clip; None for the source's own (16 with ``"tiny"``). Rotary positions take any number of tubelets.
        size: side of a frame in pixels, likewise; None for the source's own (64 with ``"tiny"``).
        init: ``"pretrained"``, or ``"tiny"`` for a small model with random weights.
        init_seed: of a tiny model's encoder and pooler, which are the same for any number of classes; and of an unused
            predictor that the source lacks.
        head_seed: of a head that is drawn; a tiny model's always is.
        keep_head: refuse a source whose head is not for these classes, instead of drawing another.

    Raises:
        FileNotFoundError: nothing to open at ``source``.
        OSError: a file that cannot be read.
        ValueError: another model family; damaged files; weights that do not fit or lack any tensor of the encoder or
            the pooler; frames or a size that do not divide; fewer than 2 classes; another ``init``; a head for other
            classes that is to be kept.
    """
    from transformers import VJEPA2ForVideoClassification

    from fastvid.projects.vjepa2.model import VJepa2Classifier

    names = None if isinstance(classes, int) else list(classes)
    num_classes = classes if isinstance(classes, int) else len(classes)
    if num_classes < 2:
        raise ValueError(f"a classifier needs at least 2 classes, got {num_classes}")
    if init == "tiny":
        if keep_head:
            raise ValueError("a tiny model has random weights and no head to keep")
        config: Any = tiny_config(2)  # a head drawn on the way would move all that is drawn after it
        _resize(config, frames or config.frames_per_clip, size or config.crop_size)
        with drawn_from(init_seed):
            model = VJEPA2ForVideoClassification(config)
        _new_head(model, num_classes, head_seed)
        return VJepa2Classifier(model)
    if init != "pretrained":
        raise ValueError(f"unknown init {init!r}: use pretrained or tiny")
    config = open_config(source, {"vjepa2": "V-JEPA 2 video classifiers"})
    _resize(config, frames or config.frames_per_clip, size or config.crop_size)
    with drawn_from(init_seed):
        model, lacking = load_pretrained(VJEPA2ForVideoClassification, source, config=config, parts=_PARTS)
    others = "comes without a head" if "classifier." in lacking else _other_classes(config, num_classes, names)
    if keep_head and others:
        raise ValueError(
            f"{source} {others}, and one for {num_classes} is to be kept: use a checkpoint trained on them"
        )
    if others:
        log.info("%s %s: a new one for %d is drawn", source, others, num_classes)
        _new_head(model, num_classes, head_seed)
    mean, std = pixel_statistics(source)
    return VJepa2Classifier(model, mean=mean, std=std)


def tiny_config(num_classes: int) -> "VJEPA2Config":
    """Return a configuration of 0.5 million parameters on 16 frames of 64 x 64.

    The weights start larger than in a large model: with 0.02 at this width attention is uniform and adds next to
    nothing, and a frozen encoder's tokens would be little more than their own pixels.
    """
    from transformers import VJEPA2Config

    config: Any = VJEPA2Config(
        crop_size=64, frames_per_clip=16, hidden_size=64, num_hidden_layers=4, num_attention_heads=4,
        pred_hidden_size=24, pred_num_hidden_layers=1, pred_num_attention_heads=2, pred_num_mask_tokens=1,
        initializer_range=0.1,
    )  # fmt: skip
    config.num_labels = num_classes
    return config


def _resize(config: Any, frames: int, size: int) -> None:
    tubelet, patch = config.tubelet_size, config.patch_size
    if frames < 1 or size < 1 or frames % tubelet or size % patch:
        raise ValueError(
            f"{frames} frames of {size} x {size} do not divide into tubelets of {tubelet} x {patch} x {patch}"
        )
    config.frames_per_clip, config.crop_size = frames, size


def _other_classes(config: Any, num_classes: int, classes: list[str] | None) -> str:
    """Explain why a head is not for these classes; return an empty string if it is."""
    if config.num_labels != num_classes:
        return f"has a head for {config.num_labels} classes"
    named = [config.id2label[i] for i in range(num_classes)]
    return "" if classes is None or named == classes else f"has a head for other classes ({named[0]}, ...)"


def _new_head(model: Any, num_classes: int, seed: int) -> None:
    with drawn_from(seed):
        head = nn.Linear(model.config.hidden_size, num_classes)
        nn.init.trunc_normal_(head.weight, std=model.config.initializer_range)
    nn.init.zeros_(head.bias)
    model.classifier = head
    model.config.num_labels = model.num_labels = num_classes


@contextlib.contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Draw inside the block from the seed alone, and restore the CPU's generator afterwards."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would touch the GPUs' generators
        yield
