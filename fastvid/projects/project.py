"""The description of a project that the commands read."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Project:
    """A project, described without importing any of its code.

    Code is named as ``"module:name"``, which ``pkgutil.resolve_name`` imports when it is used, so that a list of the
    projects, or another project's command, loads nothing.

    Attributes:
        name: on the command line.
        summary: what it trains, in one line.
        presets: its named configurations, a dictionary of functions that return one; ``demo`` is the default.
        run: ``run(session, config)``, its recipe.
        saved: file that marks what a run has saved, relative to the run's directory, such as ``student/encoder.json``.
        also_saved: folders beside that file's with models of the same kind, such as a teacher.
        load: ``load(folder, *, source) -> nn.Module``, from the folder of that file; ``source`` is where a pretrained
            model that it was made from is now.
        classifies: whether what it loads names classes: it then has ``classes``, ``views`` and ``probabilities``.
        encodes: whether what it loads maps clips to tokens, as :class:`fastvid.latents.video_features.VideoEncoder`.
        predict: ``predict(model, name, data, info, out) -> (answer, text)`` of one video: JSON values and what is
            printed; files go into the folder ``out``. None where ``classifies`` says it all, or there is nothing to
            predict.
        caption: ``caption(model, data, info, *, question, mode, tokens) -> answer`` about one video: iterating over it
            yields the answer's pieces as they are made; then it has ``as_dict()``, JSON values, and
            ``write_gaze(path)``, which writes where the model looked. ``notes`` are sentences to print before. None
            where the project says nothing in words.
        modes: ways in which it reads a video, the values of ``mode``.
        evaluate: ``evaluate(folder, options) -> (values, text)``: tests what a run has saved, from the folder of that
            file, on other data: JSON values and what is printed. None where its encoders are probed.
        evaluate_options: its options, a dataclass with ``run``, ``data`` (which has a ``path``) and ``out``, or None.
        surprise: ``surprise(run) -> SavedPredictor``, the predictor that a run has trained, see
            :mod:`fastvid.eval.intphys`; None where it trains none.
        export: ``export(model, out, to, *, run, overwrite) -> path``, or None; ``run`` is the run's directory, for its
            results, or None.
        sweep: how its runs are compared, a :class:`fastvid.projects.sweep.SweepPlan`, or None.
        report: ``report(run) -> ProjectSections``, the project's own sections of a run's page, or None; see
            :mod:`fastvid.report.page`.
    """

    name: str
    summary: str
    presets: str
    run: str
    saved: str
    load: str
    also_saved: tuple[str, ...] = ()
    classifies: bool = False
    encodes: bool = False
    predict: str | None = None
    caption: str | None = None
    modes: tuple[str, ...] = ()
    evaluate: str | None = None
    evaluate_options: str | None = None
    surprise: str | None = None
    export: str | None = None
    sweep: str | None = None
    report: str | None = None

    def run_of(self, folder: Path) -> Path | None:
        """Return the directory of the run that saved a model; None for a model that was moved out of it.

        Args:
            folder: where the model is, as :meth:`saved_in` says.
        """
        return folder.parent if folder.name in (Path(self.saved).parent.name, *self.also_saved) else None

    def saved_in(self, run: Path) -> Path | None:
        """Return the folder of what a run has saved, None where that is nothing of this project's.

        Args:
            run: the run's directory, or that folder itself.
        """
        saved = Path(self.saved)
        return next((folder for folder in (run, run / saved.parent) if (folder / saved.name).is_file()), None)
