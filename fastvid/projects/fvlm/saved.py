"""The model that a run saves, with its tokenizer and all that is needed to build it again."""

import dataclasses
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.files import naming, write_whole
from fastvid.models.pretrained import load_pretrained
from fastvid.models.weight_files import first_line
from fastvid.projects.fvlm.encoder import VisionEncoder
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.open_model import ENCODERS
from fastvid.projects.fvlm.output import Output
from fastvid.projects.fvlm.timm_vit import ALWAYS, TimmEncoder
from fastvid.report.records import read_json
from fastvid.video import probe

if TYPE_CHECKING:
    from fastvid.projects.fvlm.caption import VideoAnswer

# Options of what a model was made of, which a model that goes on from it keeps.
_ORIGIN = (
    "init",
    "encoder",
    "language",
    "tiny_width",
    "tiny_layers",
    "tiny_encoder_layers",
    "tiny_heads",
    "tiny_patch",
)

log = logging.getLogger(__name__)

FILE, WEIGHTS = "fvlm.json", "model.safetensors"
_ENCODER, _LANGUAGE, _TOKENIZER = "encoder", "language", "tokenizer"  # folders, as transformers saves each


class TrainedFvlm(nn.Module):
    """A trained model with its tokenizer and what is known of it, in eval mode.

    Attributes:
        model: the model.
        tokenizer: a Hugging Face tokenizer.
        about: what the run says of it, such as the frames of a clip and their size.
    """

    def __init__(self, model: FoveatedVLM, tokenizer: Any, about: dict[str, Any]):
        super().__init__()
        self.model, self.tokenizer, self.about = model, tokenizer, about

    def forward(self, inputs: Inputs, **options: Any) -> Output:
        """Predict the learnt tokens; see :class:`fastvid.projects.fvlm.model.FoveatedVLM`."""
        said: Output = self.model(inputs, **options)
        return said

    def ask(
        self, video: str | Path, question: str | None = None, *, mode: str | None = None, tokens: int = 64
    ) -> "VideoAnswer":
        """Answer a question about a video file; see :func:`fastvid.projects.fvlm.caption.caption`.

        Example:
            >>> model = fastvid.load("runs/fvlm-...")
            >>> answer = model.ask("clip.mp4", "Read the tile that is red")
            >>> for words in answer:
            ...     print(words, end="")
            >>> answer.write_gaze(Path("gaze.mp4"))
        """
        from fastvid.projects.fvlm.caption import caption

        data = Path(video).expanduser().read_bytes()
        return caption(self, data, probe(data), question=question, mode=mode, tokens=tokens)


