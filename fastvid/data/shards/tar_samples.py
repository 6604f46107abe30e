"""The samples of a tar: members that belong together, and what is written beside videos."""

import json
import os
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from fastvid.data.shards.entry import Place
from fastvid.data.shards.picture_samples import LATENTS_SUFFIX, TEXTS, picture_samples, still_images
from fastvid.data.shards.tar_reader import Member, tar_members
from fastvid.data.shards.video_choice import counted_names, several_videos
from fastvid.data.source import VIDEO_SUFFIXES
from fastvid.data.text.conversation import is_text_alone
from fastvid.data.walk import such_as

_LONGEST_TEXT = 16 << 20


@dataclass(frozen=True)
class TarSample:
    """A video, a still image or a text in a tar, before it is looked at.

    Attributes:
        key: the members' common name.
        member: the video; of a text alone, the ``.json``.
        label: from the members beside it, or None.
        caption: likewise.
        extra: further fields of its ``.json``.
        fields: where this ``.json`` lies; None without further fields.
        text_alone: whether it is a text without a video.
        latents: the member ``.latents.npy``, or None.
    """

    key: str
    member: Member
    label: str | None
    caption: str | None
    extra: dict[str, Any]
    fields: Place | None = None
    text_alone: bool = False
    latents: Member | None = None


def scan_tar(shard: Path, refused: Callable[[str], None], video: str | None = None) -> list[TarSample]:
    """List the videos of a tar, in order, and still images and texts likewise. Other members are skipped.

    Members with the same name up to its first dot are one sample, as in WebDataset: ``0.left.mp4`` and ``0.json`` are
    two members of the sample ``0``. A video's label and caption are those of ``0.left.json`` and so on, or else of
    ``0.json``. Without a video, numbered pictures are one, and ``0.jpg`` or ``0.png`` with a text beside it is a still
    image; a ``.json`` alone is a text, where it is one that needs no video.

    Args:
        shard: the tar.
        refused: called with a sentence for each member that is not accepted, see
            :func:`fastvid.data.shards.tar_reader.tar_members`.
        video: suffix of the video to take from each sample, such as ``"left.mp4"``; samples without it are passed over.
            Needed only where samples have several.

    Raises:
        ValueError: not a readable tar, a key twice, a sample with several videos, or a label that cannot be read.
    """
    wanted = None if video is None else f".{video.lower().removeprefix('.')}"
    with shard.open("rb") as file:
        groups = _grouped(file, shard, refused)
        videos = {key: [s for s in members if s.endswith(VIDEO_SUFFIXES)] for key, members in groups.items()}
        pictures = {} if wanted is not None else picture_samples(groups, videos, shard) | still_images(groups, videos)
        if wanted is None and any(len(suffixes) > 1 for suffixes in videos.values()):
            raise ValueError(several_videos(shard, videos, groups))
        samples: list[TarSample] = []
        silent: list[TarSample] = []
        for key, members in groups.items():
            chosen = next((s for s in videos[key] if wanted in (None, s)), None)
            member = pictures.get(key) if chosen is None else members[chosen]
            if member is not None:
                samples.append(_sample(file, f"{shard}: {key}", key, members, member, chosen or ""))
            elif ".json" in members and not videos[key]:
                text = _sample(file, f"{shard}: {key}", key, members, members[".json"], "", text_alone=True)
                (samples if is_text_alone(text.extra) else silent).append(text)
    if silent:
        refused(
            f"{shard}: samples with a .json and neither a video nor pictures are passed over: {len(silent)} "
            f"({such_as([sample.key for sample in silent])})"
        )
    without = [suffixes for suffixes in videos.values() if suffixes and wanted not in (None, *suffixes)]
    if without:
        refused(
            f"{shard}: {len(without)} of {sum(map(bool, videos.values()))} samples have videos, and none that is named "
            f"KEY{wanted} (they have {counted_names(without)}): passed over"
        )
    return samples


def _grouped(file: BinaryIO, shard: Path, refused: Callable[[str], None]) -> dict[str, dict[str, Member]]:
    """Return the members of each key, by suffix."""
    groups: dict[str, dict[str, Member]] = {}
    for member in tar_members(file, str(shard), os.fstat(file.fileno()).st_size, refused):
        folder, _, name = member.name.rpartition("/")
        stem, dot, suffix = name.partition(".")
        if not dot or not stem:
            continue
        key, suffix = f"{folder}/{stem}" if folder else stem, f".{suffix.lower()}"
        members = groups.setdefault(key, {})
        if suffix in members:
            raise ValueError(f"{shard} holds {member.name} twice: keys must be unique in a shard")
        members[suffix] = member
    return groups


def _sample(
    file: BinaryIO,
    where: str,
    key: str,
    members: Mapping[str, Member],
    member: Member,
    suffix: str,
    text_alone: bool = False,
) -> TarSample:
    """Return a sample with what is written beside its video, which ends in ``suffix``."""
    stem = suffix[: suffix.rindex(".")] if suffix else ""
    beside = {s: found for s in TEXTS if (found := members.get(stem + s) or members.get(s)) is not None}
    texts = {s: _text_of(file, m, where) for s, m in beside.items()}
    label, caption, extra = _parse_texts(texts, where)
    json_, place = beside.get(".json"), None
    if json_ is not None and extra:
        place = Place(json_.offset, json_.size, zlib.crc32(texts[".json"]))
    latents = None if text_alone else members.get(stem + LATENTS_SUFFIX)
    return TarSample(key, member, label, caption, extra, place, text_alone, latents)


def _text_of(file: BinaryIO, member: Member, where: str) -> bytes:
    if member.size > _LONGEST_TEXT:
        raise ValueError(f"{where}: the text beside the video has {member.size} bytes; the limit is {_LONGEST_TEXT}")
    file.seek(member.offset)
    return file.read(member.size)


def _parse_texts(texts: dict[str, bytes], where: str) -> tuple[str | None, str | None, dict[str, Any]]:
    """Return the label, the caption and the other fields from the members beside a video.

    Args:
        texts: content of the members ``.json``, ``.cls`` and ``.txt``, of those there are.
        where: for messages.

    Raises:
        ValueError: one of them cannot be read.
    """
    fields = _json_object(texts.get(".json", b"{}"), where)
    try:
        label, caption = fields.pop("label", None), fields.pop("caption", None)
        if label is None and ".cls" in texts:
            label = texts[".cls"].decode().strip()
        if caption is None and ".txt" in texts:
            caption = texts[".txt"].decode().strip()
    except ValueError as error:  # bytes that are no UTF-8
        raise ValueError(f"{where}: the text beside the video cannot be read: {error}") from error
    return (None if label is None else str(label)), (None if caption is None else str(caption)), fields


def _json_object(text: bytes, where: str) -> dict[str, Any]:
    """Return the fields of a ``.json``; none where it holds something else."""
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: the text beside the video cannot be read: {error}") from error
    return fields if isinstance(fields, dict) else {}
