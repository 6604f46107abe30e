"""What a run trained, whatever it was."""

from pathlib import Path
from typing import TYPE_CHECKING

from fastvid.models.encoder_checkpoint import load_encoder
from fastvid.models.vit import VideoViT

if TYPE_CHECKING:
    from fastvid.projects.vjepa2.checkpoint import TrainedClassifier


def load(run: str | Path, *, source: str | None = None) -> "TrainedClassifier | VideoViT":
    """Opens what a run trained, in eval mode, on the CPU.

    Args:
        run: a run's directory, or a folder that ``save_classifier`` or ``save_encoder`` wrote.
        source: for a classifier, as :func:`fastvid.projects.vjepa2.checkpoint.load_classifier` takes it.

    Returns:
        The best classifier of a fine-tuning run, with its classes and its preprocessing; the student encoder of a
        pretraining run.

    Raises:
        FileNotFoundError: nothing there that was trained.
        OSError, ValueError: as the two loaders.
    """
    run = Path(run).expanduser()
    for folder in (run, run / "classifier"):
        if (folder / "classifier.json").is_file():
            from fastvid.projects.vjepa2.checkpoint import load_classifier  # transformers and peft, for it alone

            return load_classifier(folder, source=source)
    for folder in (run, run / "student"):
        if (folder / "encoder.json").is_file():
            return load_encoder(folder).eval()
    if not run.is_dir():
        raise FileNotFoundError(f"no run in {run}: there is no such folder")
    if not (run / "config.json").is_file():
        raise FileNotFoundError(f"{run} holds neither a run nor a saved classifier or encoder")
    teacher = run / "teacher"
    also = f"; its teacher is there: load_encoder({str(teacher)!r})" if (teacher / "encoder.json").is_file() else ""
    raise FileNotFoundError(f"the run in {run} has saved neither a classifier nor a student encoder so far{also}")


def classifier_folder(run: str | Path) -> Path:
    """The folder of a run's classifier, or ``run`` itself if it is one.

    Raises:
        FileNotFoundError: ``run`` holds no classifier.
    """
    run = Path(run).expanduser()
    for folder in (run, run / "classifier"):
        if (folder / "classifier.json").is_file():
            return folder
    if not run.is_dir():
        raise FileNotFoundError(f"no run in {run}: there is no such folder")
    raise FileNotFoundError(f"no classifier in {run}: a fine-tuning run saves it at its end, which --resume comes to")
