"""A trained classifier as a folder that other libraries open: transformers' own form, or peft's adapters."""

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from fastvid.files import whole_folder, write_whole
from fastvid.names import spelled
from fastvid.projects.vjepa2.checkpoint import TrainedClassifier
from fastvid.projects.vjepa2.model_card import model_card

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
    result: dict[str, Any] | None = None,
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
        result: the run's ``result.json``, for the model card.
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
    card = model_card(classifier.about, form, result)
    with _replaced(Path(folder).expanduser().resolve(), overwrite) as partial:
        if form == "hf":
            classifier.model.merged().save_pretrained(partial)
            processor = json.dumps(_processor(classifier), indent=2) + "\n"
            write_whole(partial / "video_preprocessor_config.json", processor.encode())
        else:
            classifier.model.save_adapter(partial)
        write_whole(partial / "README.md", spelled(card).encode())
        for path in partial.iterdir():  # safetensors' files are for their owner alone
            shutil.copymode(partial / "README.md", path)
    return Path(folder).expanduser().resolve()


def _processor(classifier: TrainedClassifier) -> dict[str, Any]:
    """Return the content of ``video_preprocessor_config.json``: frames are resized until the evaluation's crop is as
    large as the model's clips.

    VJEPA2VideoProcessor can only enlarge frames to 8/7 of the model's size and so cuts their borders off, whatever its
    file says. This class does the same steps with the sizes it is told.
    """
    about, size = classifier.about, classifier.views.size
    return {
        "video_processor_type": "VideoLlavaVideoProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": round(size / classifier.views.crop)},
        "resample": 2,  # bilinear
        "do_center_crop": True,
        "crop_size": {"height": size, "width": size},
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(about.mean),
        "image_std": list(about.std),
        "do_sample_frames": False,
    }


@contextlib.contextmanager
def _replaced(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to write in, which becomes ``folder`` at the end, in place of an earlier export."""
    _check_target(folder, overwrite)
    old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
    try:
        with whole_folder(folder, sync=False) as partial:
            yield partial
            if folder.exists() and any(folder.iterdir()):
                _check_target(folder, overwrite)  # again: writing takes a while
                folder.rename(old)
    except BaseException:
        if old.exists() and not folder.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _check_target(folder: Path, overwrite: bool) -> None:
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a new folder")
    found = {path.name for path in folder.iterdir()}
    if not found:
        return
    if not overwrite:
        raise ValueError(f"{folder} is not empty: give a new folder, or --overwrite to replace an earlier export")
    # What an export did not write is not removed by one.
    if foreign := sorted(found - {name for names in _FILES.values() for name in names}):
        raise ValueError(f"{folder} holds other files than an export's, such as {foreign[0]!r}: give a new folder")
