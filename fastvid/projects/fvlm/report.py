"""The page of an fVLM run: does the second look help, where does it look, and what are the figures worth."""

from collections.abc import Mapping
from typing import Any

from fastvid.projects.fvlm.measures import ALL
from fastvid.projects.fvlm.recipe_files import GAZE_VIDEO, RESULT
from fastvid.projects.fvlm.reconstruct_report import reconstruction, told_note
from fastvid.report.figures import COLOURS, GRID, INK, new_axes, svg
from fastvid.report.markup import section, table, text, video
from fastvid.report.page import ProjectSections
from fastvid.report.records import RunRecords, read_json

Values = Mapping[str, Any]

_RATIOS = {
    "fair": "coarse pass of the same model, trained with it",
    "alone": "a model whose coarse pass alone was trained",
}


def sections(run: RunRecords) -> ProjectSections:
    """Return a run's own sections: its curves, and at its end all that was measured."""
    curves = section("Learning, on validation clips", _curves(run))
    found = read_json(run.path / RESULT)
    if found is None:
        return ProjectSections([curves], shows_loss=bool(curves))
    told = found.get("told", False)  # then no answer was learnt
    own = [
        _headline(found),
        section("Acceptance", _acceptance(found)),
        section("Answers, on test clips", "" if told else _answers(found)),
        section("Is the second look worth it?", "" if told else _ratios(found)),
        section("Reconstruction, on test clips", reconstruction(found)),
        section("Where it looked", _hits(found) + _entropy(found) + _diversity(found)),
        section("A gaze, frame by frame", _video(run)),
        section("What it said", "" if told else _samples(found)),
        curves,
    ]
    return ProjectSections(own, shows_loss=bool(curves))


def _headline(found: Values) -> str:
    clips, alarms = found["clips"], [looks["entropy"]["alarm"] for looks in found["looks"].values()]
    said = "".join(
        f"<p class='bad'><b>Dead gaze.</b> The {text(name)} pass: {text(alarm)}.</p>"
        for name, alarm in zip(found["looks"], alarms, strict=True)
        if alarm
    )
    return (
        f"<p>Mode <b>{text(found['mode'])}</b>, {text(found['layout'])}, {text(found['query'])} query, first query "
        f"{'from the text' if found['first_query'] == 'text' else 'learnt'}, weight of the coarse pass "
        f"{found['coarse_weight']:g}, seed {found['seed']}. {clips['train']:,} clips to train, {clips['val']:,} to "
        f"validate, {clips['test']:,} to test with {found['questions']:,} questions; {found['frames']} frames a clip, "
        f"{found['tokens']} tokens a frame. In brackets: 95 % intervals over the test clips of this one run; other "
        f"seeds spread wider.</p>{told_note(found)}{_restarts(found)}{said}"
    )


def _restarts(found: Values) -> str:
    if not found["restart"]["step"]:
        return ""
    rule = (
        f"a model whose fine pass is not {100 * found['restart']['margin']:g} points of validation accuracy above its "
        f"coarse pass at step {found['restart']['step']:,} is given up for one with other first weights (most "
        f"restarts: {found['restart']['times']})"
    )
    if not found["given_up"]:
        return f"<p>No restart was needed; the rule: {rule}.</p>"
    reached = ", ".join(f"{100 * value:.1f} %" for value in found["given_up"])
    return f"<p><b>{len(found['given_up'])} given up</b>, with {reached}; the rule: {rule}.</p>"


def _acceptance(found: Values) -> str:
    if not found["acceptance"]:
        return ""
    rows = [
        (
            f"{text(row['task'])}: {text(row['measure'])}, {text(row['condition'])}",
            f"{row['kind']} {row['bound']:g}", _number(row["value"]),
            f"<span class='{'good' if row['met'] else 'bad'}'>{'met' if row['met'] else 'not met'}</span>",
            text(row["words"]),
        )
        for row in found["acceptance"]
    ]  # fmt: skip
    met = sum(row["met"] for row in found["acceptance"])
    note = f"<p class='big'>{met} of {len(rows)} met</p>"
    return note + table(("measure", "wanted", "reached", "", "what it shows"), rows, numbers=(2,))


