"""The README.md of an exported encoder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastvid
from fastvid.data.storage.remote import name_of_place
from fastvid.projects.hub import is_hub_name
from fastvid.projects.salt.export_hf import is_videomae
from fastvid.projects.salt.export_timm import architecture
from fastvid.projects.salt.trained import TrainedEncoder
from fastvid.report.records import read_json

_TAGS = {
    "hf": ("transformers", "feature-extraction", "video-feature-extraction"),
    "timm": ("timm", "image-feature-extraction", "image-feature-extraction"),
    "pt2": ("pytorch", "feature-extraction", "video-feature-extraction"),
    "onnx": ("onnx", "feature-extraction", "video-feature-extraction"),
}
_SAMPLING = {
    "span": "spread evenly over the whole video",
    "stride": "one in {stride}",
    "fps": "{fps:g} of each second",
}
_VIDEOMAE = """\
from transformers import VideoMAEForVideoClassification, VideoMAEImageProcessor, VideoMAEModel

model = VideoMAEModel.from_pretrained(FOLDER).eval()
processor = VideoMAEImageProcessor.from_pretrained(FOLDER)
inputs = processor(list(clip), return_tensors="pt")  # clip: uint8 [FRAMES, H, W, 3]
tokens = model(**inputs).last_hidden_state  # [1, TOKENS, WIDTH], in order of time, row, column
# To fine-tune: a classifier of the tokens' mean.
classifier = VideoMAEForVideoClassification.from_pretrained(FOLDER, num_labels=10, use_mean_pooling=True)"""
_VIDEO_VIT = """\
from transformers import AutoModel, AutoModelForVideoClassification, VideoMAEImageProcessor

model = AutoModel.from_pretrained(FOLDER, trust_remote_code=True).eval()
processor = VideoMAEImageProcessor.from_pretrained(FOLDER)
inputs = processor(list(clip), return_tensors="pt")  # clip: uint8 [FRAMES, H, W, 3]
tokens = model(**inputs).last_hidden_state  # [1, TOKENS, WIDTH], in order of time, row, column
# To fine-tune: a classifier of the tokens' mean.
classifier = AutoModelForVideoClassification.from_pretrained(FOLDER, num_labels=10, trust_remote_code=True)"""
_TIMM = """\
import json
import timm

# From the hub, timm.create_model("hf-hub:USER/NAME", pretrained=True) is enough.
arguments = json.load(open(FOLDER + "/config.json"))["model_args"]
weights = FOLDER + "/model.safetensors"
model = timm.create_model("ARCHITECTURE", checkpoint_path=weights, num_classes=0, **arguments).eval()
features = model(pixels)  # [B, WIDTH] of pixels [B, 3, SIZE, SIZE]; model.forward_features(pixels): all tokens"""
_PT2 = """\
import torch

model = torch.export.load(FOLDER + "/model.pt2").module()
tokens = model(torch.as_tensor(clips))  # float32 [B, TOKENS, WIDTH] of uint8 [B, FRAMES, SIZE, SIZE, 3]"""
_ONNX = """\
import onnxruntime

session = onnxruntime.InferenceSession(FOLDER + "/model.onnx")
(tokens,) = session.run(None, {"clips": clips})  # float32 [B, TOKENS, WIDTH] of uint8 [B, FRAMES, SIZE, SIZE, 3]"""
_REMOTE_CODE = "`trust_remote_code` runs the one Python file of this folder, which imports transformers and PyTorch."


def model_card(trained: TrainedEncoder, form: str, run: Path | None = None) -> str:
    """Write the model card in markdown: what the encoder is, its data, settings and probes, and how to open it.

    The licence is left to whoever publishes the model. Nothing in it is a path of this machine.

    Args:
        trained: the encoder.
        form: ``"hf"``, ``"timm"``, ``"pt2"`` or ``"onnx"``.
        run: directory of its run.

    Raises:
        UserError: a file of the run is damaged.
        ValueError: probes of another shape.
    """
    config, probe = (None if run is None else read_json(run / name) for name in ("config.json", "probe.json"))
    library, task, tag = _TAGS[form]
    lines = ["---", f"pipeline_tag: {task}", f"library_name: {library}", "tags:", f"- {tag}", "- salt"]
    lines += ["# license: yours to choose", "---", ""]
    lines += ["# An image encoder, pretrained on video" if form == "timm" else "# A video encoder", ""]
    lines += [_origin(trained, config is not None), "", _image(trained) if form == "timm" else _clip(trained)]
    rows = {
        "architecture": f"{trained.encoder.config.name}, {len(trained.encoder.blocks)} blocks of width {trained.dim}",
        "positions": trained.encoder.config.positions,
        **({} if config is None else _training(trained, config)),
    }
    lines += ["", "## Training", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())]
    lines += [] if probe is None else _probes(probe)
    code = form == "hf" and not is_videomae(trained.encoder)
    use = {"hf": _VIDEO_VIT if code else _VIDEOMAE, "timm": _TIMM, "pt2": _PT2, "onnx": _ONNX}[form]
    T, H, W = trained.grid
    values = {
        "FRAMES": trained.views.frames, "TOKENS": T * H * W, "WIDTH": trained.dim, "SIZE": trained.views.size,
        "ARCHITECTURE": architecture(trained.encoder),
    }  # fmt: skip
    for word, value in values.items():
        use = use.replace(word, str(value))
    lines += ["", "## Use", "", "```python", use, "```", *(["", _REMOTE_CODE] if code else [])]
    return "\n".join([*lines, ""])


