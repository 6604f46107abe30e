"""Frames of videos and pictures, as the model sees them: which are read, and which part of each."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


class Picture:
    """A picture, which is one frame, and is looked at as often as the model was trained to.

    Args:
        source: a PIL image, a uint8 array [H, W, 3], or a path.
    """

    def __init__(self, source: Any):
        self.source = source

    def frames(self, views: dict[str, Any]) -> np.ndarray:
        """Return uint8 [1, size, size, 3]."""
        return np.stack([centred(_array(self.source), views)])

    def looks(self, views: dict[str, Any]) -> int:
        """Return the number of looks at it."""
        return views.get("image_looks", 1)


class Video:
    """A video.

    Args:
        source: a path, the bytes of a file, a uint8 array [T, H, W, 3], or a list of pictures.
        metadata: with ``fps``, for frames.
        sample: choose frames; else all are read.
    """

    def __init__(self, source: Any, metadata: Any = None, sample: bool = True):
        self.source, self.sample = source, sample
        self.rate = metadata.get("fps") if isinstance(metadata, dict) else getattr(metadata, "fps", None)

    def frames(self, views: dict[str, Any]) -> np.ndarray:
        """Return the frames that the model reads, uint8 [T, size, size, 3]."""
        if isinstance(self.source, str | Path | bytes):
            content = self.source if isinstance(self.source, bytes) else Path(self.source).expanduser().read_bytes()
            times, duration, aspect = probe(content)
            wanted = chosen(views, times, duration) if self.sample else range(len(times))
            return np.stack([centred(frame, views, aspect) for frame in decoded(content, wanted)])
        shown = [_array(frame) for frame in self.source]
        if not self.sample:
            return np.stack([centred(frame, views) for frame in shown])
        needs_rate = views.get("max_fps") is not None or views.get("sampling", "span") == "fps"
        if needs_rate and self.rate is None:
            raise ValueError(
                "how many of the frames are read depends on their rate: give video_metadata=[{'fps': ...}]"
            )
        rate = self.rate or 1.0
        wanted = chosen(views, np.arange(len(shown)) / rate, len(shown) / rate)
        return np.stack([centred(shown[index], views) for index in wanted])


def chosen(views: dict[str, Any], times: np.ndarray, duration: float) -> list[int]:
    """Return the frames that are read, each once: the middle of the video, as in evaluation.

    Args:
        views: see :class:`FoveatedVLMProcessor`.
        times: seconds at which each frame is shown.
        duration: seconds from the first frame to the end of the last.
    """
    most, sampling, count = views["frames"], views.get("sampling", "span"), len(times)
    if views.get("max_fps") is not None:
        most = min(most, max(1, round(duration * views["max_fps"])))
    if sampling == "span":
        found = [min(count - 1, int((k + 0.5) * count / most)) for k in range(most)]
    elif sampling == "stride":
        stride = max(1.0, views["stride"] * 1.0)
        start = int(0.5 * max(1, count - int((most - 1) * stride)))
        found = [min(count - 1, start + int(k * stride)) for k in range(most)]
    else:
        start = 0.5 * max(0.0, float(times[-1]) - (most - 1) / views["fps"])
        shown = np.searchsorted(times, start + np.arange(most) / views["fps"] + 1e-9, side="right") - 1
        found = [int(index) for index in np.clip(shown, 0, count - 1)]
    return list(dict.fromkeys(found))


def centred(frame: np.ndarray, views: dict[str, Any], aspect: float = 1.0) -> np.ndarray:
    """Cut the centred square out of a frame uint8 [H, W, 3] and resize it, uint8 [size, size, 3].

    Args:
        frame: upright.
        views: with ``size`` and ``crop``.
        aspect: width to height of its pixels as shown.
    """
    rows, columns = frame.shape[:2]
    height, width = (rows, round(columns * aspect)) if aspect >= 1 else (round(rows / aspect), columns)
    side = max(1, round(min(height, width) * views.get("crop", 1.0)))
    top, left = (height - side) // 2, (width - side) // 2
    first, end = (round(y * rows / height) for y in (top, top + side))
    begin, stop = (round(x * columns / width) for x in (left, left + side))
    cut = frame[first : max(first + 1, end), begin : max(begin + 1, stop)]
    size = views["size"]
    if cut.shape[:2] == (size, size):
        return cut
    return np.asarray(Image.fromarray(np.ascontiguousarray(cut)).resize((size, size), Image.Resampling.BILINEAR))


def probe(content: bytes) -> tuple[np.ndarray, float, float]:
    """Return when each frame of a file is shown, in seconds, the duration, and the aspect of an upright pixel."""
    with _opened(content) as container:
        stream = container.streams.best("video")
        ends, turned, starts = [], 0, []
        for frame in container.decode(stream):
            starts.append(frame.pts)
            turned = frame.rotation
            ends.append(getattr(frame, "duration", 0) or 0)
        if not starts:
            raise ValueError("the video has no frame")
        rate = float(stream.average_rate or 1)
        base = float(stream.time_base)
        if any(pts is None for pts in starts):
            times, last = np.arange(len(starts)) / rate, 1 / rate
        else:
            order = np.argsort(starts, kind="stable")
            times = (np.asarray(starts)[order] - min(starts)) * base
            last = ends[int(order[-1])] * base or 1 / rate
        wide = float(stream.sample_aspect_ratio or 1) or 1.0
        return times, float(times[-1]) + last, 1 / wide if turned % 180 else wide


def decoded(content: bytes, wanted: Sequence[int]) -> Iterator[np.ndarray]:
    """Yield frames of a file, upright, uint8 [H, W, 3].

    Args:
        content: the file.
        wanted: their numbers, ascending, each once.
    """
    left = list(wanted)
    with _opened(content) as container:
        for number, frame in enumerate(container.decode(container.streams.best("video"))):
            if not left:
                return
            if number == left[0]:
                left.pop(0)
                image = frame.to_ndarray(format="rgb24")
                yield np.ascontiguousarray(np.rot90(image, round(frame.rotation / 90)))


def _opened(content: bytes) -> Any:
    try:
        import av
    except ImportError as error:
        raise ImportError("video files are read by PyAV: pip install av, or give the frames as an array") from error
    return av.open(io.BytesIO(content))


def _array(picture: Any) -> np.ndarray:
    """Return a picture as uint8 [H, W, 3]."""
    if isinstance(picture, str | Path):
        picture = Image.open(Path(picture).expanduser())
    if isinstance(picture, Image.Image):
        return np.asarray(picture.convert("RGB"))
    found = np.asarray(picture)
    if found.dtype != np.uint8 or found.ndim != 3 or found.shape[-1] != 3:
        raise ValueError(f"a frame is uint8 [H, W, 3]; got {found.dtype} {list(found.shape)}")
    return found
