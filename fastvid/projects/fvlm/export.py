"""A trained model as a folder that transformers opens: weights, code, processor and chat template, without fastvid."""

import copy
from pathlib import Path
from typing import Any, get_args

import torch

from fastvid.data import ChatFormat
from fastvid.files import write_whole
from fastvid.names import spelled
from fastvid.projects.exported_folder import exported_folder, share_files
from fastvid.projects.fvlm.export_encoder import export_encoder
from fastvid.projects.fvlm.inputs import Inputs
from fastvid.projects.fvlm.model import FoveatedVLM
from fastvid.projects.fvlm.model_card import model_card
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.saved import TrainedFvlm
from fastvid.video import ViewSpec

FRAME, MARK = "<frame>", "<look>"
"""The tokens that stand where a frame is read, and in front of the frames."""

_FILES = (
    "README.md", "config.json", "generation_config.json", "model*.safetensors", "model.safetensors.index.json",
    "processor_config.json", "chat_template.jinja", "*token*.json", "vocab.*", "merges.txt", "*.model",
    "*_fvlm.py",
)  # fmt: skip

# In front of the language model's own template, which takes texts: a message of several parts becomes one text, with
# the video where it stood in training, whatever the order of the parts.
_TEMPLATE = """\
{%- set flat = namespace(messages=[]) -%}
{%- for message in messages -%}
{%- if message.content is string -%}
{%- set flat.messages = flat.messages + [message] -%}
{%- else -%}
{%- set part = namespace(text='', frame='') -%}
{%- for item in message.content -%}
{%- if item.type == 'text' -%}{%- set part.text = part.text + item.text -%}
{%- elif item.type == 'video' -%}{%- set part.frame = part.frame + 'FRAME' -%}
{%- elif item.type == 'image' -%}{%- set part.frame = part.frame + 'PICTURE' -%}{%- endif -%}
{%- endfor -%}
{%- set text = (part.text | trim) if message.role == 'user' else part.text -%}
{%- set flat.messages = flat.messages + [{'role': message.role, 'content': ORDER}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = flat.messages -%}
"""


def export(
    trained: TrainedFvlm, folder: str | Path, form: str = "hf", *, run: Path | None = None, overwrite: bool = False
) -> Path:
    """Write a folder for ``AutoModelForImageTextToText`` and ``AutoProcessor`` with ``trust_remote_code=True``.

    The folder carries its own code, which needs transformers, PyTorch and Pillow, and PyAV to read video files. What it
    computes is compared with ``trained`` before the folder is given its name.

    Args:
        trained: what to write.
        folder: new or empty.
        form: ``"hf"``, the only one.
        run: directory of the run, for what the model card says of data and results.
        overwrite: replace an earlier export in ``folder``.

    Returns:
        ``folder``, absolute.

    Raises:
        ValueError: no such form, a part of the model that the exported code lacks, or a ``folder`` that is not to be
            written to.
    """
    if form != "hf":
        raise ValueError(f"a model of fvlm is not exported to {form}: use --to hf")
    target = Path(folder).expanduser().resolve()
    tokenizer, chat = copy.deepcopy(trained.tokenizer), ChatFormat(trained.tokenizer, trained.model.config.layout)
    added = [FRAME, MARK] if trained.model.config.marks else [FRAME]
    if taken := [token for token in added if token in tokenizer.get_vocab()]:
        raise ValueError(f"the tokenizer has a token {taken[0]} of its own, which is to stand for a frame or its mark")
    tokenizer.add_special_tokens({"extra_special_tokens": added}, replace_extra_special_tokens=False)
    from fastvid.projects.fvlm.hf.processing_fvlm import PICTURE

    order = f"text + part.{FRAME[1:-1]}" if chat.layout == "question-first" else f"part.{FRAME[1:-1]} + text"
    template = _TEMPLATE.replace("FRAME", FRAME).replace("PICTURE", PICTURE).replace("ORDER", order)
    template += tokenizer.chat_template
    tokenizer.chat_template = template
    tokenizer.padding_side = "left"
    model = _model(trained, tokenizer.convert_tokens_to_ids(added), chat)
    with exported_folder(target, _FILES, overwrite) as partial:
        model.save_pretrained(partial)
        processor = _processor(trained, tokenizer, template)
        processor.save_pretrained(partial)
        check(trained, partial, processor)
        write_whole(partial / "README.md", spelled(model_card(trained, run)).encode())
        share_files(partial)
    return target


