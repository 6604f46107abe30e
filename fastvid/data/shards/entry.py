"""One line of a shard's index: where a video lies, and everything :func:`fastvid.video.probe` found in it.

Times are stored as runs of equal steps, so a constant frame rate takes a few numbers, whatever the length.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastvid.data.source import Kind
from fastvid.video import DecodeError, Limits, VideoMetadata, probe
from fastvid.video.picture_archive import PICTURES
from fastvid.video.probe import Colours, sane_pixel_aspect

_MOST = 2**62  # of any number in an index: int64 with room for a sum


@dataclass(frozen=True)
class Place:
    """The place of a member's bytes in a tar: offset, size, and CRC-32 of the bytes."""

    offset: int
    size: int
    crc32: int


@dataclass(frozen=True)
class Entry:
    """One sample of a shard.

    Attributes:
        key: the members' common name, up to the first dot of the file name (the WebDataset convention).
        offset: offset of the video's bytes in the tar; of a text alone, of its ``.json``.
        size: size of the video, bytes.
        crc32: CRC-32 of those bytes.
        video: its metadata and frame table, or None if it could not be read when it was indexed.
        label: from the sample's ``.json`` (field ``label``) or ``.cls`` member, or None.
        caption: from the sample's ``.json`` (field ``caption``) or ``.txt`` member, or None.
        fields: where the ``.json`` member lies, if it holds more than label and caption, such as conversations.
        text_alone: whether it is a text without a video.
        latents: where the member ``.latents.npy`` lies, if there is one: what a frozen model saw in each frame.
        pictures: where each frame lies, of a video of pictures; empty where that is not known.
    """

    key: str
    offset: int
    size: int
    crc32: int
    video: VideoMetadata | None = None
    label: str | None = None
    caption: str | None = None
    fields: Place | None = None
    text_alone: bool = False
    latents: Place | None = None
    pictures: tuple[Place, ...] = ()

    @property
    def kind(self) -> Kind:
        """Return what it is. One picture is a still image."""
        if self.text_alone:
            return "text"
        return "image" if self.video is not None and (self.video.codec, self.video.frames) == (PICTURES, 1) else "video"

    @property
    def places(self) -> list[Place]:
        """Return where its members lie."""
        more = [place for place in (self.fields, self.latents) if place is not None]
        return [Place(self.offset, self.size, self.crc32), *more, *self.pictures]

    def to_line(self) -> bytes:
        """Return the entry as JSON, without the line's end."""
        fields: dict[str, Any] = {"key": self.key, "offset": self.offset, "size": self.size, "crc32": self.crc32}
        fields |= {name: text for name in ("label", "caption") if (text := getattr(self, name)) is not None}
        for name in ("fields", "latents"):
            if (place := getattr(self, name)) is not None:
                fields[name] = [place.offset, place.size, place.crc32]
        if self.text_alone:
            fields["text_alone"] = True
        if self.pictures:
            fields["pictures"] = [[place.offset, place.size, place.crc32] for place in self.pictures]
        if self.video is not None:
            fields["video"] = _video_fields(self.video)
        return json.dumps(fields, separators=(",", ":")).encode()

    @staticmethod
    def from_line(line: bytes, limits: Limits | None = None) -> "Entry":
        """Parse a line that :meth:`to_line` returned.

        Args:
            line: untrusted; nothing larger than the limits is allocated for it.
            limits: default :class:`Limits`.

        Raises:
            ValueError: not such a line.
        """
        try:
            fields = json.loads(line)
            texts = [fields["key"], *(fields[name] for name in ("label", "caption") if name in fields)]
            if not all(isinstance(text, str) for text in texts) or not texts[0]:
                raise ValueError("key, label and caption must be texts, and the key not empty")
            return Entry(
                key=fields["key"],
                offset=_whole(fields["offset"]),
                size=_whole(fields["size"]),
                crc32=_whole(fields["crc32"], 2**32 - 1),
                video=_video(fields["video"], limits or Limits()) if "video" in fields else None,
                label=fields.get("label"),
                caption=fields.get("caption"),
                fields=_place(*fields["fields"]) if "fields" in fields else None,
                text_alone=fields.get("text_alone") is True,
                latents=_place(*fields["latents"]) if "latents" in fields else None,
                pictures=tuple(_place(*place) for place in fields.get("pictures", ())),
            )
        except (KeyError, TypeError, ValueError, RecursionError, OverflowError) as error:
            raise ValueError(f"not a sample's line of an index ({type(error).__name__}: {error})") from error


def kind_of_line(line: bytes) -> Kind:
    """Return :attr:`Entry.kind` of a line that :meth:`Entry.to_line` returned.

    Raises:
        ValueError: not such a line.
    """
    try:
        fields = json.loads(line)
        if fields.get("text_alone") is True:
            return "text"
        video = fields.get("video", {})
        return "image" if (video.get("codec"), video.get("frames")) == (PICTURES, 1) else "video"
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a sample's line of an index ({type(error).__name__}: {error})") from error


