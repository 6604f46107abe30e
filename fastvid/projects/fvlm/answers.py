"""``python -m fastvid.eval RUN`` of an fVLM run: how good its answers about other videos are."""

import contextlib
import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from fastvid.command import UserError, user_errors
from fastvid.data import (
    ChatFormat,
    PaddedEvaluation,
    Quarantine,
    Source,
    TextChoice,
    TextCollator,
    classes_of,
    eval_batches,
    open_described,
)
from fastvid.data.loader.spans import SpanEvaluation
from fastvid.data.sources.choices import lists_of_choices, open_choices
from fastvid.projects.fvlm.answers_config import AnswersConfig
from fastvid.projects.fvlm.choice_results import as_text, measured, table
from fastvid.projects.fvlm.choice_test import ChoiceTest
from fastvid.projects.fvlm.config import FvlmConfig, TextDataConfig
from fastvid.projects.fvlm.controls import COARSE, FINE, Condition, Trial
from fastvid.projects.fvlm.data import moved
from fastvid.projects.fvlm.evaluation import EvalBatch, Evaluator
from fastvid.projects.fvlm.measures import ALL, ce_ratio
from fastvid.projects.fvlm.model_config import Mode
from fastvid.projects.fvlm.multiple_choice import BLIND
from fastvid.projects.fvlm.results import by_task
from fastvid.projects.fvlm.saved import TrainedFvlm, load
from fastvid.projects.fvlm.stored import check_tokens
from fastvid.random import sample_id
from fastvid.train.logs import progress
from fastvid.video import ViewSpec

log = logging.getLogger(__name__)

_NOTHING = "none of the videos of {} can be used; the reasons are above"
_MOST_TASKS = 20  # labels that have rows of their own; where there are more, they are no tasks


def evaluate(folder: Path, config: AnswersConfig) -> tuple[dict[str, Any], str]:
    """Measure a saved model's answers.

    Args:
        folder: with ``fvlm.json``.
        config: options.

    Returns:
        All measures as plain values, and a table of them.

    Raises:
        UserError: the model or the data cannot be used.
    """
    with user_errors(ValueError):
        trained = load(folder).to("cuda" if torch.cuda.is_available() else "cpu")
        path = Path(config.data.path).expanduser()
        lists = [] if "://" in config.data.path else lists_of_choices(path)
        chat = ChatFormat(trained.tokenizer, trained.model.config.layout)
    _refuse_idle_options(config, bool(lists))
    values, text = _choices(trained, chat, config, lists) if lists else _described(trained, chat, config)
    about = {"model": str(folder), "modes": list(config.modes), "precision": config.precision}
    return {**about, **values}, text


def _refuse_idle_options(config: AnswersConfig, lists: bool) -> None:
    """Raise UserError for an option that this kind of data makes no use of."""
    data, usual = config.data, AnswersConfig
    described = {
        "--data.labels": data.labels is not None, "--data.token-ids": data.token_ids is not None,
        "--prompt": config.prompt != usual.prompt,
    }  # fmt: skip
    chosen = {"--data.videos": data.videos is not None, "--answer": config.answer != usual.answer}
    kind = "videos about which something is written" if lists else "lists of questions with options"
    for option, given in (described if lists else chosen).items():
        if given:
            raise UserError(f"{option} is for {kind}, and {data.path} is something else: leave it out")


def _choices(
    trained: TrainedFvlm, chat: ChatFormat, config: AnswersConfig, lists: list[Path]
) -> tuple[dict[str, Any], str]:
    """Measure answers to multiple-choice questions."""
    videos = None if config.data.videos is None else Path(config.data.videos).expanduser()
    with user_errors(ValueError, FileNotFoundError):
        source = open_choices(lists, videos)
    log.info("%s", source.description)
    for note in source.notes:
        log.warning("%s", note)
    letters = config.answer == "letters"
    test = ChoiceTest(
        trained.model, chat, [*config.modes, *([BLIND] if config.controls else [])], letters,
        letters and config.controls, lambda: _cast(trained, config), config.batch, config.questions,
    )  # fmt: skip
    draws = SpanEvaluation(_views(trained), fps=trained.about["max_fps"], spans=source.spans)
    quarantine = Quarantine(log=log.warning)
    rows = _some(source, config.test)
    asked = []
    with progress(sum(len(source.choices[row]) for row in rows), 0, "questions", "question") as bar:
        for answered in test(source, rows, draws, quarantine):
            asked.append(answered)
            bar.update()
    if not asked:
        raise UserError(_NOTHING.format(config.data.path))
    values = measured(asked, test.conditions, letters=letters)
    left_out = [*source.notes, *(f"not decoded: {key}" for key in quarantine.bad)]
    return {"answer": config.answer, "left_out": left_out, **values}, as_text(values)