def _model(trained: TrainedFvlm, added: list[int], chat: ChatFormat) -> Any:
    """Return the exported model, with the weights of the trained one.

    Args:
        trained: the model.
        added: ids of the frame token and, with marks, of the mark.
        chat: its chat format.
    """
    from transformers import GenerationConfig

    from fastvid.projects.fvlm.hf.configuration_fvlm import FoveatedVisionConfig, FoveatedVLMConfig
    from fastvid.projects.fvlm.hf.modeling_fvlm import FoveatedVLMForConditionalGeneration

    source, options = trained.model, trained.model.config
    fields, weights = export_encoder(source.encoder)
    language = copy.deepcopy(source.language.model.config)
    # These tokens have rows, so that whatever counts tokens finds them; they are never said, their rows never read.
    language._name_or_path = ""  # a folder of this machine
    language.vocab_size = max(len(source.language.embeddings), *(token + 1 for token in added))
    config = FoveatedVLMConfig(
        text_config=language, vision_config=FoveatedVisionConfig(**fields), mode=trained.about["mode"],
        iterations=options.iterations, query=options.query, first_query=options.first_query,
        aim=options.aim, token_scale=source.connector.token_scale, frame_token_id=added[0],
        mark_token_id=added[1] if options.marks else None, tie_word_embeddings=language.tie_word_embeddings,
    )  # fmt: skip
    with torch.device("meta"):
        model = FoveatedVLMForConditionalGeneration(config)
    weights = {f"encoder.{name}": tensor for name, tensor in weights.items()}
    weights |= {f"language.{name}": tensor for name, tensor in source.language.model.state_dict().items()}
    weights |= source.connector.state_dict()
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    weights = {name: _lengthened(tensor, shapes.get(name, tensor.shape)) for name, tensor in weights.items()}
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    if missing or unexpected:
        raise ValueError(f"the exported code has no place for {unexpected[:3]}, or nothing for {missing[:3]}")
    model.tie_weights()
    model.generation_config = GenerationConfig(
        eos_token_id=sorted({*chat.end_ids, *source.language.ends}), pad_token_id=chat.pad, max_new_tokens=64
    )
    for one, kind in ((config, "AutoConfig"), (model, "AutoModelForImageTextToText")):
        type(one).register_for_auto_class(kind)  # the code is saved with it
    return model.eval()


def _lengthened(tensor: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    """Return embeddings or output weights with rows of zeros for further tokens."""
    if tensor.shape == shape or tensor.shape[1:] != shape[1:] or len(tensor) > shape[0]:
        return tensor.detach()
    return torch.cat([tensor.detach(), tensor.new_zeros(shape[0] - len(tensor), *shape[1:])])


def _processor(trained: TrainedFvlm, tokenizer: Any, template: str) -> Any:
    from fastvid.projects.fvlm.hf.processing_fvlm import FoveatedVLMProcessor

    about, views = trained.about, ViewSpec.from_fields(trained.about["views"])
    FoveatedVLMProcessor.register_for_auto_class("AutoProcessor")
    return FoveatedVLMProcessor(
        tokenizer, chat_template=template, frame_token=FRAME,
        mark_token=MARK if trained.model.config.marks else None, question=about["question"],
        image_mean=trained.model.encoder.mean, image_std=trained.model.encoder.std,
        views={
            "size": views.size, "crop": views.crop, "frames": views.frames, "sampling": views.sampling,
            "stride": views.stride, "fps": views.fps, "max_fps": about["max_fps"],
            "image_looks": about.get("image_looks", 1),
        },
    )  # fmt: skip


@torch.no_grad()
def check(trained: TrainedFvlm, folder: Path, processor: Any) -> None:
    """Raise ValueError unless an exported folder computes what a model does, in every mode, on the CPU.

    Args:
        trained: the model.
        folder: the export.
        processor: that of the export.
    """
    from fastvid.projects.fvlm.hf.modeling_fvlm import FoveatedVLMForConditionalGeneration

    exported = FoveatedVLMForConditionalGeneration.from_pretrained(folder).eval()
    size = trained.about["views"]["size"]
    clip = torch.randint(256, (2, size, size, 3), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    question = trained.about["question"] or "What is shown?"
    asked = {"role": "user", "content": [{"type": "video"}, {"type": "text", "text": question}]}
    text = processor.apply_chat_template([asked], add_generation_prompt=True, tokenize=False)
    metadata = [{"fps": trained.about["max_fps"] or trained.about["views"]["fps"]}]
    inputs = processor(text=text, videos=[clip.numpy()], video_metadata=metadata, num_frames=2, return_tensors="pt")
    before, after = ChatFormat(trained.tokenizer, trained.model.config.layout).prompt(question)
    looked = inputs["pixel_values_videos"].shape[1]
    frame, mark = exported.config.frame_token_id, exported.config.mark_token_id
    expected_ids = [*before, *([] if mark is None else [mark]), *[frame] * looked, *after]
    if inputs["input_ids"][0].tolist() != expected_ids:
        raise ValueError(
            "the language model's chat template cannot be exported: the tokens differ from those of training"
        )
    model = trained.model.cpu()
    for mode in get_args(Mode):
        expected = said(model, clip[:looked], before, after, mode)
        found = exported(**inputs, mode=mode).logits[0, -1 - len(after) : -1, : expected.shape[-1]]
        differs = (found - expected).abs()
        differs[:, [token for token in (frame, mark) if token is not None and token < differs.shape[1]]] = 0
        if not bool((differs <= 1e-3 + 1e-3 * expected.abs()).all()):
            worst = float(differs.max())
            raise ValueError(
                f"the exported model differs from the trained one by {worst:.2g} in the mode {mode}: it has a part "
                "that the exported code lacks"
            )


def said(model: FoveatedVLM, clip: torch.Tensor, before: list[int], after: list[int], mode: Mode) -> torch.Tensor:
    """Return the logits [A, V] of a model after the last frame and each token behind it but the last.

    Args:
        model: in eval mode.
        clip: uint8 [T, H, W, 3].
        before: token ids in front of the video.
        after: A token ids behind it.
        mode: how frames are read.
    """
    front, behind = (torch.tensor(ids)[None, None] for ids in (before, after))
    one = torch.ones(1, 1, dtype=torch.bool)
    inputs = Inputs(
        clips=clip[None], frames=one.expand(1, len(clip)), questions=one, before=front,
        before_mask=one.expand_as(front), after=behind, after_mask=one.expand_as(behind), labels=behind,
    )  # fmt: skip
    logits: torch.Tensor = model(inputs, mode).logits
    return logits