def save(folder: Path, model: FoveatedVLM, tokenizer: Any, about: dict[str, Any]) -> None:
    """Write a model into a folder: weights, configurations and tokenizer, without anything of where it came from.

    What is transformers' own is written by transformers: in a model its layers are named otherwise from version to
    version, in a folder they are not.

    Args:
        folder: made if it is not there.
        model: the model.
        tokenizer: its tokenizer.
        about: plain values for JSON, returned by :func:`load`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder, language = model.encoder, model.language.model
    fields: dict[str, Any] = {
        "model": dataclasses.asdict(model.config),
        "token_scale": model.connector.token_scale,
        "mean": encoder.mean,
        "std": encoder.std,
        "about": about,
    }
    if isinstance(encoder, TimmEncoder):
        size = list(encoder.model.patch_embed.img_size)
        fields["timm"] = {"name": encoder.name, "arguments": {**encoder.arguments, "img_size": size}}
    else:
        encoder.model.save_pretrained(folder / _ENCODER)
    language.save_pretrained(folder / _LANGUAGE)
    tokenizer.save_pretrained(folder / _TOKENIZER)
    elsewhere = tuple(_saved_apart(model))
    weights = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if not n.startswith(elsewhere)}
    with naming(folder / WEIGHTS):
        save_file(weights, folder / WEIGHTS)
    write_whole(folder / FILE, (json.dumps(fields, indent=1) + "\n").encode())


def load(folder: Path, *, source: str | None = None) -> TrainedFvlm:
    """Load a model that :func:`save` wrote, on the CPU.

    Args:
        folder: with ``fvlm.json``.
        source: must be None: a model is saved whole.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the files are damaged, or of another version; or a ``source``.
    """
    if source is not None:
        raise ValueError("a model of fvlm is saved whole: it has no other model as its source")
    folder = Path(folder)
    fields = read_json(folder / FILE)
    if fields is None:
        raise FileNotFoundError(f"no trained model in {folder}: it has no {FILE}")
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        language = _transformers_model(AutoModelForCausalLM, folder / _LANGUAGE)
        language.set_attn_implementation("sdpa")
        model = FoveatedVLM(
            ModelConfig(**fields["model"]), _encoder(folder, fields), LanguageModel(language), fields["token_scale"]
        )
        weights = load_file(folder / WEIGHTS)
        lacking, unexpected = model.load_state_dict(weights, strict=False)
        missing = sorted(set(lacking) - _tied(model) - _loaded(model, folder))
        if missing or unexpected:
            raise ValueError(f"{WEIGHTS} lacks {missing[:3]} or has {sorted(unexpected)[:3]} more")
        tokenizer = AutoTokenizer.from_pretrained(folder / _TOKENIZER)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the model in {folder} is damaged, or of another version of fastvid: {first_line(error)}"
        ) from error
    return TrainedFvlm(model, tokenizer, fields["about"]).eval()


def go_on(config: ModelConfig, folder: Path, size: int) -> tuple[FoveatedVLM, Any]:
    """Open a saved model to train it further, with its tokenizer.

    What the saved one has not, such as marks, starts at random; what the new one has not is left out. The log says so.

    Args:
        config: options of the new one; those that say where a model comes from, or how small it is, are passed over for
            the saved one's.
        folder: with ``fvlm.json``.
        size: side of a frame in pixels.

    Raises:
        FileNotFoundError: there is none.
        ValueError: the files are damaged, or of another version; frames that are smaller than a patch.
    """
    found = load(folder)
    old = found.model.requires_grad_(True)
    config = dataclasses.replace(config, **{name: getattr(old.config, name) for name in _ORIGIN})
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.init_seed)
        scale = config.token_scale or old.connector.token_scale
        model = FoveatedVLM(config, old.encoder, old.language, scale)
    new, left = model.connector.load_state_dict(old.connector.state_dict(), strict=False)
    for names, words in ((new, "starts at random, as the model gone on from has none"), (left, "is left out")):
        if names:
            log.info("%s: %s %s", folder, ", ".join(names), words)
    model.encoder.patches(size, size)
    return model, found.tokenizer


def _encoder(folder: Path, fields: dict[str, Any]) -> VisionEncoder:
    """Open the encoder; one of timm has random weights."""
    mean, std = tuple(fields["mean"]), tuple(fields["std"])
    if "timm" in fields:
        import timm

        name, arguments = fields["timm"]["name"], fields["timm"]["arguments"]
        return TimmEncoder(timm.create_model(name, **ALWAYS, **arguments), name, arguments, mean, std)
    from transformers import AutoModel

    model = _transformers_model(AutoModel, folder / _ENCODER)
    encoder: VisionEncoder = ENCODERS[model.config.model_type](model, mean, std)
    return encoder


def _transformers_model(model_class: Any, folder: Path) -> Any:
    """Open what transformers saved; with random weights where an older run has them in ``model.safetensors``."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder)
    if not _has_weights(folder):
        return model_class.from_config(config)
    model, _ = load_pretrained(model_class, str(folder), config=config)
    return model


def _has_weights(folder: Path) -> bool:
    return any(folder.glob("*.safetensors"))


def _saved_apart(model: FoveatedVLM) -> dict[str, str]:
    """Return the folder of each part that transformers saves, by the prefix of its tensors."""
    language = {"language.model.": _LANGUAGE}
    return language if isinstance(model.encoder, TimmEncoder) else {"encoder.model.": _ENCODER, **language}


def _loaded(model: FoveatedVLM, folder: Path) -> set[str]:
    """Return the names of the tensors that transformers has loaded from its own files."""
    there = tuple(prefix for prefix, name in _saved_apart(model).items() if _has_weights(folder / name))
    return {name for name in model.state_dict() if name.startswith(there)} if there else set()


def _tied(model: FoveatedVLM) -> set[str]:
    """Return the names under which a tensor appears a second time, such as the output layer's where it is the
    embeddings."""
    seen: set[int] = set()
    tied = set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            tied.add(name)
        seen.add(id(tensor))
    return tied
