"""Multiple-choice questions about videos, as MVBench, Video-MME and NExT-QA write them down."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from fastvid.data.labels.delimited import read_text
from fastvid.data.text.lists import NotAList, entries

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_VIDEO = ("video", "file", "video_path", "videoID", "video_id")
_LETTER = re.compile(r"^\s*\(?([A-Za-z])[.):]\s*")
_YOUTUBE = re.compile(r"[?&]v=([\w-]+)")  # Video-MME's files have the names of its videos there
_NEXT_QA = tuple(f"a{number}" for number in range(5))
_WANTED = "a video, a question, a list of options (or candidates, or a0 to a4), and the answer"


@dataclass(frozen=True)
class Choice:
    """A question with options, one of which is right.

    Attributes:
        video: names under which its video may lie, relative paths with or without an ending, the likeliest first.
        question: its words.
        options: texts of the options, without letters in front.
        answer: number of the right one.
        groups: kinds of question that it belongs to, such as its task and the length of its video.
        span: first and last second of the part of the video that it is about; None for the whole.
        where: the list and the entry, for messages.
    """

    video: tuple[str, ...]
    question: str
    options: tuple[str, ...]
    answer: int
    groups: tuple[str, ...] = ()
    span: tuple[float, float] | None = None
    where: str = ""


def has_choices(path: Path) -> bool:
    """Return whether a list holds multiple-choice questions, as far as its first entry says.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        first = next(_rows(path), None)
    except NotAList:
        return False
    return first is not None and isinstance(first[1], dict) and _options(_first_question(first[1])) is not None


def read_choices(path: Path) -> Iterator[Choice]:
    """Read the questions of a list.

    Args:
        path: ``.json`` with a list, ``.jsonl`` with an object on each line, or ``.csv``. An entry is of one of these
            kinds: MVBench's, with ``video``, ``question``, ``candidates``, ``answer`` (the text), and perhaps
            ``start`` and ``end`` in seconds; Video-MME's, with ``options`` and a letter as the ``answer``, one by one
            or as ``questions`` of a video; NExT-QA's, with ``a0`` to ``a4`` and a number as the ``answer``.

    Raises:
        ValueError: something else; the message names the entry.
    """
    for where, entry in _rows(path):
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: not a question: {entry!r:.80}")
        if isinstance(entry.get("questions"), list):
            shared = {name: value for name, value in entry.items() if name != "questions"}
            for number, question in enumerate(entry["questions"], start=1):
                if not isinstance(question, dict):
                    raise ValueError(f"{where}, question {number}: not a question: {question!r:.80}")
                yield _choice({**shared, **question}, f"{where}, question {number}", path)
        else:
            yield _choice(entry, where, path)


def _rows(path: Path) -> Iterator[tuple[str, Any]]:
    if path.suffix.lower() != ".csv":
        yield from entries(path)
        return
    table = csv.DictReader(io.StringIO(read_text(path)))
    for row in table:
        yield f"{path}, line {table.line_num}", row


def _first_question(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    questions = entry.get("questions")
    several = isinstance(questions, list) and questions and isinstance(questions[0], dict)
    return questions[0] if several else entry  # type: ignore[index] # a list, as was asked


def _options(entry: Mapping[str, Any]) -> list[str] | None:
    """Return the options of an entry as they are written, None where it has none."""
    for name in ("options", "candidates"):
        found = entry.get(name)
        if isinstance(found, list) and all(isinstance(option, str) for option in found):
            return found
    if all(isinstance(entry.get(name), str) for name in _NEXT_QA):
        return [entry[name] for name in _NEXT_QA]
    return None


def _choice(entry: Mapping[str, Any], where: str, path: Path) -> Choice:
    options, question = _options(entry), entry.get("question")
    videos = [str(entry[name]) for name in _VIDEO if isinstance(entry.get(name), str | int) and str(entry[name])]
    if (match := _YOUTUBE.search(str(entry.get("url")))) is not None:
        videos.append(match.group(1))
    if options is None or len(options) < 2 or not isinstance(question, str) or not videos or "answer" not in entry:
        raise ValueError(f"{where}: no multiple-choice question, which has {_WANTED}: {dict(entry)!r:.80}")
    if len(options) > len(LETTERS):
        raise ValueError(f"{where}: {len(options)} options; at most {len(LETTERS)} have a letter")
    letters = [match.group(1).upper() if (match := _LETTER.match(option)) else "" for option in options]
    lettered = letters == list(LETTERS[: len(options)])  # written in front of them: the prompt has its own
    texts = [(_LETTER.sub("", option, count=1) if lettered else option).strip() for option in options]
    answer = _answer(entry["answer"], options, texts, "letter" if lettered else "number" if "a0" in entry else "text")
    if answer is None:
        raise ValueError(f"{where}: the answer {entry['answer']!r:.60} is none of its {len(options)} options")
    return Choice(
        tuple(videos), question.strip(), tuple(texts), answer, _groups(entry, path), _span(entry, where), where
    )


def _answer(
    written: Any, options: Sequence[str], texts: Sequence[str], first: Literal["letter", "number", "text"]
) -> int | None:
    """Return the number of the right option, None where it is none of them.

    Args:
        written: its text, its letter or its number.
        options: as they are written.
        texts: without letters in front.
        first: what it is where it may be several of these.
    """
    if isinstance(written, int) and not isinstance(written, bool):
        return written if 0 <= written < len(texts) else None
    if not isinstance(written, str):
        return None
    said = written.strip()
    letter = said.strip("().: ").upper()
    found = {
        "letter": LETTERS.index(letter) if len(letter) == 1 and letter in LETTERS[: len(texts)] else None,
        "number": int(said) if said.isdecimal() and int(said) < len(texts) else None,
        "text": next((among.index(said) for among in (texts, options) if said in among), None),
    }
    return next((found[kind] for kind in (first, "text", "number", "letter") if found[kind] is not None), None)


def _groups(entry: Mapping[str, Any], path: Path) -> tuple[str, ...]:
    """Return the kinds of question that published tables have rows for."""
    if "candidates" in entry:  # MVBench: a list for each task
        return (str(entry.get("task_type") or path.stem),)
    if "options" in entry:  # Video-MME: short, medium and long videos; kinds of question
        return tuple(str(entry[name]) for name in ("duration", "task_type") if isinstance(entry.get(name), str))
    kind = entry.get("type")  # NExT-QA: CW and CH are causal, TN, TC and TP temporal, DC, DL and DO descriptive
    if not isinstance(kind, str) or not kind:
        return ()
    family = {"C": "causal", "T": "temporal", "D": "descriptive"}.get(kind[0])
    return (kind,) if family is None else (family, kind)


def _span(entry: Mapping[str, Any], where: str) -> tuple[float, float] | None:
    start, end = entry.get("start"), entry.get("end")
    if start is None or end is None:
        return None
    if not all(isinstance(second, int | float) for second in (start, end)) or not 0 <= start < end:
        raise ValueError(f"{where}: the seconds from {start!r} to {end!r} are no part of a video")
    return float(start), float(end)
