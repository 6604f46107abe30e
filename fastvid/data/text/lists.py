"""Lists of what is written about videos: json or json lines, of conversations or captions."""

import json
import os.path
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastvid.data.labels.delimited import read_text
from fastvid.data.text.conversation import is_text_alone

LIST_SUFFIXES = (".json", ".jsonl")
CAPTIONS = ("captions.json", "captions.jsonl")
"""Names of the list in a folder of videos."""

_VIDEO = ("video", "file", "video_path", "image")


class NotAList(ValueError):
    """Error that is raised for json of another kind."""


@dataclass(frozen=True)
class Written:
    """The entry of a list about one video.

    Attributes:
        video: path of the video or image as it is written, normalised; empty for a text without either.
        fields: the entry: conversations, caption and whatever else it has.
        where: the list and the entry, for messages.
    """

    video: str
    fields: dict[str, Any]
    where: str


def read_list(path: Path, without: Callable[[str], None] = lambda where: None) -> Iterator[Written]:
    """Read a list: LLaVA's and VideoLLaMA3's conversations, with ``video`` and ``conversations``; captions, with
    ``file`` and ``caption``; or one object of captions by file.

    Args:
        path: a ``.json`` file with a list, or a ``.jsonl`` file with an object on each line.
        without: called with the place of each entry that is passed over: it is about several videos, or about one that
            it does not name. A conversation about none is a text.

    Raises:
        ValueError: something that is not such a list; the message names the file and the entry or line.
    """
    for where, entry in entries(path):
        if not isinstance(entry, dict):
            raise ValueError(f"{where}: not a conversation: {entry!r:.80}")
        videos = next((entry[name] for name in _VIDEO if name in entry), None)
        if isinstance(videos, list) and len(videos) == 1:
            (videos,) = videos
        if is_text_alone(entry):
            yield Written("", entry, where)
            continue
        if not isinstance(videos, str) or not videos:
            without(where)
            continue
        yield Written(os.path.normpath(videos), entry, where)


def left_out(without: list[str]) -> list[str]:
    """Return a note on the entries that were passed over; none where there are none."""
    if not without:
        return []
    found = "1 conversation" if len(without) == 1 else f"{len(without)} conversations"
    return [f"left out: {found} without a video, or about several, such as {without[0]}"]


def entries(path: Path) -> Iterator[tuple[str, Any]]:
    """Read the entries of a list of any kind, each with its place for messages.

    Raises:
        NotAList: a ``.json`` file with something else.
        ValueError: a file that cannot be read.
    """
    text = read_text(path)
    if path.suffix.lower() == ".jsonl":
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip():
                yield f"{path}, line {number}", _json(line, f"{path}, line {number},", one_line=True)
        return
    content = _json(text, f"{path}")
    if isinstance(content, dict) and content and all(isinstance(value, str) for value in content.values()):
        content = [{"file": file, "caption": caption} for file, caption in content.items()]
    if not isinstance(content, list):
        raise NotAList(f"{path}: a list of conversations is expected")
    for number, entry in enumerate(content, start=1):
        yield f"{path}, entry {number}", entry


def _json(text: str, where: str, one_line: bool = False) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"column {error.colno}" if one_line else f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"{where} is no JSON: {error.msg} at {place}") from error
    except RecursionError as error:
        raise ValueError(f"{where} is no JSON that can be read: it is nested too deeply") from error