def _answers(found: Values) -> str:
    tasks = _tasks(found)
    rows = []
    for name, by_task in found["answers"].items():
        cells = [_share(by_task[task], "accuracy") for task in tasks]
        losses = [_share(by_task[task], "ce") for task in tasks]
        rows.append((f"<b>{text(name)}</b> <span class='sub'>{text(found['words'][name])}</span>", *cells, *losses))
    head = ("", *(f"{text(task)}: accuracy" for task in tasks), *(f"{text(task)}: CE" for task in tasks))
    note = (
        "<p>Accuracy: share of the answer's words, without its end, that are the likeliest token after the true ones "
        "before them. CE: mean cross-entropy of a token of the answer, its end included, in nats. All conditions but "
        "<i>coarse alone</i> are of one model and the same questions.</p>"
    )
    return table(head, rows) + note


def _ratios(found: Values) -> str:
    rows = [
        (text(task), text(words), f"{one['ratio']:.3g} [{one['low']:.3g}, {one['high']:.3g}]")
        for task, ratios in found["ratios"].items()
        for name, words in _RATIOS.items()
        if (one := ratios.get(name)) is not None
    ]
    legacy = "not recorded" if found["legacy_ratio"] is None else f"{found['legacy_ratio']:.3g}"
    fair = found["coarse_weight"] > 0
    said = (
        "" if fair else "<p class='bad'>The weight of the coarse pass is 0: it was not trained, and its ratio compares "
        "a trained pass with an untrained one. Only the model trained alone is a fair opponent.</p>"
    )  # fmt: skip
    note = (
        "<p>Cross-entropy of the coarse pass over that of the fine one, on the same questions; in brackets a paired "
        "bootstrap over clips. Above 1 the second look helps. Where the fine cross-entropy is close to 0 the ratio is "
        "large and unsteady: read the accuracies.</p>"
        f"<p>Legacy ratio, the mean of the last recorded ratios of training batches: <b>{legacy}</b>. Earlier foveated "
        "models were judged by it while their coarse pass had no part in the loss.</p>"
    )
    return said + table(("task", "coarse: which", "CE coarse / CE fine"), rows) + note


def _hits(found: Values) -> str:
    rows = []
    for name, looks in found["looks"].items():
        for task, hits in looks["hits"].items():
            if hits["hit_rate"] is None or task == ALL:
                continue
            by_frame = " ".join("-" if value is None else f"{value:.2f}" for value in hits["by_frame"])
            rows.append(
                (text(name), text(task), f"{hits['hit_rate']:.3f}", f"{hits['mass']:.3f}", f"{hits['chance']:.3f}",
                 by_frame)
            )  # fmt: skip
    if not rows:
        return "<p>Where the answers are is not known for these clips: hits cannot be counted.</p>"
    note = (
        "<p>Hit: the first layer's attention, averaged over its heads, is greatest on the patch that holds the answer. "
        "Mass: its attention there. Layer and mean were fixed in advance.</p>"
    )
    return table(("pass", "task", "hit rate", "mass", "chance", "hit rate by frame"), rows, numbers=(2, 3, 4)) + note


def _entropy(found: Values) -> str:
    looks = found["looks"]
    first = next(iter(looks.values()))["entropy"]
    most, layers = first["uniform"], len(first["by_layer_and_head"])
    figure, (left, right) = new_axes(2, width=10.2, height=3.2)
    for colour, (name, one) in zip(COLOURS, looks.items(), strict=False):
        entropy = one["entropy"]
        by_layer = [sum(heads) / len(heads) for heads in entropy["by_layer_and_head"]]
        left.plot(range(1, layers + 1), by_layer, color=colour, marker="o", label=name)
        for layer, heads in enumerate(entropy["by_layer_and_head"], 1):
            left.scatter([layer] * len(heads), heads, color=colour, s=9, alpha=0.5)
        values = [float("nan") if value is None else value for value in entropy["by_frame"]]
        right.plot(range(1, len(values) + 1), values, color=colour, marker="o", label=name)
    for ax in (left, right):
        ax.axhline(most, color=INK, linewidth=0.8, linestyle="--")
        ax.set(ylim=(0, 1.06 * most))
        ax.legend(frameon=False, fontsize=8)
    left.set(title="entropy by layer, nats (small: heads)", xlabel="layer", xticks=range(1, layers + 1))
    right.set(title="entropy by frame, nats", xlabel="frame")
    right.set_xticks(range(1, len(first["by_frame"]) + 1))
    rows = [
        (
            text(name), f"{one['entropy']['mean']:.3f}", f"{one['entropy']['mean'] / most:.3f}",
            ", ".join(f"{layer + 1}.{head + 1}" for layer, head in one["entropy"]["uniform_heads"]) or "none",
        )
        for name, one in looks.items()
    ]  # fmt: skip
    head = ("pass", "mean entropy, nats", f"of ln {first['tokens']} = {most:.3f}", "uniform heads (layer.head)")
    note = (
        "<p>Dashed: uniform attention. A head counts as uniform from 99 % of it. A layer whose heads are all uniform "
        "gives every query the same answer, and rings an alarm above.</p>"
    )
    return svg(figure) + table(head, rows, numbers=(1, 2)) + note + _heads(found)


