"""A trained classifier as a folder: ``classifier.json``, and ``trained.safetensors`` with what was trained, alone.

What was not trained is read again from where it came from, and must be what it was.
"""

import dataclasses
import hashlib
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from safetensors.torch import load as tensors_from
from safetensors.torch import save as bytes_of
from torch import nn

import fastvid
from fastvid.files import write_whole
from fastvid.models.fingerprint import tensors_hash
from fastvid.models.pretrained import Parts, check_fit, compare
from fastvid.projects.vjepa2.approach import LoraSettings, apply_approach
from fastvid.projects.vjepa2.load import drawn_from, load_vjepa2
from fastvid.projects.vjepa2.metadata import ClassifierMetadata
from fastvid.projects.vjepa2.model import VJepa2Classifier
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)

_ABOUT, _WEIGHTS, _ADAPTER = "classifier.json", "trained.safetensors", "adapter"

# peft's names of what it wraps, left out: names are the original's, those of adapters what follows it.
_WRAPPERS = (".base_layer", ".modules_to_save.default", ".default")


class TrainedClassifier(nn.Module):
    """A classifier to be used: in eval mode for good, without gradients, with all that it takes to feed it.

    Attributes:
        model: the classifier.
        classes: names; the logits' order.
        about: where it comes from, and how it was evaluated.
        views: the clips it was evaluated on: ``views.center(key, info)`` is a video's.
    """

    def __init__(self, model: VJepa2Classifier, about: ClassifierMetadata):
        super().__init__()
        self.model, self.about, self.classes = model, about, list(about.classes)
        self.views: ViewSpec = about.views
        self.requires_grad_(False)
        self.eval()

    def train(self, mode: bool = True) -> "TrainedClassifier":
        """Do nothing: a trained classifier stays in eval mode."""
        return super().train(False)

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        """Map clips uint8 [B, T, H, W, 3] on the model's device to logits [B, classes].

        Raises:
            ValueError: not such clips, or of another length or size than ``views``'.
        """
        if clips.dtype != torch.uint8 or clips.ndim != 5:
            raise ValueError(f"clips are uint8 [B, T, H, W, 3]; got {clips.dtype} {list(clips.shape)}")
        logits: torch.Tensor = self.model(clips)
        return logits

    def probabilities(self, views: torch.Tensor) -> torch.Tensor:
        """Map views uint8 [V, T, H, W, 3] on any device to float32 [V, classes] on the model's, with rows that sum
        to 1.
        """
        logits: torch.Tensor = self(views.to(self.model.hf.classifier.weight.device))
        return logits.float().softmax(-1)


