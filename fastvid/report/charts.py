"""Charts of a run, as SVG text."""

from fastvid.report.figures import COLOURS, GRID, new_axes, scale_logarithmically, svg
from fastvid.report.records import RunRecords

_PARTS = ("data", "forward", "backward", "optimizer")


def loss_chart(run: RunRecords) -> str:
    """Draw the loss of each stage, and the loss of predicting the mean."""
    figure, axes = new_axes(max(1, len(run.stages)), measured=False)
    for ax, stage in zip(axes, run.stages, strict=False):
        ax.plot(*run.series(stage, "loss"), color=COLOURS[0], label="training loss")
        steps, values = run.series(stage, "health_mean_predictor_loss")
        if steps:
            ax.plot(steps, values, color=COLOURS[1], linestyle="--", label="predicting the mean")
            ax.plot(*run.series(stage, "health_probe_loss"), color=COLOURS[2], marker=".", label="fixed batch")
        ax.set(title=f"{stage}: loss", xlabel="optimizer step")
        scale_logarithmically(ax)
        ax.legend(frameon=False)
    return svg(figure)


def schedule_chart(run: RunRecords) -> str:
    """Draw learning rate, weight decay and gradient norm."""
    figure, axes = new_axes(3, measured=False)
    for ax, name, title in zip(
        axes, ("lr", "weight_decay", "grad_norm"), ("learning rate", "weight decay", "gradient norm"), strict=True
    ):
        for colour, stage in zip(COLOURS, run.stages, strict=False):
            ax.plot(*run.series(stage, name), color=colour, label=stage)
        ax.set(title=title, xlabel="optimizer step")
        ax.legend(frameon=False)
    scale_logarithmically(axes[2])
    return svg(figure)


def health_chart(run: RunRecords) -> str:
    """Draw rank and spread of the encoders' tokens. Return "" when no checks were made."""
    if not any(run.series(stage, "health_rank")[0] for stage in run.stages):
        return ""
    figure, axes = new_axes(2, measured=False)
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
