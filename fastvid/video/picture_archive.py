"""Videos as single pictures: part of a tar with members such as ``KEY.000.jpg`` and ``KEY.001.jpg``.

The bytes of such a video are those of its members with their headers, as they lie in a WebDataset shard. A ``KEY.json``
among them may say how many frames there should be (``frame_count``) and how many are shown a second (``fps``).
"""

import io
import json
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fastvid.video.errors import DecodeError
from fastvid.video.limits import Limits

_SOME = "some-frames"  # key of an archive of some frames of a video, whose names have the frames' indices
PICTURES = "pictures"
"""Name that stands for the codec in the metadata of such a video."""

_SUFFIX = re.compile(r"\.(\d{1,9})\.(?:jpe?g|png)")
_NAMED = 5  # numbers in a sentence
_FPS = 1.0  # where nothing says otherwise
_FILES = {b"\xff\xd8\xff": ".jpg", b"\x89PNG\r\n\x1a\n": ".png"}  # how the files of single pictures begin


def picture_number(suffix: str) -> int | None:
    """Return the number of the frame that a member's suffix says, such as ``".003.jpg"``, or None."""
    match = _SUFFIX.fullmatch(suffix.lower())
    return None if match is None else int(match[1])


def is_pictures(data: bytes) -> bool:
    """Return whether these bytes are members of a tar, or the file of a single picture."""
    return data[257:262] == b"ustar" or _picture_file(data) is not None


def _picture_file(data: bytes) -> str | None:
    """Return the ending that belongs to the file of a single picture, or None for other bytes."""
    return next((suffix for magic, suffix in _FILES.items() if data.startswith(magic)), None)


@dataclass(frozen=True)
class PictureArchive:
    """The members of such a video.

    Attributes:
        key: name that they share.
        pictures: suffix and bytes of each frame, in order.
        fps: frames a second.
        latents: content of the member ``.latents.npy``, or None.
        offsets: where each frame's bytes begin in those of the archive.
    """

    key: str
    pictures: Sequence[tuple[str, bytes]]
    fps: float
    latents: bytes | None = None
    offsets: Sequence[int] = ()


def some_frames(pictures: Mapping[int, bytes]) -> bytes:
    """Return an archive of some frames of a video, by index, for :func:`read_pictures`."""
    parts = []
    for index, content in pictures.items():
        member = tarfile.TarInfo(f"{_SOME}.{index:09d}{_picture_file(content) or '.jpg'}")
        member.size = len(content)
        parts += [member.tobuf(tarfile.USTAR_FORMAT), content, bytes(-len(content) % tarfile.BLOCKSIZE)]
    return b"".join(parts)


def open_pictures(data: bytes) -> PictureArchive:
    """Return the frames of a video of pictures; none is decoded. The file of a single picture is a video of one.

    Raises:
        DecodeError: ``container`` for bytes that are no such tar, ``frame_count`` where frames are missing.
    """
    if (suffix := _picture_file(data)) is not None:
        return PictureArchive("", [(f".000{suffix}", data)], _FPS, offsets=(0,))
    found: dict[int, tuple[str, bytes, int]] = {}
    latents = None
    fields: Mapping[str, Any] = {}
    keys = set()
    for name, content, offset in _members(data):
        folder, slash, last = name.rpartition("/")
        stem, dot, suffix = last.partition(".")
        number = picture_number(dot + suffix)
        if number is not None:
            if number in found:
                raise DecodeError("container", f"two pictures are number {number}")
            found[number] = (f".{suffix}", content, offset)
        elif suffix.lower() == "json":
            fields = _fields(content)
        elif suffix.lower() == "latents.npy":
            latents = content
        keys.add(folder + slash + stem)
    if not found or len(keys) != 1:
        raise DecodeError("no_video", f"pictures of one video are expected, and there are {len(found)} of {len(keys)}")
    _check_numbers(sorted(found), fields.get("frame_count"))
    rate = fields.get("fps")
    fps = float(rate) if isinstance(rate, int | float) and 0 < rate < 1e6 else _FPS
    frames = [found[number] for number in sorted(found)]
    pictures, offsets = [frame[:2] for frame in frames], [frame[2] for frame in frames]
    return PictureArchive(keys.pop(), pictures, fps, latents, offsets)


def picture_size(content: bytes, number: int, limits: Limits) -> tuple[int, int]:
    """Return the width and height of a picture, from its header.

    Raises:
        DecodeError: ``corrupt`` or ``limit``.
    """
    try:
        with Image.open(io.BytesIO(content), formats=("JPEG", "PNG")) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DecodeError("corrupt", f"frame {number} is not a picture that can be read: {error}") from error
    limits.check(width=width, height=height)
    return width, height


def read_pictures(data: bytes, indices: Sequence[int], width: int, height: int) -> Iterator[np.ndarray]:
    """Yield the frames at some indices, uint8 [H, W, 3]. Only these are decoded.

    Args:
        data: the members, or :func:`some_frames` of them.
        indices: of frames, counted from 0.
        width: width of the first frame, which all must have.
        height: its height.

    Raises:
        DecodeError: ``corrupt`` or ``frame_count``.
    """
    pictures = _by_index(data)
    for index in indices:
        if index not in pictures:
            raise DecodeError("frame_count", f"frame {index} of {len(pictures)} is missing")
        if (size := picture_size(pictures[index], index, Limits())) != (width, height):
            raise DecodeError(
                "corrupt", f"frame {index} is {size[0]} x {size[1]} in a video of {width} x {height}: all must be alike"
            )
        try:
            with Image.open(io.BytesIO(pictures[index]), formats=("JPEG", "PNG")) as image:
                yield np.array(image.convert("RGB"))
        except (OSError, SyntaxError, ValueError) as error:
            raise DecodeError("corrupt", f"frame {index} does not decode: {error}") from error


def _by_index(data: bytes) -> dict[int, bytes]:
    if data.startswith(_SOME.encode()):
        return {int(name.split(".")[1]): content for name, content, _ in _members(data)}
    return {index: content for index, (_, content) in enumerate(open_pictures(data).pictures)}


def _members(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            for member in archive:
                if member.isreg():
                    content = data[member.offset_data : member.offset_data + member.size]
                    if len(content) < member.size:
                        raise DecodeError("truncated", f"{member.name} is cut short")
                    yield member.name.removeprefix("./"), content, member.offset_data
    except (tarfile.TarError, OSError, ValueError, EOFError) as error:
        raise DecodeError("container", f"not readable as members of a tar: {error}") from error


def _fields(content: bytes) -> Mapping[str, Any]:
    try:
        fields = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise DecodeError("text", f"its .json is no JSON: {error}") from error
    return fields if isinstance(fields, dict) else {}


def _check_numbers(numbers: list[int], count: Any) -> None:
    """Raise an error where a number is missing between the first, which is 0 or 1, and the last."""
    first = min(1, numbers[0])
    expected = count if type(count) is int and 0 < count <= Limits().frames else numbers[-1] + 1 - first
    if numbers[-1] >= Limits().frames:
        raise DecodeError("limit", f"frame {numbers[-1]}; the limit is {Limits().frames}")
    if numbers == list(range(first, first + expected)):
        return
    missing = sorted(set(range(first, first + expected)) - set(numbers))
    if not missing:
        raise DecodeError("frame_count", f"{len(numbers)} frames are there and its .json says {expected}")
    some = ", ".join(str(number) for number in missing[:_NAMED]) + (", ..." if len(missing) > _NAMED else "")
    raise DecodeError(
        "frame_count", f"frame {some} is missing of the {expected} from {first} to {first + expected - 1}"
    )
