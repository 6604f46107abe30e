"""The page of a trajectory run: who meets the conditions, what the figures mean, and what they are worth."""

from collections.abc import Iterable, Mapping
from typing import Any

from fastvid.projects.trajectory.recipe_files import EFFICIENCY, RESULT
from fastvid.projects.trajectory.tracker_scores import GOALS
from fastvid.projects.trajectory.workers import WORKERS
from fastvid.report.figures import COLOURS, INK, new_axes, svg
from fastvid.report.markup import section, table, text
from fastvid.report.page import ProjectSections
from fastvid.report.records import RunRecords, read_json

Values = Mapping[str, Any]


def sections(run: RunRecords) -> ProjectSections:
    """Return a run's own sections; none before it has come to its end."""
    found = read_json(run.path / RESULT)
    if found is None:
        return ProjectSections([])
    first = next(iter(found["models"].values()))
    own = [
        _headline(found),
        section("Workers, on test videos", _workers(found)),
        section("Features and supervision", _two_by_two(found)),
        section("What the same figures are without learning", _controls(found)),
        section("Rules", _rules(found)),
        section("Tracks", _tracking(found)),
        section("Early decisions", _early(found, first)),
        section("Deletion: does the answer depend on what is attended to?", _deletion(found)),
        section("What early decisions save", _savings(read_json(run.path / EFFICIENCY))),
        section("Calibration", _calibration(found)),
    ]
    return ProjectSections(own)


def _headline(found: Values) -> str:
    videos = found["videos"]
    return (
        f"<p>Variant <b>{text(found['variant'])}</b>, task <b>{text(found['task'])}</b> ({len(found['classes'])} "
        f"classes), "
        f"tracker {text(found['tracker'])}, seed {found['seed']}. {videos['train']:,} videos to train, "
        f"{videos['val']:,} to "
        f"validate, {videos['test']:,} to test: {found['tracks']:,} tracks and {found['tokens']:,} tokens, of which "
        f"{_percent(found['persistent_tracks'])} % and {_percent(found['persistent_tokens'])} % are persistent. In "
        f"brackets: "
        "95 % intervals over videos of this one run; other seeds spread wider.</p>"
    )


def _workers(found: Values) -> str:
    stop, rows = found["stop"], []
    for name, model in found["models"].items():
        if model["role"] != "worker":
            continue
        attention, lows = model["attention"], min(model["target"]["low"], model["verdict"]["low"])
        met = {
            "accuracy": lows >= stop["accuracy"],
            "ratio": (attention["ratio_low"] or 0) >= stop["ratio"],
            "consistency": attention["consistency_low"] >= stop["consistency"],
        }
        rows.append(
            (
                f"<b>{text(name)}</b> <span class='sub'>{text(WORKERS[name].summary)} "
                f"({text(model['features'])})</span>",
                _accuracy(model["target"]), _accuracy(model["verdict"]), _ratio(attention), _consistency(attention),
                ", ".join(f"<span class='{'good' if ok else 'bad'}'>{option} {'yes' if ok else 'no'}</span>"
                          for option, ok in met.items()),
                f"{found['steps'][name] / found['epoch_steps']:.3g}",
            )
        )  # fmt: skip
    note = (
        f"<p>Conditions, by the lower ends: accuracies of class and of verdicts at least "
        f"{_percent(stop['accuracy'])} %, ratio "
        f"at least {stop['ratio']:g}, consistency (videos with a ratio above 1.3) at least "
        f"{_percent(stop['consistency'])} %. "
        "Accuracies are balanced: a constant answer has "
        f"{_percent(1 / len(found['classes']))} % and 50 %. The ratio is the attention per persistent token over "
        f"that per "
        "transient token, of the one query that decides the class; uniform attention has exactly 1.</p>"
    )
    head = ("worker", "class, %", "verdicts, %", "attention ratio", "consistency, %", "conditions", "epochs")
    return table(head, rows) + note


def _two_by_two(found: Values) -> str:
    cells = {(m["term"], m["features"]): (name, m) for name, m in found["models"].items() if m["role"] != "control"}
    features = list(dict.fromkeys(feature for _, feature in cells))
    rows = []
    for term, words in (("attention", "attention supervised"), (None, "not supervised")):
        row = [f"<b>{words}</b>"]
        for feature in features:
            if (term, feature) not in cells:
                row.append("not trained")
                continue
            name, m = cells[term, feature]
            row.append(
                f"ratio {_ratio(m['attention'])}<br>consistency {_consistency(m['attention'])} %<br>class "
                f"{_accuracy(m['target'])} %<br>verdicts {_accuracy(m['verdict'])} %<br><span "
                f"class='sub'>{text(name)}</span>"
            )
        rows.append(row)
    unsupervised = [m for (term, _), (_, m) in cells.items() if term is None]
    by_itself = [m for m in unsupervised if (m["attention"]["ratio_low"] or 0) >= found["stop"]["ratio"]]
    said = ""
    if by_itself:
        said = (
            f"<p><b>Without supervision {len(by_itself)} of {len(unsupervised)} models attend to persistent objects by "
            "themselves</b>: what the query has to answer can only be read from these. Here the ratio is no merit of "
            "the "
            "supervision.</p>"
        )
    return table(("", *map(text, features)), rows) + said


