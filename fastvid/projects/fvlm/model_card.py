"""The README.md of an exported vision-language model."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import fastvid
from fastvid.data.storage.remote import name_of_place
from fastvid.projects.fvlm.recipe_files import RESULT
from fastvid.projects.fvlm.saved import TrainedFvlm
from fastvid.projects.hub import is_hub_name
from fastvid.report.records import read_json

_SAMPLING = {
    "span": "spread evenly over the whole video",
    "stride": "one in {stride}, from the middle of the video",
    "fps": "{fps:g} of each second, from the middle of the video",
}
_MODES = {
    "coarse": "every frame with one learnt query",
    "parallel": "all frames with one learnt query, then all once more with queries that the language model predicts",
    "stream": "frame after frame, each with a query that the language model predicts from the text and what it saw",
}
_USE = """\
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.from_pretrained(FOLDER, trust_remote_code=True)
processor = AutoProcessor.from_pretrained(FOLDER, trust_remote_code=True)
content = [{"type": "video", "path": "clip.mp4"}, {"type": "text", "text": QUESTION}]
inputs = processor.apply_chat_template(
    [{"role": "user", "content": content}],
    add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt",
)
said = model.generate(**inputs)[0, inputs["input_ids"].shape[1] :]
print(processor.decode(said, skip_special_tokens=True))
gaze = model(**inputs, output_gaze=True).gaze  # of each layer: float32 [1, frames, heads, tokens]"""


def model_card(trained: TrainedFvlm, run: Path | None = None) -> str:
    """Write the model card in markdown: what the model is, its data, settings and results, and how to open it.

    The licence is left to whoever publishes the model. Nothing in it is a path of this machine.

    Args:
        trained: the model.
        run: directory of its run.

    Raises:
        UserError: a file of the run is damaged.
    """
    options, about = trained.model.config, trained.about
    config, result = (None if run is None else read_json(run / name) for name in ("config.json", RESULT))
    bases = (
        [] if options.init == "tiny" else [name for name in (options.encoder, options.language) if is_hub_name(name)]
    )
    lines = ["---", "pipeline_tag: image-text-to-text", "library_name: transformers"]
    lines += ["base_model:", *(f"- {name}" for name in bases)] if bases else []
    lines += ["tags:", "- video-text-to-text", "- fvlm", "# license: yours to choose", "---", ""]
    lines += ["# A vision-language model that looks", "", _origin(trained, bases), ""]
    lines += [
        "Each frame is one token of the language model: a query passes through the vision transformer beside the "
        "patches and brings back what it saw.",
        f"In training, a video was read {_MODES[about['mode']]} (`{about['mode']}`). Other ways: `generate(mode=...)`.",
        "",
        *_views(about),
    ]
    lines += ["", "## Training", "", *_training(config, result)] if config is not None else []
    lines += _results(result) if result is not None else []
    use = _USE.replace("QUESTION", repr(about["question"] or "What is shown?"))
    lines += ["", "## Use", "", "```python", use, "```", ""]
    lines += [
        "`trust_remote_code` runs the Python files of this folder, which import transformers, PyTorch, numpy and "
    ]
    lines[-1] += "Pillow, and PyAV where a video file is read."
    return "\n".join([*lines, ""])


def _origin(trained: TrainedFvlm, bases: list[str]) -> str:
    number = sum(parameter.numel() for parameter in trained.model.parameters())
    begun = "from random weights" if trained.model.config.init == "tiny" else "from local checkpoints"
    begun = f"from {' and '.join(bases)}" if bases else begun
    return f"{number / 1e6:,.1f} million parameters, trained {begun} with fastvid {fastvid.__version__}."


def _views(about: Mapping[str, Any]) -> list[str]:
    views = about["views"]
    sampling = _SAMPLING[views["sampling"]].format(stride=views["stride"], fps=views["fps"])
    most = f", and at most {about['max_fps']:g} of each second" if about["max_fps"] else ""
    crop = views["crop"]
    square = "largest centred square" if crop == 1 else f"centred {crop:.4g} of the shorter side, a square"
    return [
        f"It reads at most {views['frames']} frames of a video, {sampling}{most}; of each frame the {square}, resized "
        f"to {views['size']} x {views['size']} pixels."
    ]


def _training(config: Mapping[str, Any], result: Mapping[str, Any] | None) -> list[str]:
    data, optim, model = config["data"], config["optim"], config["model"]
    name = "the demo's clips, which fastvid makes" if data["path"] == "demo" else name_of_place(data["path"])
    counts = (result or {}).get("clips") or {}
    clips = ", ".join(f"{count} of {part}" for part, count in counts.items())
    backbone = config.get("backbone") or {}
    both = [backbone.get(key) if backbone.get(key) is not None else optim[key] for key in ("lr", "min_lr")]
    rows = {
        "data": name + (f" ({clips})" if clips else ""),
        **({"mixed with": ", ".join(_shares(data["mix"]))} if data.get("mix") else {}),
        "optimizer steps": optim["steps"],
        "batch": optim["batch"],
        "learning rate": f"{optim['lr']:g} to {optim['min_lr']:g}",
        "of encoder and language model": f"{both[0]:g} to {both[1]:g}",
        "weight decay": f"{optim['weight_decay']:g}",
        "query, layout, first query": f"{model['query']}, {model['layout']}, {model['first_query']}",
        "weight of the coarse pass": f"{config['loss']['coarse_weight']:g}",
        "frozen": ", ".join(part for part in ("encoder", "language") if model[f"freeze_{part}"]) or "nothing",
        "precision, seed": f"{config['run']['precision']}, {config['run']['seed']}",
    }
    return ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]


def _shares(mix: Sequence[str]) -> list[str]:
    """Return the collections of a mixture without their folders, such as ``texts (0.14)``."""
    return [f"{name_of_place(path)} ({share})" for path, _, share in (one.rpartition("=") for one in mix)]


def _results(result: Mapping[str, Any]) -> list[str]:
    """Return the table of the test, by pass and task, with 95 % intervals over clips.

    Raises:
        ValueError: a result of another shape.
    """
    try:
        rows = [
            f"| {condition} | {task} | {found['questions']} | {_interval(found, 'accuracy')} | "
            f"{_interval(found, 'ce')} |"
            for condition, tasks in result["answers"].items()
            if condition in ("fine", "coarse", "coarse alone")
            for task, found in tasks.items()
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{RESULT} is not that of a finished run: {type(error).__name__} {error}") from error
    head = ["| pass | questions | number | accuracy of tokens | cross-entropy, nats a token |", "|---|---|---|---|---|"]
    return ["", "## Results on test clips", "", "With 95 % intervals over clips.", "", *head, *rows]


def _interval(found: Mapping[str, Any], name: str) -> str:
    return f"{found[name]:.3f} ({found[f'{name}_low']:.3f} to {found[f'{name}_high']:.3f})"