def save_classifier(folder: str | Path, model: VJepa2Classifier, about: ClassifierMetadata) -> ClassifierMetadata:
    """Write what was trained, and with LoRA ``adapter/`` in peft's own format as well.

    Each file appears complete or not at all. Over an older classifier: a reader gets the old one or the new one, or
    waits; if the writing is cut off between the two files, it is refused.

    Args:
        folder: made if it is not there.
        model: with an approach, in float32; on any device.
        about: its first fields; the others are taken from the model. A ``frozen`` that is given is believed: pass the
            one returned by an earlier call for the same model, and the frozen weights are not hashed again.

    Returns:
        ``about`` with every field filled in.

    Raises:
        ValueError: no approach, another number of classes than the model's, or weights that are not float32.
    """
    config = model.hf.config
    if model.approach is None:
        raise ValueError("this model has no approach: apply_approach says which of its weights are trained and saved")
    if config.num_labels != len(about.classes):
        raise ValueError(f"{len(about.classes)} classes are named, and the model has {config.num_labels}")
    trained, frozen = _parts(model)
    if odd := sorted({str(t.dtype) for t in (*trained.values(), *frozen.values())} - {"torch.float32"}):
        raise ValueError(f"a classifier is saved in float32; this one has weights in {', '.join(odd)}")
    weights = bytes_of({name: tensor.detach().cpu().contiguous() for name, tensor in trained.items()})
    folder = Path(folder)
    about = dataclasses.replace(
        about,
        source=_absolute_source(about), approach=model.approach, lora=_lora(model),
        views=dataclasses.replace(about.views, frames=config.frames_per_clip, size=config.crop_size),
        mean=model.mean, std=model.std, frozen=about.frozen or tensors_hash(frozen),
        trained=hashlib.sha256(weights).hexdigest(),
        fastvid=fastvid.__version__, transformers=transformers.__version__,
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    if about.lora is not None:
        model.save_adapter(folder / _ADAPTER)
    write_whole(folder / _WEIGHTS, weights)
    write_whole(folder / _ABOUT, about.to_json().encode())
    return about


def load_classifier(folder: str | Path, *, source: str | None = None) -> TrainedClassifier:
    """Read a classifier that :func:`save_classifier` wrote, on the CPU.

    Args:
        folder: with ``classifier.json``.
        source: where the untrained model is now, if it was moved; it must be the same.

    Raises:
        FileNotFoundError: the folder holds no classifier.
        OSError: the untrained model cannot be opened.
        ValueError: damaged files, files that do not belong together, or another untrained model than it was trained on.
    """
    folder = Path(folder)
    about, weights = _read(folder)
    head = weights.get("classifier.weight")
    if head is not None and len(head) != len(about.classes):
        raise ValueError(f"{folder / _ABOUT} names {len(about.classes)} classes, and the weights are for {len(head)}")
    opened = source or about.source
    model = load_vjepa2(
        opened, classes=len(about.classes), frames=about.views.frames, size=about.views.size,
        init=about.init, init_seed=about.init_seed,
    )  # fmt: skip
    with drawn_from(0):  # adapters are drawn, and replaced at once
        apply_approach(model, about.approach, about.lora or LoraSettings())
    trained, frozen = _parts(model)
    odd = compare({name: tensor.shape for name, tensor in weights.items()}, trained)
    check_fit(str(folder / _WEIGHTS), odd, trained, Parts(advice=f"they are not those of the approach in {_ABOUT}"))
    if tensors_hash(frozen) != about.frozen:
        drawn = f"init_seed {about.init_seed}, drawn by this torch and transformers" if about.init == "tiny" else opened
        raise ValueError(
            f"the weights that {folder} was trained on top of are not those of {drawn}: they have changed since, or it "
            "is another model"
        )
    with torch.no_grad():
        for name, tensor in trained.items():
            tensor.copy_(weights[name])
    model.mean, model.std = about.mean, about.std
    name_classes(model, about.classes)
    log.info("loaded the classifier in %s: %d trained tensors (sha256 %s)", folder, len(weights), about.trained)
    return TrainedClassifier(model, about)


def name_classes(model: VJepa2Classifier, classes: Sequence[str]) -> None:
    """Write the classes' names into the transformers configuration, which travels with what transformers saves.

    Raises:
        ValueError: another number of names than of the head's outputs.
    """
    config = model.hf.config
    if len(classes) != config.num_labels:
        raise ValueError(f"{len(classes)} classes are named, and the model has {config.num_labels}")
    config.id2label = dict(enumerate(classes))
    config.label2id = {name: index for index, name in enumerate(classes)}


def frozen_hash(model: VJepa2Classifier) -> str:
    """Return sha256 of all weights that do not train; of those, a classifier does not use the predictor's."""
    return tensors_hash(_parts(model)[1])


def _parts(model: VJepa2Classifier) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Return (what trains, what is frozen), each under the original's names; without what a classifier does not use."""
    trains = {_plain(name) for name, parameter in model.hf.named_parameters() if parameter.requires_grad}
    used = {
        _plain(name): tensor
        for name, tensor in model.hf.state_dict().items()
        if ".original_module." not in name and not name.startswith("vjepa2.predictor.")
    }
    return {n: t for n, t in used.items() if n in trains}, {n: t for n, t in used.items() if n not in trains}


def _absolute_source(about: ClassifierMetadata) -> str:
    """Return the source, a local folder as an absolute path."""
    local = about.init == "pretrained" and Path(about.source).expanduser().is_dir()
    return str(Path(about.source).expanduser().resolve()) if local else about.source


def _plain(name: str) -> str:
    for wrapper in _WRAPPERS:
        name = name.replace(f"{wrapper}.", ".")
    return name


def _lora(model: VJepa2Classifier) -> LoraSettings | None:
    if not model.adapted:
        return None
    config: Any = model.model.peft_config["default"]
    return LoraSettings(config.r, config.lora_alpha, config.lora_dropout)


def _read(folder: Path, tries: int = 5) -> tuple[ClassifierMetadata, dict[str, torch.Tensor]]:
    """Return both files of one classifier, though another may be written over it in the meantime."""
    for name in (_ABOUT, _WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"no classifier in {folder}: {name} is missing")
    about = ClassifierMetadata.from_json((folder / _ABOUT).read_bytes(), folder / _ABOUT)
    content = (folder / _WEIGHTS).read_bytes()
    if hashlib.sha256(content).hexdigest() != about.trained:
        if tries > 1:
            time.sleep(0.1)
            return _read(folder, tries - 1)
        raise ValueError(
            f"{folder / _WEIGHTS} is not the file that {_ABOUT} was written for: it is damaged, or its writing was cut "
            "off; continue the run, or train it again"
        )
    try:
        return about, tensors_from(content)
    except SafetensorError as error:
        raise ValueError(f"{folder / _WEIGHTS} is damaged: {error}") from error