def _heads(found: Values) -> str:
    """Draw the entropy of every head in every frame, for each pass."""
    looks = found["looks"]
    figure, axes = new_axes(len(looks), width=10.2, height=2.6)
    for ax, (name, one) in zip(axes, looks.items(), strict=True):
        cube = one["entropy"]["by_layer_frame_and_head"]
        page = [
            [float("nan") if frame[head] is None else frame[head] for frame in layer]
            for layer in cube
            for head in range(len(layer[0]))
        ]
        image = ax.imshow(page, aspect="auto", cmap="viridis", vmin=0, vmax=one["entropy"]["uniform"])
        heads = len(cube[0][0])
        ax.set_yticks(range(len(page)), [f"{i // heads + 1}.{i % heads + 1}" for i in range(len(page))], size=7)
        ax.set_xticks(range(len(cube[0])), [str(number + 1) for number in range(len(cube[0]))])
        ax.set(title=f"{name}: entropy, nats", xlabel="frame", ylabel="layer.head")
        ax.set_facecolor(GRID)
        ax.grid(False)
        figure.colorbar(image, ax=ax, fraction=0.05, pad=0.02)
    return svg(figure)


def _diversity(found: Values) -> str:
    groups = list(next(iter(found["looks"].values()))["diversity"])
    rows = [
        (text(name), *(_number(looks["diversity"][group]) for group in groups))
        for name, looks in found["looks"].items()
    ]
    note = (
        "<p>Diversity of queries: mean of 1 - cosine over pairs. At 0 every query is the same, and every look with "
        "it.</p>"
    )
    return table(("pass", *map(text, groups)), rows, numbers=range(1, 1 + len(groups))) + note


def _video(run: RunRecords) -> str:
    path = run.path / GAZE_VIDEO
    return video("The gaze that was used: fine pass and coarse pass side by side", path) if path.is_file() else ""


def _samples(found: Values) -> str:
    rows = [
        (text(one["key"]), text(one["question"]), text(one["answer"]), *(_said(one, name) for name in found["said"]))
        for one in found["samples"]
    ]
    note = "<p>Greedy answers, written word by word without knowing the true ones.</p>"
    return table(("clip", "question", "true answer", *map(text, found["said"])), rows) + note if rows else ""


def _said(sample: Values, name: str) -> str:
    kind = "good" if sample["right"][name] else "bad"
    return f"<span class='{kind}'>{text(sample['said'][name]) or '(nothing)'}</span>"


def _curves(run: RunRecords) -> str:
    names = sorted({name for record in run.metrics for name in record if name.startswith("val_accuracy_")})
    if not names:
        return ""
    figure, (left, right) = new_axes(2, width=10.2, height=3.2)
    for stage in run.stages:
        for i, name in enumerate(names):
            steps, values = run.series(stage, name)
            label = name.removeprefix("val_accuracy_").replace("_", " ")
            style = ":" if stage == "coarse" else "-"
            if not steps:
                continue
            left.plot(steps, values, color=COLOURS[i % len(COLOURS)], linestyle=style, label=_stage_label(label, stage))
        for colour, name in zip(COLOURS, ("fine_loss", "coarse_loss"), strict=False):
            steps, values = run.series(stage, name)
            style = ":" if stage == "coarse" else "-"
            if not steps:
                continue
            right.plot(steps, values, color=colour, linestyle=style, label=_stage_label(name.replace("_", " "), stage))
    left.set(title="accuracy on validation clips", xlabel="optimizer step", ylim=(0, 1.02))
    right.set(title="training loss, nats a token", xlabel="optimizer step")
    for ax in (left, right):
        if ax.get_legend_handles_labels()[0]:
            ax.legend(frameon=False, fontsize=7)
    return svg(figure)


def _stage_label(label: str, stage: str) -> str:
    return label if stage == "fine" else f"{label} ({'alone' if stage == 'coarse' else stage})"


def _tasks(found: Values) -> list[str]:
    tasks = [task for task in next(iter(found["answers"].values())) if task != ALL]
    return tasks if len(tasks) > 1 else [ALL]


def _share(found: Values, name: str) -> str:
    value, low, high = (found[key] for key in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