def _origin(trained: TrainedEncoder, known: bool) -> str:
    number = sum(parameter.numel() for parameter in trained.encoder.parameters())
    how = "pretrained without labels"
    if known and trained.name == "teacher":
        how += " to paint hidden pixels, as the teacher of SALT's first stage (arXiv 2509.24317)"
    elif known:
        how += " by SALT: it predicted, at hidden places, what a frozen teacher sees there (arXiv 2509.24317)"
    return f"{number / 1e6:,.1f} million parameters, {how}, with fastvid {fastvid.__version__}."


def _clip(trained: TrainedEncoder) -> str:
    views, (T, H, W) = trained.views, trained.grid
    sampling = _SAMPLING[views.sampling].format(stride=views.stride, fps=views.fps)
    square = "largest centred square" if views.crop == 1 else f"centred {views.crop:.4g} of the shorter side, a square"
    return (
        f"A clip is {views.frames} frames of {views.size} x {views.size} pixels, {sampling}; of each frame the "
        f"{square}. It becomes {T} x {H} x {W} tokens of width {trained.dim}, normalised."
    )


def _image(trained: TrainedEncoder) -> str:
    size = trained.views.size
    return (
        f"It sees an image of {size} x {size} pixels as the video encoder sees the middle moment of a clip in which "
        "nothing moves. What the video encoder knows of motion is not in it."
    )


def _training(trained: TrainedEncoder, config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of the encoder's stage, by their names in the table."""
    data, teacher = config["data"], config["teacher"]
    stage = teacher if trained.name == "teacher" else config
    optim, mask = stage["optim"], stage["mask"]
    return {
        "data": "the demo's clips, which fastvid makes" if data["path"] == "demo" else name_of_place(data["path"]),
        **({} if "scale" not in data else {"training crops": _crops(data["scale"])}),
        **({} if trained.name == "teacher" else _targets(teacher)),
        "masks": f"{', '.join(mask['specs'])}, {mask['ratio']:g} of the tokens",
        **_loss(stage["loss"]),
        "optimizer steps": optim["steps"],
        "batch": optim["batch"],
        "learning rate": f"{optim['lr']:g} to {optim['min_lr']:g}",
        "weight decay": f"{optim['weight_decay']:g}",
        "precision, seed": f"{config['run']['precision']}, {config['run']['seed']}",
    }


def _targets(teacher: Mapping[str, Any]) -> dict[str, str]:
    """Return the teacher, and the blocks whose latents are predicted where they are not the last one's."""
    rows = {"teacher": _teacher(teacher["source"])}
    if teacher.get("layers"):
        rows["teacher's blocks"] = f"{', '.join(map(str, teacher['layers']))}, the first is 1"
    return rows


def _loss(loss: Mapping[str, Any]) -> dict[str, str]:
    """Return the loss with all its parts; those of weight 0 are left out."""
    rows = {"loss": loss["kind"] + ("" if loss.get("normalize_target", True) else ", targets not normalised")}
    if loss.get("context"):
        begin, end = (f"{100 * share:g} %" for share in loss["context_warmup"])
        rows["loss on visible tokens"] = f"weight {loss['context']:g}, rising from {begin} to {end} of the steps"
    penalties = [f"{name} {loss[name]:g}" for name in ("variance", "covariance") if loss.get(name)]
    return {**rows, "penalties": ", ".join(penalties)} if penalties else rows


def _crops(scale: Sequence[float]) -> str:
    return f"{scale[0]:g} to {scale[1]:g} of a frame's area"


def _teacher(source: str) -> str:
    """Describe a teacher without a path of this machine."""
    if source == "pixel":
        return "an encoder trained to paint hidden pixels, in the same run"
    name = source.removeprefix("hf:")
    return name if name != source and is_hub_name(name) else "a local checkpoint"


def _probes(probe: Mapping[str, Any]) -> list[str]:
    """Return the table of the probes that were run, in percent, with 95 % Wilson intervals.

    Raises:
        ValueError: a table of another shape.
    """
    try:
        names = [name for name, found in probe["rows"][0].items() if isinstance(found, dict) and "accuracy" in found]
        rows = [f"| {row['encoder']} | {' | '.join(_interval(row[name]) for name in names)} |" for row in probe["rows"]]
        chance = {name: probe["rows"][0][name].get("chance", probe["chance"]) for name in names}
        said = ", ".join(f"{name} {100 * value:.0f} %" for name, value in chance.items() if value is not None)
        tested = f"{len(probe['classes'])} classes, {probe['test']} test videos. Chance: {said}. "
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"probe.json is not that of a finished run: {type(error).__name__} {error}") from error
    head = [f"| frozen encoder | {', % | '.join(names)}, % |", f"|{'---|' * (len(names) + 1)}"]
    return ["", "## Probes", "", f"{tested}In brackets: 95 % Wilson interval.", "", *head, *rows]


def _interval(found: Mapping[str, Any]) -> str:
    return f"{100 * found['accuracy']:.1f} [{100 * found['low']:.1f}, {100 * found['high']:.1f}]"