def _described(trained: TrainedFvlm, chat: ChatFormat, config: AnswersConfig) -> tuple[dict[str, Any], str]:
    """Measure the cross-entropy of what is written about videos."""
    token_ids = trained.about.get("token_ids", True) if config.data.token_ids is None else config.data.token_ids
    with user_errors(ValueError, FileNotFoundError):
        source = open_described(config.data.path, config.data.labels)
    check_tokens(FvlmConfig(data=TextDataConfig(token_ids=token_ids), model=trained.model.config), [source], chat)
    log.info("%s", source.description)
    choice = TextChoice(0, config.questions, config.prompt, token_ids)
    collate = TextCollator(chat, choice, TextDataConfig.longest, trained.about.get("image_looks", 1))
    quarantine = Quarantine(log=log.warning)
    fine: Mode = next((mode for mode in config.modes if mode != "coarse"), "coarse")
    others: dict[str, Condition] = {mode: _in_mode(mode) for mode in config.modes if mode not in (fine, "coarse")}
    if config.controls:
        others[BLIND] = Condition("the question alone", Trial.no_frames)
    evaluator = Evaluator(
        lambda: _batches(trained, config, source, collate, quarantine), trained.tokenizer.eos_token_id,
        lambda: _cast(trained, config),
    )  # fmt: skip
    found = evaluator(trained.model, fine, others, look=False).answers
    named = {{FINE: fine, COARSE: "coarse"}.get(name, name): answers for name, answers in found.items()}
    named = {name: named[name] for name in (*config.modes, *([BLIND] if config.controls else []))}
    answers = {name: by_task(one) for name, one in named.items()}
    ratios = {} if "coarse" not in named else {
        name: ce_ratio(named["coarse"], one) for name, one in named.items() if name not in ("coarse", BLIND)
    }  # fmt: skip
    values = {
        "questions": len(found[FINE].task), "answers": answers, "ratios": ratios, "cut": collate.cut,
        "left_out": [f"not used: {key}" for key in quarantine.bad],
    }  # fmt: skip
    if collate.cut:
        log.warning("%d conversations are longer than %d tokens, and were cut", collate.cut, collate.longest)
    return values, _as_text(answers, ratios)


def _as_text(answers: Mapping[str, Any], ratios: Mapping[str, Any]) -> str:
    """Return measures by condition and task as a table, with the ratios of the coarse pass to the others."""
    rows = [["", "questions", *answers]]
    for task, first in next(iter(answers.values())).items():
        for measure, words in (("ce", "cross-entropy per token"), ("accuracy", "accuracy of words")):
            found = [[one[task][f"{measure}{end}"] for end in ("", "_low", "_high")] for one in answers.values()]
            cells = [f"{value:.3f} [{low:.3f}, {high:.3f}]" for value, low, high in found]
            rows.append([words if task == ALL else f"{task}: {words}", str(first["questions"]), *cells])
    compared = [
        f"cross-entropy, coarse / {name}: {one['ratio']:.3f} [{one['low']:.3f}, {one['high']:.3f}]"
        for name, one in ratios.items()
    ]
    return "\n".join([*table(rows), *compared])


def _batches(
    trained: TrainedFvlm, config: AnswersConfig, source: Source, collate: TextCollator, quarantine: Quarantine
) -> Iterator[EvalBatch]:
    device = next(trained.parameters()).device
    place = {sample.key: index for index, sample in enumerate(source.samples)}
    batches = eval_batches(
        source, _some(source, config.test), PaddedEvaluation(_views(trained), fps=trained.about["max_fps"]),
        batch=config.batch, quarantine=quarantine, device=device,
        text=collate,
    )  # fmt: skip
    few, batch = len(classes_of(source)) <= _MOST_TASKS, None
    for batch in batches:
        labels = [label if few and label else ALL for label in batch.labels]
        tasks = [label for label, text in zip(labels, batch.text, strict=True) for _ in text.conversations]
        yield EvalBatch(moved(batch, device), [place[key] for key in batch.keys], tasks)
    if batch is None:
        raise UserError(_NOTHING.format(config.data.path))


def _in_mode(mode: Mode) -> Condition:
    return Condition(mode, lambda trial: trial.model(trial.inputs, mode, keys=trial.keys))


def _some(source: Source, most: int | None) -> list[int]:
    """Return the videos and pictures that are tested on, each kind in the source's order: a fair choice where there are
    more. Text alone is about neither."""
    seen = [row for row, sample in enumerate(source.samples) if sample.kind != "text"]
    if not seen:
        raise UserError(f"{source.description}: text alone, and nothing to look at")
    chosen = sorted(seen, key=lambda row: sample_id(source.samples[row].key))[:most]
    return sorted(chosen, key=lambda row: (source.samples[row].kind, row))


def _views(trained: TrainedFvlm) -> ViewSpec:
    return ViewSpec.from_fields(trained.about["views"])


def _cast(trained: TrainedFvlm, config: AnswersConfig) -> contextlib.AbstractContextManager[object]:
    device = next(trained.parameters()).device
    return torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
