"""A trained classifier as a folder that other libraries open: transformers' own form, or peft's adapters."""

import json
from pathlib import Path
from typing import Any, Literal

from fastvid.files import write_whole
from fastvid.names import spelled
from fastvid.projects.exported_folder import exported_folder, share_files
from fastvid.projects.processor_file import pixel_fields
from fastvid.projects.vjepa2.checkpoint import TrainedClassifier
from fastvid.projects.vjepa2.model_card import model_card
from fastvid.report.records import read_json

Form = Literal["hf", "peft"]

_FILES = {
    "hf": ("README.md", "config.json", "model.safetensors", "video_preprocessor_config.json"),
    "peft": ("README.md", "adapter_config.json", "adapter_model.safetensors"),
}


def export(
    classifier: TrainedClassifier,
    folder: str | Path,
    form: Form = "hf",
    *,
    run: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a folder that transformers (``"hf"``) or peft (``"peft"``) opens without fastvid, complete or not at all.

    ``"hf"`` is for ``VJEPA2ForVideoClassification.from_pretrained``: the whole model with adapters added into the
    weights they adapt, the classes' names, and a video processor that shows the model what it was evaluated on: the
    centred square of each frame. ``"peft"`` has adapters and head alone, for ``PeftModel.from_pretrained`` on
    the original model; with the approach ``pooler+lora`` that lacks the trained pooler.

    Args:
        classifier: what to write.
        folder: new or empty.
        form: for whom.
        run: directory of the run, for the accuracies in the model card.
        overwrite: replace an earlier export in ``folder``.

    Returns:
        ``folder``, absolute.

    Raises:
        ValueError: no such form, no adapters for ``"peft"``, or a ``folder`` that is not to be written to.
    """
    if form not in _FILES:
        raise ValueError(f"no such form {form!r}: use {' or '.join(_FILES)}")
    if form == "peft" and classifier.about.lora is None:
        raise ValueError(
            f"the approach {classifier.about.approach!r} has no LoRA adapters: export it to hf, which has all of it"
        )
    card = model_card(classifier.about, form, None if run is None else read_json(run / "result.json"))
    target, names = Path(folder).expanduser().resolve(), [name for found in _FILES.values() for name in found]
    with exported_folder(target, names, overwrite) as partial:
        if form == "hf":
            classifier.model.merged().save_pretrained(partial)
            processor = json.dumps(_processor(classifier), indent=2) + "\n"
            write_whole(partial / "video_preprocessor_config.json", processor.encode())
        else:
            classifier.model.save_adapter(partial)
        write_whole(partial / "README.md", spelled(card).encode())
        share_files(partial)
    return target


def _processor(classifier: TrainedClassifier) -> dict[str, Any]:
    """Return the content of ``video_preprocessor_config.json``: frames are resized until the evaluation's crop is as
    large as the model's clips.

    VJEPA2VideoProcessor can only enlarge frames to 8/7 of the model's size and so cuts their borders off, whatever its
    file says. This class does the same steps with the sizes it is told.
    """
    about = classifier.about
    return {
        "video_processor_type": "VideoLlavaVideoProcessor",
        "do_convert_rgb": True,
        **pixel_fields(classifier.views, about.mean, about.std),
        "do_sample_frames": False,
    }