def _controls(found: Values) -> str:
    rows: list[tuple[str, ...]] = []
    for name, model in found["models"].items():
        if model["role"] == "worker":
            null = model["null"]
            if null is not None:
                rows.append(
                    (f"{text(name)}: kinds permuted over whole tracks ({null['draws']} times)", "", "",
                     f"{null['ratio']:.2f} [{null['low']:.2f}, {null['high']:.2f}]; p = {null['p']:.2g}",
                     _percent(null["consistency"]))
                )  # fmt: skip
            if model.get("rollout"):
                rows.append(
                    (f"{text(name)}: rollout, attention on the inputs through all layers", "", "",
                     _ratio(model["rollout"]), _consistency(model["rollout"]))
                )  # fmt: skip
    untrained = found["untrained"]
    rows.append(_row("untrained network", untrained))
    for name, words in (("label-shuffle", "trained on shuffled labels"), ("other-seed", "supervised, another seed")):
        if name in found["models"]:
            rows.append(_row(words, found["models"][name]))
    rows.append(("uniform attention", "", "", _ratio(found["uniform"]), _consistency(found["uniform"])))
    excluded = next(iter(found["models"].values()))["attention"]["excluded"]
    note = f"<p>{excluded} test videos have objects of one kind only: they have no ratio and are left out.</p>"
    return table(("", "class, %", "verdicts, %", "attention ratio", "consistency, %"), rows) + note


def _row(words: str, scores: Values) -> tuple[str, ...]:
    attention = scores["attention"]
    target, verdict = _accuracy(scores["target"]), _accuracy(scores["verdict"])
    return words, target, verdict, _ratio(attention), _consistency(attention)


def _rules(found: Values) -> str:
    rules = found["baselines"]
    rows = [
        ("constant answer", _percent(rules["constant"])),
        ("colour of a track's first crop", _percent(rules["colour"])),
        ("a track's first crop and box: colour, size, place, time", _percent(rules["one_frame"])),
        (f"tracks of at least {rules['length_least']} tokens are persistent", _percent(rules["length"])),
    ]
    if rules["oracle"] is not None:
        rows.append((f"the same rule on true tracks (at least {rules['oracle_least']})", _percent(rules["oracle"])))
    note = ""
    if rules["one_frame"] > 0.9:
        note = (
            "<p><b>A single frame gives the kinds away</b>: on these videos verdicts say nothing about seeing what "
            "persists. The variant hard has no such cue.</p>"
        )
    return table(("rule, on the test tracks", "balanced accuracy, %"), rows, numbers=(1,)) + note


def _tracking(found: Values) -> str:
    scores = found["tracking"]
    if scores is None:
        return ""
    names = {
        "detection_recall": "detection recall, visible objects", "occluded_recall": "the same, occluded",
        "hota": "HOTA",
        "deta": "DetA", "assa": "AssA", "idf1": "IDF1", "mota": "MOTA", "purity": "purity",
        "completeness": "completeness", "kept": "tracks kept through occlusion",
    }  # fmt: skip
    rows = [
        (words, _percent(scores[name]), f"above {_percent(GOALS[name])}" if name in GOALS else "")
        for name, words in names.items()
    ]
    rows.append(("identity switches", f"{scores['switches']:,} of {scores['objects']:,} boxes", ""))
    note = f"<p>Tracker {text(found['tracker'])}, against the truth of {scores['videos']} test videos.</p>"
    return table(("", "%", "goal on the variant seed"), rows, numbers=(1,)) + note


def _early(found: Values, first: Values) -> str:
    figure, (left, right) = new_axes(2, width=10.2, height=3.2)
    frames = range(1, found["frames"] + 1)
    workers = {name: m for name, m in found["models"].items() if m.get("early")}
    for colour, (name, model) in zip(COLOURS, workers.items(), strict=False):
        early = model["early"]
        left.plot(frames, _points(early["accuracy"]), color=colour, marker=".", label=name)
        left.fill_between(frames, _points(early["low"]), _points(early["high"]), color=colour, alpha=0.15, linewidth=0)
        right.plot(frames, [100 * value for value in early["target_by_frame"]], color=colour, marker=".", label=name)
    left.plot(frames, _points(first["early"]["ceiling"]), color=INK, linestyle="--", label="ceiling")
    left.set(title="verdicts, balanced accuracy, %", xlabel="frames since the track's birth", ylim=(40, 102))
    right.axhline(100 / len(found["classes"]), color=INK, linewidth=0.8, linestyle=":")
    right.set(title="class, balanced accuracy, %", xlabel="frames of the video", ylim=(0, 102))
    for ax in (left, right):
        ax.legend(frameon=False, fontsize=8, loc="lower right")
    rows, alarms = [], []
    for name, model in workers.items():
        early, taken = model["early"], model["early"]["decisions"]
        rows.append(
            (text(name), _percent(taken["coverage"]),
             "-" if taken["mean_frames"] is None else f"{taken['mean_frames']:.2f}", _percent(taken["wrong_early"]),
             _percent(taken["balanced_accuracy"]))
        )  # fmt: skip
        if early["above_ceiling"]:
            frames_ = ", ".join(map(str, early["above_ceiling"]))
            alarms.append(
                f"<p class='bad'><b>Leak?</b> {text(name)} is above the ceiling after {frames_} frames, by the lower "
                f"end of "
                "its interval: it knows something that cannot be known by then.</p>"
            )
    head = ("worker", "decided, %", "frames to a decision", "of these wrong, %", "verdicts acted on, balanced, %")
    note = (
        "<p>Ceiling: the best rule that knows for how long a track has been seen; 100 % where a rule on one frame "
        "tells the kinds apart, for then nothing is known ahead. Decided: at the first frame with "
        f"a probability of {first['early']['confidence']:g}, after the temperature of its age.</p>"
    )
    return svg(figure) + "".join(alarms) + table(head, rows, numbers=(1, 2, 3, 4)) + note


