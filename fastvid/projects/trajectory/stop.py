"""Conditions under which a model is good enough to end its training."""

from collections.abc import Mapping

from fastvid.projects.trajectory.config import StopConfig

CONDITIONS = {
    "accuracy_low": "accuracy", "attention_ratio_low": "ratio", "consistency_low": "consistency",
}  # fmt: skip
"""The recorded value of each condition, and the option that it is compared with."""


def conditions_met(config: StopConfig, values: Mapping[str, float]) -> dict[str, bool]:
    """Return which conditions hold, by the lower ends of their intervals; a value that is not defined meets none."""
    return {
        option: values.get(name) is not None and values[name] >= getattr(config, option)
        for name, option in CONDITIONS.items()
    }


def why_stop(config: StopConfig, step: int, epoch_steps: int, values: Mapping[str, float]) -> str | None:
    """Return why training ends after a validation, or None to go on.

    Args:
        config: the conditions; they are looked at every ``config.every`` epochs.
        step: optimizer updates done.
        epoch_steps: updates of an epoch.
        values: of :func:`fastvid.projects.trajectory.measures.flat_scores`.
    """
    epochs, rest = divmod(step, epoch_steps)
    if rest or not config.every or epochs % config.every or not all(conditions_met(config, values).values()):
        return None
    return (
        f"after {epochs} epochs accuracy, attention ratio and consistency are at least {config.accuracy:g}, "
        f"{config.ratio:g} and {config.consistency:g}, by the lower ends of their intervals: "
        + ", ".join(f"{values[name]:.3g}" for name in CONDITIONS)
    )
