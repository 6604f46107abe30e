"""The model that a run saves, with its tokenizer and all that is needed to build it again."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import load_file, save_file
from torch import nn

from fastvid.files import naming, write_whole
from fastvid.models.weight_files import first_line
from fastvid.projects.fvlm.encoder import VisionEncoder
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.model import FoveatedVLM, Output
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.open_model import ENCODERS
from fastvid.projects.fvlm.timm_vit import ALWAYS, TimmEncoder
from fastvid.report.records import read_json
from fastvid.video import probe

if TYPE_CHECKING:
    from fastvid.projects.fvlm.caption import VideoAnswer

FILE, WEIGHTS = "fvlm.json", "model.safetensors"
_ENCODER, _LANGUAGE, _TOKENIZER = "encoder", "language", "tokenizer"  # folders of their configurations


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
        encoder.model.config.save_pretrained(folder / _ENCODER)
    language.config.save_pretrained(folder / _LANGUAGE)
    tokenizer.save_pretrained(folder / _TOKENIZER)
    tied = _tied(model)
    weights = {n: t.detach().cpu().contiguous() for n, t in model.state_dict().items() if n not in tied}
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
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        language = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(folder / _LANGUAGE), attn_implementation="sdpa"
        )
        model = FoveatedVLM(
            ModelConfig(**fields["model"]), _encoder(folder, fields), LanguageModel(language), fields["token_scale"]
        )
        tied = _tied(model)
        missing, unexpected = model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        if set(missing) - tied or unexpected:
            raise ValueError(f"{WEIGHTS} lacks {sorted(set(missing) - tied)[:3]} or has {sorted(unexpected)[:3]} more")
        tokenizer = AutoTokenizer.from_pretrained(folder / _TOKENIZER)
    except (OSError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the model in {folder} is damaged, or of another version of fastvid: {first_line(error)}"
        ) from error
    return TrainedFvlm(model, tokenizer, fields["about"]).eval()


def _encoder(folder: Path, fields: dict[str, Any]) -> VisionEncoder:
    """Build an encoder with random weights."""
    mean, std = tuple(fields["mean"]), tuple(fields["std"])
    if "timm" in fields:
        import timm

        name, arguments = fields["timm"]["name"], fields["timm"]["arguments"]
        return TimmEncoder(timm.create_model(name, **ALWAYS, **arguments), name, arguments, mean, std)
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.from_pretrained(folder / _ENCODER)
    encoder: VisionEncoder = ENCODERS[config.model_type](AutoModel.from_config(config), mean, std)
    return encoder


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
