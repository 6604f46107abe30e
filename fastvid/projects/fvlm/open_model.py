"""Opening of the parts of a model: from the Hugging Face hub, from a local folder, or at random."""

from collections.abc import Iterable
from typing import Any

import torch

from fastvid.models.pixel_statistics import pixel_statistics
from fastvid.models.pretrained import IMAGE_ENCODERS, load_pretrained, load_timm, open_config
from fastvid.models.weight_files import find_file, first_line, local_or_hub, read_json
from fastvid.projects.fvlm.dinov2 import Dinov2Encoder
from fastvid.projects.fvlm.dinov3 import Dinov3Encoder
from fastvid.projects.fvlm.encoder import VisionEncoder
from fastvid.projects.fvlm.language import LanguageModel
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_config import ModelConfig
from fastvid.projects.fvlm.timm_vit import ALWAYS, TimmEncoder
from fastvid.projects.fvlm.tiny import tiny_model
from fastvid.projects.fvlm.tokenizer import word_tokenizer

TIMM = "timm:"
ENCODERS: dict[str, Any] = {
    "dinov2": Dinov2Encoder,
    "dinov2_with_registers": Dinov2Encoder,
    "dinov3_vit": Dinov3Encoder,
}
"""The encoder of each of Hugging Face's model types."""


def open_model(config: ModelConfig, *, size: int, texts: Iterable[str]) -> tuple[FoveatedVLM, Any]:
    """Open a model and its tokenizer, on the CPU in float32.

    Args:
        config: options.
        size: side of a frame in pixels.
        texts: of the training data; read by ``init="tiny"`` alone, for the words of its tokenizer.

    Raises:
        FileNotFoundError: nothing to open.
        ValueError: files that are damaged or do not fit; a language model whose tokenizer is another model's; frames
            that are smaller than a patch.
        OSError: a file that cannot be read.
    """
    if config.init == "tiny":
        tokenizer = word_tokenizer(texts)
        model = tiny_model(config, len(tokenizer), size)
    else:
        tokenizer = open_tokenizer(config.language)
        language = open_language(config.language)
        check_tokenizer(tokenizer, language, config.language)
        scale = config.token_scale or float(language.embeddings.detach().std())
        encoder = open_encoder(config.encoder)
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(config.init_seed)
            model = FoveatedVLM(config, encoder, language, scale)
    model.encoder.patches(size, size)
    return model, tokenizer


def open_encoder(source: str) -> VisionEncoder:
    """Open a pretrained encoder.

    Args:
        source: ``timm:`` and a timm name, a local folder, or a name on the Hugging Face hub; the two may also hold what
            timm saved.
    """
    if source.startswith(TIMM):
        name = source.removeprefix(TIMM)
        return TimmEncoder(load_timm(name, **ALWAYS), name)
    path = find_file(source, "config.json")
    fields = {} if path is None else read_json(path)
    if "architecture" in fields and "model_type" not in fields:
        return _timm_of(source, fields)
    from transformers import AutoModel

    config = open_config(source, IMAGE_ENCODERS)
    model, _ = load_pretrained(AutoModel, source, config=config)
    mean, std = pixel_statistics(source)
    encoder: VisionEncoder = ENCODERS[config.model_type](model, mean, std)
    return encoder


def _timm_of(source: str, fields: dict[str, Any]) -> TimmEncoder:
    """Open a model that timm saved, in a folder or on the hub.

    Args:
        source: the folder or the hub name.
        fields: its config.json.
    """
    name, arguments = str(fields["architecture"]), dict(fields.get("model_args") or {})
    shown = fields.get("pretrained_cfg") or {}
    try:
        model = load_timm(name, weights=source, **ALWAYS, **arguments)
    except (RuntimeError, TypeError) as error:  # of a name that timm does not know, or of its arguments
        raise ValueError(f"timm cannot build the model of {source!r}: {first_line(error)}") from error
    mean, std = (tuple(shown[key]) if key in shown else None for key in ("mean", "std"))
    return TimmEncoder(model, name, arguments, mean, std)


def open_language(source: str) -> LanguageModel:
    """Open a pretrained causal language model.

    Args:
        source: a local folder, or a name on the Hugging Face hub.
    """
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    config = open_config(source, dict.fromkeys(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, ""), "causal language models")
    model, _ = load_pretrained(AutoModelForCausalLM, source, config=config)
    try:
        model.set_attn_implementation("sdpa")
        language = LanguageModel(model)
        language.check()
    except ValueError as error:
        raise ValueError(f"{source!r} cannot read visual tokens: {first_line(error)}") from error
    return language


def open_tokenizer(source: str) -> Any:
    """Open a language model's tokenizer. Whether it can chat, :class:`fastvid.data.ChatFormat` says.

    Args:
        source: a local folder, or a name on the Hugging Face hub.
    """
    from transformers import AutoTokenizer

    if find_file(source, "tokenizer.json") is None and find_file(source, "tokenizer_config.json") is None:
        raise FileNotFoundError(f"no tokenizer at {source!r}: it has no tokenizer.json; save the model's beside it")
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(local_or_hub(source), trust_remote_code=False)
    except OSError:
        raise
    except Exception as error:  # of any type: its files are not checked as a whole
        raise ValueError(f"the tokenizer of {source!r} cannot be opened: {first_line(error)}") from error
    return tokenizer


def check_tokenizer(tokenizer: Any, language: LanguageModel, source: str) -> None:
    """Raise ValueError unless a tokenizer can be this language model's."""
    rows, most = len(language.embeddings), max(tokenizer.get_vocab().values())
    if most >= rows:
        raise ValueError(
            f"the tokenizer of {source!r} does not belong to its model: it has token {most}, and the model embeds "
            f"{rows} tokens"
        )
    ends = language.ends
    if ends and tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ends:
        raise ValueError(
            f"the tokenizer of {source!r} does not belong to its model: its end token {tokenizer.eos_token!r} is "
            f"number {tokenizer.eos_token_id}, and the model's is {' or '.join(map(str, sorted(ends)))}"
        )
