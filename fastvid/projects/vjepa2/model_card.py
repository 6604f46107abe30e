"""The README.md of an exported classifier."""

from typing import Any

from fastvid.projects.hub import is_hub_name
from fastvid.projects.vjepa2.metadata import ClassifierMetadata

_TRAINED = {
    "head": "the linear head",
    "pooler": "the attentive pooler and the head",
    "lora": "LoRA adapters in the attentive pooler, and the head",
    "pooler+lora": "the attentive pooler, LoRA adapters in it, and the head",
    "backbone-lora": "LoRA adapters in the encoder, and the head",
    "full": "encoder, attentive pooler and head",
}
_SAMPLING = {
    "span": "spread evenly over the whole video",
    "stride": "one frame in {stride}",
    "fps": "{fps:g} frames per second",
}


def model_card(about: ClassifierMetadata, form: str, result: dict[str, Any] | None = None) -> str:
    """Write the model card in markdown: training data, classes, accuracy, and how to open the model.

    Args:
        about: the classifier.
        form: ``"hf"`` or ``"peft"``.
        result: of the run, as its ``result.json``; its accuracies are in the card, where they are in it.

    Raises:
        ValueError: a result of another shape.
    """
    lines = ["---", "pipeline_tag: video-classification", f"library_name: {'transformers' if form == 'hf' else 'peft'}"]
    hub = about.init == "pretrained" and is_hub_name(about.source)
    lines += [f"base_model: {about.source}"] if hub else []
    lines += ["tags:", "- vjepa2", "---", "", f"# V-JEPA 2 classifier of {len(about.classes)} classes", ""]
    base = about.source if hub else "a local checkpoint" if about.init == "pretrained" else "random weights (tiny)"
    lines += [f"Fine-tuned from {base} with fastvid {about.fastvid}. Trained: {_TRAINED[about.approach]}"]
    if about.lora is not None:
        lines[-1] += f" (rank {about.lora.rank}, alpha {about.lora.alpha:g}, dropout {about.lora.dropout:g})"
    lines[-1] += "."
    views = about.views
    sampling = _SAMPLING[views.sampling].format(stride=views.stride, fps=views.fps)
    lines += ["", f"A clip is {views.frames} frames of {views.size} x {views.size} pixels, {sampling}."]
    square = "largest centred square" if views.crop == 1 else f"centred {views.crop:.4g} of the shorter side, a square"
    lines += [f"Of each frame it shows the {square}.", "", "## Classes", ""]
    lines += [f"{index}. {name}" for index, name in enumerate(about.classes)]
    if result is not None:
        lines += _accuracy(result)
    lines += ["", "## Use", "", "```python", *(_hf_use() if form == "hf" else _peft_use(about)), "```", ""]
    if form == "peft" and about.approach == "pooler+lora":
        lines += ["The trained pooler is not among these weights: `--to hf` exports all that was trained.", ""]
    return "\n".join(lines)


def _accuracy(result: dict[str, Any]) -> list[str]:
    try:
        rows = [
            f"| {part} | {found['accuracy']:.4f} | {found['low']:.4f} to {found['high']:.4f} | {found['total']} |"
            for part in ("val", "test")
            if (found := result.get(part)) is not None
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"result.json is not that of a finished run: {type(error).__name__} {error}") from error
    if not rows:
        return []
    head = ["| videos | accuracy | 95 % interval | number |", "|---|---|---|---|"]
    return ["", "## Accuracy", "", *head, *rows]


def _hf_use() -> list[str]:
    return [
        "from transformers import AutoVideoProcessor, VJEPA2ForVideoClassification",
        "",
        "model = VJEPA2ForVideoClassification.from_pretrained(FOLDER).eval()",
        "processor = AutoVideoProcessor.from_pretrained(FOLDER)",
        'inputs = processor(clip, return_tensors="pt")  # clip: uint8 [T, H, W, 3]',
        "logits = model(**inputs).logits",
    ]


def _peft_use(about: ClassifierMetadata) -> list[str]:
    if about.init == "tiny":
        drawn = f"init_seed={about.init_seed}, frames={about.views.frames}, size={about.views.size}"
        base = [
            "from peft import PeftModel",
            "",
            "from fastvid.projects.vjepa2.load import load_vjepa2",
            "",
            f'base = load_vjepa2(init="tiny", classes={len(about.classes)}, {drawn}).hf',
        ]
    else:
        # A folder of this machine says nothing elsewhere.
        name = repr(about.source) if is_hub_name(about.source) else "FOLDER_OF_THE_ORIGINAL"
        base = [
            "from peft import PeftModel",
            "from transformers import VJEPA2ForVideoClassification",
            "",
            "base = VJEPA2ForVideoClassification.from_pretrained(",
            f"    {name}, num_labels={len(about.classes)}, ignore_mismatched_sizes=True,",
            f"    frames_per_clip={about.views.frames}, crop_size={about.views.size},",
            ")",
        ]
    return [*base, "model = PeftModel.from_pretrained(base, FOLDER).eval()"]
