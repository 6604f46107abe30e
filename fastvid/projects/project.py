"""The description of a project that the commands read."""

from dataclasses import dataclass


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
        load: ``load(folder, *, source) -> nn.Module``, from the folder of that file; ``source`` is where a pretrained
            model that it was made from is now.
        classifies: whether what it loads names classes: it then has ``classes``, ``views`` and ``probabilities``.
        predict: ``predict(model, name, data, info, out) -> (answer, text)`` of one video: JSON values and what is
            printed; files go into the folder ``out``. None where ``classifies`` says it all, or there is nothing to
            predict.
        caption: ``caption(model, data, info, *, question, mode, tokens) -> answer`` about one video: iterating over it
            yields the answer's pieces as they are made; then it has ``as_dict()``, JSON values, and
            ``write_gaze(path)``, which writes where the model looked. ``notes`` are sentences to print before. None
            where the project says nothing in words.
        export: ``export(model, out, to, *, result, overwrite) -> path``, or None.
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
    classifies: bool = False
    predict: str | None = None
    caption: str | None = None
    export: str | None = None
    sweep: str | None = None
    report: str | None = None
