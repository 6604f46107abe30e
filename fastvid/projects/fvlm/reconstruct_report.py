"""The part of a run's page that is about reconstructed frames."""

from collections.abc import Mapping
from typing import Any

from fastvid.report.markup import table, text

Values = Mapping[str, Any]


def told_note(found: Values) -> str:
    """Return the note on a run in which no answer was learnt."""
    if not found.get("told"):
        return ""
    return (
        "<p>All text stood in front of the frames and no answer was learnt: the reconstruction was the whole loss. "
        "What the model answers to questions is left out here.</p>"
    )


def reconstruction(found: Values) -> str:
    """Return the table of squared errors by pass, or nothing where frames were not reconstructed."""
    errors = found.get("reconstruction")
    if not errors:
        return ""
    words = {
        "fine": "after aimed looks", "coarse": "after looks with the static query",
        "unchanged": "each frame taken for the one before it",
    }  # fmt: skip
    rows = [(f"<b>{text(name)}</b> {words[name]}", f"{errors[name]:.4f}") for name in words if name in errors]
    ratio = (
        f"<p>Coarse over fine: <b>{errors['ratio']:.3f} [{errors['low']:.3f}, {errors['high']:.3f}]</b>. The next "
        "frame is mostly the one before it: earlier models stayed at 1.00 here, whatever they looked at.</p>"
    )
    note = "<p>Mean squared error of an element of a frame's latent, predicted before the frame is looked at.</p>"
    return table(("prediction", "error"), rows, numbers=(1,)) + note + (ratio if "ratio" in errors else "")
