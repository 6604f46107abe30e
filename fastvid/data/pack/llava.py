"""Lists of conversations as LLaVA and VideoLLaMA3 have them, with the videos in files or in tar.gz archives."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fastvid.data.pack.archive import ARCHIVE_SUFFIXES, Archive, fetched
from fastvid.data.pack.item import Collection, Item, collect, file_item
from fastvid.data.shards.keys import key_of
from fastvid.data.text.conversation import Conversation, NotAnswered, conversations_of
from fastvid.data.text.lists import LIST_SUFFIXES, Written, left_out, read_list
from fastvid.data.walk import walk

_BESIDE_SHARDS = ("dataset.json", "rejects.jsonl", ".index.jsonl")


def llava(src: Path | str, texts_too: bool = False) -> dict[str, Collection]:
    """Collect the videos that json lists name, with every conversation about each of them.

    The caption is the first answer of the first conversation about a video, or the caption that is written; lists whose
    name holds ``cap`` come first. The label is the first one that is written. All conversations, with all their turns,
    go into the sample's ``.json``.

    Args:
        src: a list, or a folder with lists at any depth (``.json``, ``.jsonl``). The videos and images are files below
            the folder, or members of the tar or tar.gz archives there. The URL of a folder of lists and archives: lists
            are fetched into the cache, archives are read where they are.
        texts_too: whether conversations about neither are collected, as texts.

    Raises:
        FileNotFoundError: there are no lists, or neither videos nor archives.
        ValueError: a list is not one, or holds something else than conversations or captions.
    """
    there: list[Archive] | None = None
    if "://" in str(src):
        src, there = fetched(str(src), LIST_SUFFIXES)
    src = Path(src)
    root = src.parent if src.is_file() else src
    lists = [src] if src.is_file() else _lists(src)
    without: list[str] = []
    wrong: list[str] = []
    captions: dict[str, str | None] = {}
    labels: dict[str, str | None] = {}
    talks: dict[str, list[list[dict[str, str]]]] = {}
    texts: list[Item] = []
    for path in lists:
        for entry in read_list(path, without.append):
            if not entry.video and not texts_too:
                without.append(entry.where)
                continue
            caption, talk = _written(entry, wrong.append)
            if not entry.video:
                key = key_of(f"texts/{path.relative_to(root).as_posix()}/{len(texts):08d}.json")
                texts += [Item(key, entry.where, extra={"conversations": talk}, text_alone=True)] if talk else []
                continue
            captions.setdefault(entry.video, caption)
            label = entry.fields.get("label")
            labels.setdefault(entry.video, label if isinstance(label, str) else None)
            talks.setdefault(entry.video, []).extend(talk)
    notes = left_out(without)
    if wrong:
        found = "1 conversation" if len(wrong) == 1 else f"{len(wrong)} conversations"
        notes.append(f"left out: {found} in which questions and answers do not belong together, such as {wrong[0]}")
    if lists and not captions and not texts:
        raise ValueError(f"{src} names no video; " + "; ".join(notes or ["its lists are empty"]))
    archives = there
    if archives is None:
        archives = [] if any((root / video).exists() for video in captions) else _archives(root)
    if not lists or (captions and not (archives or any((root / video).exists() for video in captions))):
        raise FileNotFoundError(
            f"{src} must hold json lists and the videos that they name, as files or in tar or tar.gz archives; found "
            f"{len(lists)} lists, {len(captions)} names, 0 of these videos and {len(archives)} archives"
        )
    items = list(texts)
    for video, caption in captions.items():
        extra = {"conversations": talks[video]} if talks[video] else {}
        facts: dict[str, Any] = {"label": labels[video], "caption": caption, "extra": extra}
        items.append(Item(key_of(video), video, **facts) if archives else file_item(root, video, **facts))
    return {"": collect(root, items, archives, notes)}


def _lists(src: Path) -> list[Path]:
    """Return the lists below a folder, those of captions first. The files that shards have beside them are none."""
    found = [
        path
        for path in src.rglob("*")
        if path.suffix.lower() in LIST_SUFFIXES
        and not path.name.endswith(_BESIDE_SHARDS)
        and not any(part.startswith(".") for part in path.relative_to(src).parts)
        and path.is_file()
    ]
    return sorted(found, key=lambda path: ("cap" not in path.name, path.as_posix()))


def _archives(root: Path) -> list[Archive]:
    found = walk(root)
    paths = sorted(root / n for n in (*found.tars, *found.compressed) if n.lower().endswith(ARCHIVE_SUFFIXES))
    return [Archive(path.relative_to(root).as_posix(), str(path), path.stat().st_size) for path in paths]


def _written(entry: Written, wrong: Callable[[str], None]) -> tuple[str | None, list[list[dict[str, str]]]]:
    """Return the caption of an entry, and its conversations in LLaVA's form; none where it has only a caption."""
    try:
        found = conversations_of(entry.fields)
    except NotAnswered as error:
        wrong(f"{entry.where}, about {entry.video}: {error}")
        return None, []
    except ValueError as error:
        raise ValueError(f"{entry.where}, about {entry.video}: {error}") from error
    talks = [_turns(conversation) for conversation in found]
    caption = entry.fields.get("caption")
    if not isinstance(caption, str) or not caption.strip():
        return found[0].turns[0].answer, talks
    return caption.strip(), [] if found == conversations_of({}, caption) else talks


def _turns(conversation: Conversation) -> list[dict[str, str]]:
    said = [] if conversation.system is None else [{"from": "system", "value": conversation.system}]
    for turn in conversation.turns:
        said += [{"from": "human", "value": turn.question}, {"from": "gpt", "value": turn.answer}]
    return said