def probe_indexable(data: bytes) -> VideoMetadata:
    """Probe a video that goes into an index, with :func:`fastvid.video.probe`.

    Raises:
        DecodeError: as there; and ``corrupt``, where a broken header gives sizes or times that no index takes.
    """
    info = probe(data)
    try:
        Entry.from_line(Entry("key", 0, 0, 0, info).to_line())
    except ValueError as error:
        raise DecodeError("corrupt", f"its header makes no sense: {error.__cause__ or error}") from error
    return info


def _place(offset: Any, size: Any, crc32: Any) -> Place:
    return Place(_whole(offset), _whole(size), _whole(crc32, 2**32 - 1))


def _video_fields(video: VideoMetadata) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "codec": video.codec, "width": video.width, "height": video.height, "rotation": video.rotation,
        "frames": video.frames, "fps": video.fps, "duration": video.duration, "time_base": video.time_base,
    }  # fmt: skip
    if video.pts is not None:
        fields["pts"] = [int(video.pts[0]), *_runs(np.diff(video.pts))]
        if video.order is not None:  # as places among the ascending times
            fields["order"] = (np.searchsorted(video.pts, video.order) - np.arange(video.frames)).tolist()
    fields["keyframes"] = video.keyframes.tolist()
    if video.pixel_aspect != (1, 1):
        fields["pixel_aspect"] = list(video.pixel_aspect)
    if video.colours is not None:
        fields["colours"] = [video.colours.pix_fmt, video.colours.matrix, video.colours.full_range]
    return fields


def _video(fields: dict[str, Any], limits: Limits) -> VideoMetadata:
    frames = _whole(fields["frames"], limits.frames)
    numbers = {name: float(fields[name]) for name in ("fps", "duration", "time_base")}
    if (
        not all(0 < x < _MOST for name, x in numbers.items() if name != "duration")
        or not 0 <= numbers["duration"] < _MOST
    ):
        raise ValueError(f"times out of range: {numbers}")
    width, height = _whole(fields["width"], 1 << 20), _whole(fields["height"], 1 << 20)
    if not frames or not width or not height or not isinstance(fields["codec"], str):
        raise ValueError("a video without a codec, frames or pixels")
    keyframes = np.array([[_signed(x) for x in pair] for pair in fields["keyframes"]], np.int64).reshape(-1, 2)
    pts = None
    if "pts" in fields:
        first, *runs = fields["pts"]
        lengths = [_whole(length, frames) for _, length in runs]
        if sum(lengths) != frames - 1:
            raise ValueError(f"{sum(lengths) + 1} presentation times for {frames} frames")
        steps = np.repeat(np.array([_whole(step, 1 << 40) for step, _ in runs], np.int64), lengths)
        pts = _signed(first) + np.concatenate([np.zeros(1, np.int64), np.cumsum(steps)])
    order = None
    if "order" in fields and pts is not None:
        places = np.array([_signed(offset) for offset in fields["order"]], np.int64) + np.arange(frames)
        if not np.array_equal(np.sort(places), np.arange(frames)):
            raise ValueError("the order of its frames is not one of all frames")
        order = pts[places]
    wide, high = (_signed(side) for side in fields.get("pixel_aspect", (1, 1)))
    return VideoMetadata(
        codec=fields["codec"], width=width, height=height, rotation=_whole(fields["rotation"], 3), frames=frames,
        fps=numbers["fps"], duration=numbers["duration"], pts=pts, time_base=numbers["time_base"], keyframes=keyframes,
        colours=_colours(fields["colours"]) if "colours" in fields else None, order=order,
        pixel_aspect=sane_pixel_aspect(wide, high),
    )  # fmt: skip


def _colours(fields: Any) -> Colours:
    pix_fmt, matrix, full_range = fields
    if not isinstance(pix_fmt, str) or not isinstance(full_range, bool):
        raise ValueError("colours are a sample layout, a matrix and whether the range is full")
    return Colours(pix_fmt, _whole(matrix, 255), full_range)


def _runs(values: np.ndarray) -> list[list[int]]:
    """Return [value, how many times in a row] for each run of equal values."""
    starts = np.flatnonzero(np.diff(values, prepend=values[:1] - 1))
    return np.stack([values[starts], np.diff(starts, append=len(values))], 1).tolist()


def _whole(value: Any, most: int = _MOST) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{value!r:.40} where a whole number in [0, {most}] belongs")
    return value


def _signed(value: Any) -> int:
    if type(value) is not int or not -_MOST <= value <= _MOST:
        raise ValueError(f"{value!r:.40} where a whole number belongs")
    return value
