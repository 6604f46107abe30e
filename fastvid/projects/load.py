"""Loading what a run saved, of whichever project it is."""

from pathlib import Path
from pkgutil import resolve_name

from torch import nn

from fastvid.projects.project import Project
from fastvid.projects.registry import projects


def load(run: str | Path, *, source: str | None = None) -> nn.Module:
    """Load what a run saved, in eval mode, on the CPU.

    Args:
        run: a run's directory, or a folder that ``save_classifier`` or ``save_encoder`` wrote.
        source: for a classifier, where the pretrained model it was made from is now.

    Returns:
        The best classifier of a fine-tuning run, with its classes and its preprocessing; the student encoder of a
        pretraining run, with its preprocessing, whose ``encode`` takes clips or video files; a vision-language model
        with its processor; a model of tracks with its metadata.

    Raises:
        FileNotFoundError: the run has saved nothing yet, or there is no run.
        OSError, ValueError: the files are damaged, or ``source`` does not fit.
    """
    project, folder = find_saved(run)
    model: nn.Module = resolve_name(project.load)(folder, source=source)
    return model


def find_saved(run: str | Path, *, predicts: bool = False) -> tuple[Project, Path]:
    """Find the folder of what a run saved, and the project it belongs to.

    Args:
        run: a run's directory, or that folder itself.
        predicts: look for what can say something of a video: classifiers, and models with a way of their own.

    Raises:
        FileNotFoundError: nothing is there.
    """
    run = Path(run).expanduser()
    for project in sorted(projects(), key=lambda project: not project.classifies):  # classifiers first
        folder = project.saved_in(run)
        if folder is None:
            continue
        if predicts and not (project.classifies or project.predict is not None):
            others = " or ".join(p.name for p in projects() if p.classifies or p.predict is not None)
            raise FileNotFoundError(
                f"no classifier in {run}: it is of {project.name} ({project.summary}); give a run of {others}"
            )
        return project, folder
    if not run.is_dir():
        raise FileNotFoundError(f"no run in {run}: there is no such folder")
    if predicts:
        raise FileNotFoundError(
            f"no classifier in {run}: a fine-tuning run saves it at its end, which --resume comes to"
        )
    if not (run / "config.json").is_file():
        raise FileNotFoundError(f"{run} holds neither a run nor a saved model")
    teacher = run / "teacher"
    also = f"; its teacher is there: load_encoder({str(teacher)!r})" if (teacher / "encoder.json").is_file() else ""
    raise FileNotFoundError(f"the run in {run} has saved no model so far{also}")