def _deletion(found: Values) -> str:
    workers = {name: m["deletion"] for name, m in found["models"].items() if m.get("deletion")}
    figure, axes = new_axes(len(workers), width=4.6 * len(workers))
    for ax, (name, deletion) in zip(axes, workers.items(), strict=True):
        for colour, (order, curve) in zip(COLOURS, deletion["curves"].items(), strict=False):
            shares = [100 * share for share in deletion["shares"]]
            ax.plot(shares, _points(curve), color=colour, marker=".", label=order)
        ax.set(title=f"{name}: class, %", xlabel="tokens deleted, %", ylim=(0, 102))
        ax.legend(frameon=False, fontsize=8)
    rows = [
        (text(name), *(_accuracy(deletion[which]) for which in ("nothing", "transient", "as many persistent")))
        for name, deletion in workers.items()
    ]
    head = ("class, balanced, %", "nothing deleted", "all transient deleted", "as many persistent deleted")
    return svg(figure) + table(head, rows)


def _savings(found: Values | None) -> str:
    if found is None:
        return ""
    rows = [
        ("tokens", _percent(found["tokens_saved"]), _percent(found["tokens_ceiling"])),
        ("arithmetic", _percent(found["flops_saved"]), _percent(found["flops_ceiling"])),
    ]
    clock = found["wall_clock"]
    rows.append(("wall clock, from pixels to verdicts, one video at a time", _percent(clock["wall_clock_saved"]), ""))
    change = found["target_change"]
    verdict = "not worse by a point" if change["not_worse"] else "<b>possibly worse by more than a point</b>"
    return (
        table(("after the decisions", "saved, %", "most that these videos allow, %"), rows, numbers=(1, 2))
        + f"<p>Accuracy of the class changes by {100 * change['mean']:+.1f} points [{100 * change['low']:+.1f}, "
        f"{100 * change['high']:+.1f}]: {verdict}. A token can be dropped only after its track was decided. "
        "Where more is saved than the most, persistent tracks were dropped by mistake. A video takes "
        f"{1000 * clock['seconds_per_video']:.0f} ms, of which detection and tracking are "
        f"{1000 * clock['detection_and_tracking_s'] / clock['videos']:.0f} and crops and features "
        f"{1000 * clock['crops_and_features_s'] / clock['videos']:.0f}.</p>"
    )


def _calibration(found: Values) -> str:
    rows = []
    for name, model in found["models"].items():
        if not model.get("calibration"):
            continue
        c = model["calibration"]
        rows.append(
            (text(name), f"{c['verdict']['nll']:.3f}", _percent(c["verdict"]["ece"]), f"{c['temperature']:.2f}",
             f"{c['verdict_calibrated']['nll']:.3f}", _percent(c["verdict_calibrated"]["ece"]),
             f"{c['target']['nll']:.3f}", _percent(c["target"]["ece"]))
        )  # fmt: skip
    head = (
        "worker", "verdicts: NLL", "ECE, %", "temperature, of validation videos", "NLL after", "ECE after, %",
        "class: NLL", "ECE, %",
    )  # fmt: skip
    return table(head, rows, numbers=range(1, 8))


def _points(values: Iterable[float | None]) -> list[float]:
    return [float("nan") if value is None else 100 * value for value in values]


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"


def _accuracy(found: Values) -> str:
    return f"{_percent(found['balanced_accuracy'])} [{_percent(found['low'])}, {_percent(found['high'])}]"


def _ratio(found: Values) -> str:
    if found["ratio"] is None:
        return "no video has both kinds"
    return f"{found['ratio']:.2f} [{found['ratio_low']:.2f}, {found['ratio_high']:.2f}]"


def _consistency(found: Values) -> str:
    if found["consistency"] is None:
        return "-"
    low, high = _percent(found["consistency_low"]), _percent(found["consistency_high"])
    return f"{_percent(found['consistency'])} [{low}, {high}]"
