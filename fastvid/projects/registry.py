"""The table of all projects."""

import importlib

from fastvid.projects.project import Project

# A project's name, and the package whose PROJECT describes it.
_PACKAGES = {
    "salt": "fastvid.projects.salt",
    "vjepa2": "fastvid.projects.vjepa2",
    "trajectory": "fastvid.projects.trajectory",
    "fvlm": "fastvid.projects.fvlm",
}


def names() -> list[str]:
    """Return the names of all projects."""
    return list(_PACKAGES)


def find(name: str) -> Project:
    """Return a project by its name.

    Raises:
        ValueError: there is no such project.
    """
    if name not in _PACKAGES:
        raise ValueError(f"no project {name!r}: choose one of {', '.join(_PACKAGES)}")
    project: Project = importlib.import_module(_PACKAGES[name]).PROJECT
    return project


def projects() -> list[Project]:
    """Return all projects."""
    return [find(name) for name in _PACKAGES]
