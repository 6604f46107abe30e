"""Charts of a run, as SVG text."""

from fastvid.report.figures import COLOURS, GRID, INK, new_axes, svg
from fastvid.report.records import RunRecords

_PARTS = ("data", "forward", "backward", "optimizer")
_PROBE_NAMES = {"knn": "kNN", "linear": "linear", "attentive": "attentive"}


def loss_chart(run: RunRecords) -> str:
    """Draw the loss of each stage, and the loss of predicting the mean."""
    figure, axes = new_axes(max(1, len(run.stages)))
    for ax, stage in zip(axes, run.stages, strict=False):
        ax.plot(*run.series(stage, "loss"), color=COLOURS[0], label="training loss")
        steps, values = run.series(stage, "health_mean_predictor_loss")
        if steps:
            ax.plot(steps, values, color=COLOURS[1], linestyle="--", label="predicting the mean")
            ax.plot(*run.series(stage, "health_probe_loss"), color=COLOURS[2], marker=".", label="fixed batch")
        ax.set(title=f"{stage}: loss", xlabel="optimizer step", yscale="log")
        ax.legend(frameon=False)
    return svg(figure)


def validated_stages(run: RunRecords) -> list[str]:
    """Return the stages that recorded an accuracy on validation videos."""
    return [stage for stage in run.stages if run.series(stage, "val_accuracy")[0]]


def validation_chart(run: RunRecords) -> str:
    """Draw training and validation loss beside validation accuracy, with the best marked. Return "" without validation.

    The best is that of ``result.json`` where there is one, else the first of the greatest so far.
    """
    stages = validated_stages(run)
    if not stages:
        return ""
    figure, (left, right) = new_axes(2, width=10.2, height=3.4)
    for stage, dark, light in zip(stages, COLOURS[::2], COLOURS[1::2], strict=False):
        left.plot(*run.series(stage, "loss"), color=dark, linewidth=1.0, label="training clips")
        left.plot(*run.series(stage, "val_loss"), color=light, marker=".", label="validation videos")
        steps, shares = run.series(stage, "val_accuracy")
        right.plot(steps, [100 * share for share in shares], color=dark, marker=".", label="validation videos")
        clips, means = run.series(stage, "accuracy")
        right.plot(
            clips, [100 * mean for mean in means], color=COLOURS[5], linewidth=0.7, zorder=1, label="training clips"
        )
        step, share = _best(run, steps, shares)
        epoch = f" (epoch {run.result['best']['epoch']:g})" if run.result else ""
        right.plot(
            step, 100 * share, color=light, marker="o", markersize=9, fillstyle="none", markeredgewidth=1.8,
            linestyle="", label=f"best: {100 * share:.1f} % at step {step:,}{epoch}",
        )  # fmt: skip
    left.set(title="loss: cross-entropy, nats", xlabel="optimizer step")
    left.set_ylim(bottom=0)
    right.set(title="accuracy, %", xlabel="optimizer step", ylim=(0, 100))
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=8)
    return svg(figure)


def _best(run: RunRecords, steps: list[int], shares: list[float]) -> tuple[int, float]:
    if run.result is not None:
        return run.result["best"]["step"], run.result["best"]["val_accuracy"]
    share = max(shares)
    return steps[shares.index(share)], share


def schedule_chart(run: RunRecords) -> str:
    """Draw learning rate, weight decay and gradient norm."""
    figure, axes = new_axes(3)
    for ax, name, title in zip(
        axes, ("lr", "weight_decay", "grad_norm"), ("learning rate", "weight decay", "gradient norm"), strict=True
    ):
        for colour, stage in zip(COLOURS, run.stages, strict=False):
            ax.plot(*run.series(stage, name), color=colour, label=stage)
        ax.set(title=title, xlabel="optimizer step")
        ax.legend(frameon=False)
    axes[2].set_yscale("log")
    return svg(figure)


def health_chart(run: RunRecords) -> str:
    """Draw rank and spread of the encoders' tokens. Return "" when no checks were made."""
    if not any(run.series(stage, "health_rank")[0] for stage in run.stages):
        return ""
    figure, axes = new_axes(2)
    for colour, stage in zip(COLOURS, run.stages, strict=False):
        for ax, name in zip(axes, ("rank", "std"), strict=True):
            ax.plot(*run.series(stage, f"health_{name}"), color=colour, marker=".", label=f"{stage}: encoder")
            steps, values = run.series(stage, f"health_teacher_{name}")
            if steps:
                ax.plot(steps, values, color=colour, linestyle=":", label=f"{stage}: teacher")
    axes[0].set(title="effective rank of tokens (RankMe)", xlabel="optimizer step")
    axes[1].set(title="deviation per dimension", xlabel="optimizer step")
    for ax in axes:
        ax.set_ylim(bottom=0)
        ax.legend(frameon=False)
    return svg(figure)


def speed_chart(run: RunRecords) -> str:
    """Draw the clips per second, end to end, and where the time goes."""
    figure, axes = new_axes(2)
    for colour, stage in zip(COLOURS, run.stages, strict=False):
        axes[0].plot(*run.series(stage, "clips_per_s"), color=colour, label=stage)
    axes[0].set(title="clips per second, end to end", xlabel="optimizer step")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(frameon=False)
    for row, stage in enumerate(run.stages):
        left = 0.0
        for colour, part in zip(COLOURS, _PARTS, strict=False):
            values = run.series(stage, f"share_{part}")[1]
            share = sum(values) / len(values) if values else 0.0
            axes[1].barh(row, share, left=left, color=colour, label=part if row == 0 else None)
            left += share
        axes[1].barh(row, max(0.0, 1 - left), left=left, color=GRID, label="rest" if row == 0 else None)
    axes[1].set_yticks(range(len(run.stages)), run.stages)
    axes[1].set(title="share of the wall clock", xlim=(0, 1))
    axes[1].legend(frameon=False, ncols=5, loc="upper center", bbox_to_anchor=(0.5, -0.12), columnspacing=1.0)
    axes[1].grid(False)
    return svg(figure)


def probe_chart(run: RunRecords) -> str:
    """Draw the accuracies with their intervals. Return "" without probes."""
    if run.probe is None:
        return ""
    figure, (ax,) = new_axes(1, width=7.5)
    probes = list(_PROBE_NAMES)
    rows = run.probe["rows"]
    height = 0.8 / len(rows)
    for i, (colour, row) in enumerate(zip(COLOURS, rows, strict=False)):
        y = [p - 0.4 + (i + 0.5) * height for p in range(len(probes))]
        values = [100 * row[p]["accuracy"] for p in probes]
        errors = [
            [100 * (row[p]["accuracy"] - row[p]["low"]) for p in probes],
            [100 * (row[p]["high"] - row[p]["accuracy"]) for p in probes],
        ]
        ax.barh(y, values, height * 0.9, xerr=errors, color=colour, ecolor=INK, capsize=2, label=row["encoder"])
    ax.axvline(100 * run.probe["chance"], color=INK, linestyle="--", linewidth=0.8)
    ax.set_yticks(range(len(probes)), [_PROBE_NAMES[p] for p in probes])
    ax.set(xlabel="accuracy on unseen videos, % (95 % Wilson interval; dashed: chance)", xlim=(0, 100))
    ax.invert_yaxis()  # the order of the table
    ax.legend(frameon=False, loc="lower right")
    ax.grid(False, axis="y")
    return svg(figure)
