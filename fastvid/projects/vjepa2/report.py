"""Sections of a classifier's page: how good it is, at what cost, and where it errs."""

import math

from fastvid.projects.sweep import shown
from fastvid.report.figures import COLOURS, new_axes, svg
from fastvid.report.markup import beside, picture, section, table, text
from fastvid.report.page import ProjectSections
from fastvid.report.records import Record, RunRecords

_BESIDE = 10  # classes up to which table and confusion matrix share the page's width
_FOLDED = 30  # classes from which their table is shown on a click

# Pictures of a run that belong to its test, and their captions.
_OF_TEST = {
    "confusion": "Test videos of each class (rows), and what they were taken for (columns).",
    "mistakes": "Wrong answers of the greatest probability: true class \N{RIGHTWARDS ARROW} answer (probability).",
}
_CAPTIONS = {"training views": "Training clips as they would be evaluated, and views of them that are trained on."}


def sections(run: RunRecords) -> ProjectSections:
    """Return the sections of a run: its test where it left ``result.json``, else its validation so far."""
    chart = validation_chart(run)
    if run.result is None:
        waiting = "<p>Not tested yet: the test follows the last epoch, with the best epoch's weights.</p>"
        found, pictures = [section("Validation", waiting + chart)] if chart else [], frozenset[str]()
    else:
        scores, confusion = _classes(run.result), _picture(run, "confusion")
        both = beside(scores, confusion) if len(run.result["classes"]) <= _BESIDE else scores + confusion
        found = [
            _headline(run.result),
            section("Classes", both + _calibration(run.result["test"], len(run.result["classes"]))),
            section("Validation", chart),
            section("Mistakes", _picture(run, "mistakes")),
            section("What it took", _cost(run.result)),
        ]
        pictures = frozenset(_OF_TEST)
    return ProjectSections(found, shows_loss=bool(chart), shown=pictures, captions=_CAPTIONS)


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


def _headline(result: Record) -> str:
    test, best = result["test"], result["best"]
    support = [scores["support"] for scores in test["per_class"].values()]
    most = 100 * max(support) / sum(support)
    leaks = "".join(f"<p class='bad'><b>Leak:</b> {text(sentence)}</p>" for sentence in result.get("leaks") or ())
    top5 = ""
    if test.get("top5") is not None:
        top5 = f" The true class is among the five likeliest for {100 * test['top5']:.1f} % of them."
    return (
        f"<p class='big'>Test accuracy <b>{100 * test['accuracy']:.1f} %</b> [{100 * test['low']:.1f}, "
        f"{100 * test['high']:.1f}] <span class='sub'>{test['correct']:,} of {test['total']:,} videos; in brackets: "
        "95 % Wilson interval</span></p>"
        f"<p>{len(result['classes']):,} classes; always naming the most frequent one would be right for {most:.1f} %."
        f"{top5} Tested once, with the weights of epoch {best['epoch']:g} (step {best['step']:,}), the best of "
        f"{len(result['curves']['step'])} validated: {_interval(result['val'])} of {result['val']['total']:,} "
        f"validation videos.{_train(result)}</p>{leaks}"
    )


def _train(result: Record) -> str:
    share = result.get("train_accuracy")
    return "" if share is None else f" On training clips of the last epoch: {100 * share:.1f} %."


def _cost(result: Record) -> str:
    videos, optim, side = result["videos"], result["optim"], result["size"]
    per_class = result["videos_per_class"]
    amount = "" if per_class is None else f" ({per_class:,} a class)"
    accumulated = "" if optim["accumulate"] == 1 else f" in {optim['accumulate']} micro-batches"
    trainable, total = result["parameters"]["trainable"], result["parameters"]["total"]
    facts = {
        "approach": f"<b>{text(result['approach'])}</b> of {text(result['model'])}",
        "parameters": f"{trainable:,} trainable of {total:,} ({100 * trainable / total:.3g} %)",
        "adapters": _adapters(result["lora"]),
        "videos": f"{videos['train']:,} to train on{amount}, {videos['val']:,} to validate, {videos['test']:,} to test",
        "clips": f"{result['frames']} frames of {side} x {side} pixels, {text(result['precision'])}",
        "optimisation": (
            f"{optim['steps']:,} steps of {optim['batch']} clips{accumulated}, learning rate {optim['lr']:g}, weight "
            f"decay {optim['weight_decay']:g}, seed {result['seed']}"
        ),
        "time": _time(result["time"]),
        "inference": _milliseconds(result["test"].get("inference_ms_per_clip")),
        "peak memory": _memory(result["memory"]),
    }
    return table((), [(name, fact) for name, fact in facts.items() if fact])


def _adapters(lora: Record | None) -> str:
    return "" if lora is None else f"LoRA of rank {lora['rank']}, alpha {lora['alpha']:g}, dropout {lora['dropout']:g}"


def _time(seconds: Record) -> str:
    features, training = seconds["features_s"], seconds["train_s"]
    parts = f"{features:.1f} s for frozen features, {training:.1f} s of training" if features else "training"
    return f"{(features + training) / 60:.1f} minutes: {parts}; {seconds['seconds_per_clip']:.3g} s per training clip"


def _milliseconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} ms per clip, from pixels to logits, one at a time"


def _memory(memory: Record) -> str:
    gpu = memory.get("gpu_peak_gb")
    return f"{memory['peak_rss_gb']:.2f} GB" + ("" if gpu is None else f", on the GPU {gpu:.2f} GB")


def _classes(result: Record) -> str:
    test = result["test"]
    rows = [
        (text(name), _percent(s["precision"]), _percent(s["recall"]), _percent(s["f1"]), f"{s['support']:,}")
        for name, s in test["per_class"].items()
    ]
    rows.append(("<b>mean</b>", "", _percent(test.get("balanced_accuracy")), _percent(test.get("macro_f1")), ""))
    found = table(("class", "precision, %", "recall, %", "F1, %", "test videos"), rows, numbers=(1, 2, 3, 4))
    if len(result["classes"]) > _FOLDED:
        found = (
            f"<details><summary>precision, recall and F1 of {len(result['classes'])} classes</summary>{found}</details>"
        )
    return found


def _calibration(test: Record, classes: int) -> str:
    if test.get("nll") is None or test.get("ece") is None:
        return ""
    return (
        f"<p>Calibration: the mean of -log p of the true class is {test['nll']:.3f} nats (NLL; equal probabilities for "
        f"all classes have {math.log(classes):.3f}), and probabilities miss the share of right answers by "
        f"{100 * test['ece']:.1f} points on average (ECE, 15 bins).</p>"
    )


def _picture(run: RunRecords, name: str) -> str:
    return picture(_OF_TEST[name], run.pictures[name]) if name in run.pictures else ""


def _interval(accuracy: Record) -> str:
    return shown(accuracy["accuracy"], accuracy["low"], accuracy["high"], "%")


def _percent(share: float | None) -> str:
    return "&ndash;" if share is None else f"{100 * share:.1f}"
