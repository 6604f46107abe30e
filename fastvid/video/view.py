"""Views: which frames of a video a clip has, which part of each, and whether it is mirrored."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np

from fastvid.names import spelled
from fastvid.random import SampleRandom
from fastvid.video.decode import iter_frames
from fastvid.video.limits import Limits
from fastvid.video.probe import VideoMetadata, probe
from fastvid.video.resize import crop_resize

_STREAM = 8  # Philox stream of views; masks use streams below 4


@dataclass(frozen=True)
class View:
    """One clip of one video, fully determined.

    Attributes:
        key: the sample's key.
        frames: frame indices, one per frame of the clip; an index repeats where the video is too short.
        box: (top, left, height, width) in pixels of the upright frame, which need not be square: the box is drawn on
            the frame as shown, and resizing it to a square stretches its pixels as the video's pixel aspect asks.
        flip: mirrored left to right.
        size: side of the clip in pixels.
    """

    key: str
    frames: tuple[int, ...]
    box: tuple[int, int, int, int]
    flip: bool
    size: int

    @property
    def hash(self) -> int:
        """Return a 63-bit hash of all fields: equal hashes mean equal pixels. Latent caches store it."""
        text = f"{spelled(self.key)}\0{self.frames}\0{self.box}\0{self.flip}\0{self.size}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & (2**63 - 1)

    @property
    def repeats_frames(self) -> bool:
        """Return whether the video had fewer frames than the clip wants."""
        return len(set(self.frames)) < len(self.frames)

    def is_whole(self, info: VideoMetadata) -> bool:
        """Return whether it shows whole frames of the video, not mirrored."""
        return self.box == (0, 0, *info.upright_size) and not self.flip


@dataclass(frozen=True)
class ViewSpec:
    """The rule by which views are drawn.

    Attributes:
        frames: frames per clip.
        size: side of the clip in pixels.
        sampling: ``"span"``: evenly over the whole video; ``"stride"``: every ``stride``-th frame from a random start;
            ``"fps"``: ``fps`` frames per second, by presentation time, from a random start.
        stride: for ``"stride"``.
        fps: for ``"fps"``.
        scale: share of the frame's area that a training crop keeps.
        ratio: width / height of a training crop, drawn log-uniformly.
        flip: probability of mirroring a training clip.
        jitter: of a training clip in time, in [0, 1]. For ``"span"`` each frame has its own place in its segment of the
            video: ``jitter`` of the way from the place that all share to one of its own, so that 1 is the sampling of
            Temporal Segment Networks (arXiv 1608.00859). For ``"stride"`` and ``"fps"`` the clip is faster by a factor
            drawn log-uniformly from [1 / (1 + jitter), 1 + jitter]; a stride stays at least 1.
        crop: share of the frame's shorter side that an evaluation crop keeps: 224 / 256 = 0.875 is what is called
            "resize to 256, crop 224".
    """

    frames: int = 16
    size: int = 224
    sampling: Literal["span", "stride", "fps"] = "span"
    stride: int = 4
    fps: float = 4.0
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.75, 1.35)
    flip: float = 0.5
    jitter: float = 0.0
    crop: float = 1.0

    def __post_init__(self):
        if self.frames < 1 or self.size < 1 or self.stride < 1 or self.fps <= 0:
            raise ValueError(f"ViewSpec: frames, size, stride and fps must be positive; got {self}")
        if self.sampling not in ("span", "stride", "fps"):
            raise ValueError(f"ViewSpec: sampling must be span, stride or fps; got {self.sampling!r}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ViewSpec: need 0 < scale <= 1 and ratio > 0; got {self.scale} and {self.ratio}")
        if not 0 <= self.jitter <= 1 or not 0 < self.crop <= 1:
            raise ValueError(f"ViewSpec: need 0 <= jitter <= 1 and 0 < crop <= 1; got {self.jitter} and {self.crop}")

    @classmethod
    def from_fields(cls, values: Mapping[str, Any]) -> "ViewSpec":
        """Build a specification from those of the values that are named as its fields; others are passed over.

        Args:
            values: such as the fields of a configuration, or a specification's :attr:`fingerprint`; lists may stand for
                tuples. A field that is not among them has its default.

        Raises:
            ValueError: a value out of range.
        """
        chosen: dict[str, Any] = {f.name: values[f.name] for f in fields(cls) if f.name in values}
        chosen |= {name: tuple(value) for name, value in chosen.items() if isinstance(value, list)}
        return cls(**chosen)

    @property
    def fingerprint(self) -> dict[str, Any]:
        """Return the fields that views depend on, as JSON values: ``stride`` and ``fps`` only where they are used.

        ``jitter`` and ``crop`` are younger than the first caches of latents, whose fingerprints stay: while they have
        their defaults, which do nothing, they are left out.
        """
        values = json.loads(json.dumps(asdict(self)))
        for name in ("jitter", "crop"):
            if getattr(self, name) == getattr(ViewSpec, name):
                del values[name]
        for name in ("stride", "fps"):
            if self.sampling != name:
                del values[name]
        return values

    def draw(self, key: str, seed: int, draw: int, info: VideoMetadata) -> View:
        """Draw a training view: a pure function of (key, seed, draw) and the video's metadata.

        Args:
            key: the sample's key.
            seed: the run's seed.
            draw: number of the view of this sample, such as the epoch.
            info: the video's frame table and size.
        """
        rng = SampleRandom(key, seed, draw, stream=_STREAM)
        where = rng.uniform()
        box = _in_pixels(self._random_box(rng, *info.shown_size), info)
        flip = rng.uniform() < self.flip
        return View(key, self._frames(info, where, rng if self.jitter else None), box, flip, self.size)

    def fixed_box(self, info: VideoMetadata) -> tuple[int, int, int, int] | None:
        """Return the box that all training views of a video share, or None where it may differ."""
        if self.scale[0] != self.scale[1] or self.ratio[0] != self.ratio[1]:
            return None
        height, width = info.shown_size
        h, w = _crop_size(height * width * self.scale[0], math.log(self.ratio[0]))
        if 0 < h <= height and 0 < w <= width and (h, w) != (height, width):
            return None  # it fits in more than one place
        return _in_pixels(self._random_box(SampleRandom("", 0, 0, stream=_STREAM), height, width), info)

    def center(self, key: str, info: VideoMetadata) -> View:
        """Return the evaluation view: the middle of the video, the centred square, not mirrored."""
        return self.evaluation(key, info)[0]

    def evaluation(self, key: str, info: VideoMetadata, clips: int = 1, crops: int = 1) -> list[View]:
        """Return the evaluation views, whose class probabilities are averaged. None is random or mirrored.

        Args:
            key: the sample's key.
            info: the video's frame table and size.
            clips: moments: clip k of K lies at (k + 0.5) / K among all possible positions of a clip. For ``"span"``,
                whose clips all cover the whole video, these are interleaved offsets.
            crops: squares of each clip: 1, the centre, or 3, evenly along the longer side from end to end (arXiv
                1711.07971): left, centre and right, or top, centre and bottom of an upright video. In a square video
                with ``crop`` 1 the three are the same.

        Returns:
            clips * crops views, the crops of a clip side by side.
        """
        if clips < 1 or crops not in (1, 3):
            raise ValueError(f"evaluation views: clips must be at least 1 and crops 1 or 3; got {clips} and {crops}")
        height, width = info.shown_size
        side = max(1, round(min(height, width) * self.crop))
        moments = [self._frames(info, (k + 0.5) / clips) for k in range(clips)]
        boxes = []
        for half in (0, 1, 2) if crops == 3 else (1,):
            top = (height - side) * (half if height > width else 1) // 2
            left = (width - side) * (half if height <= width else 1) // 2
            boxes.append(_in_pixels((top, left, side, side), info))
        return [View(key, frames, box, False, self.size) for frames in moments for box in boxes]

    def _frames(self, info: VideoMetadata, where: float, rng: SampleRandom | None = None) -> tuple[int, ...]:
        """Return frame indices for a position in [0, 1) among all possible ones, jittered when ``rng`` is given."""
        n, last = info.frames, info.frames - 1
        if self.sampling == "span":
            own = [rng.uniform() if rng else where for _ in range(self.frames)]
            places = [where + self.jitter * (place - where) for place in own]
            return tuple(min(last, int((k + place) * n / self.frames)) for k, place in enumerate(places))
        # Rounded, so that a last-digit difference between math libraries does not move a frame.
        faster = round((1 + self.jitter) ** rng.uniform(-1.0, 1.0), 6) if rng else 1.0
        if self.sampling == "stride":
            stride = max(1.0, self.stride * faster)
            start = int(where * max(1, n - int((self.frames - 1) * stride)))
            return tuple(min(last, start + int(k * stride)) for k in range(self.frames))
        length = (self.frames - 1) / self.fps * faster
        start_time = where * max(0.0, float(info.times[-1]) - length)
        wanted = start_time + np.arange(self.frames) / self.fps * faster
        # The frame on screen at that moment: the last one shown no later.
        shown = np.searchsorted(info.times, wanted + 1e-9, side="right") - 1
        return tuple(int(i) for i in np.clip(shown, 0, last))

    def _random_box(self, rng: SampleRandom, height: int, width: int) -> tuple[int, int, int, int]:
        """Draw a random resized crop as torchvision does: ten tries, then the largest centred box of allowed shape."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            h, w = _crop_size(height * width * rng.uniform(*self.scale), rng.uniform(low, high))
            if 0 < w <= width and 0 < h <= height:
                return rng.below(height - h + 1), rng.below(width - w + 1), h, w
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = min(height, round(width / ratio)), min(width, round(height * ratio))
        return (height - h) // 2, (width - w) // 2, h, w


def _crop_size(area: float, log_ratio: float) -> tuple[int, int]:
    """Return the height and width of a crop of an area in pixels and a log of width / height."""
    # Rounded, so that a last-digit difference between math libraries does not move the box.
    ratio = round(math.exp(log_ratio), 6)
    return round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))


def _in_pixels(box: tuple[int, int, int, int], info: VideoMetadata) -> tuple[int, int, int, int]:
    """Map a box on the frame as shown to the frame's own pixels. Nothing changes where these are square."""
    top, left, height, width = box
    (rows, columns), (shown_rows, shown_columns) = info.upright_size, info.shown_size
    first_row, end_row = (round(y * rows / shown_rows) for y in (top, top + height))
    first_column, end_column = (round(x * columns / shown_columns) for x in (left, left + width))
    return first_row, first_column, max(1, end_row - first_row), max(1, end_column - first_column)


def decode_view(
    data: bytes,
    view: View,
    *,
    info: VideoMetadata | None = None,
    limits: Limits | None = None,
    out: np.ndarray | None = None,
    decoder: str = "pyav",
) -> np.ndarray:
    """Decode one view of a video: uint8 [frames, size, size, 3], into ``out`` when it is given.

    Frames are cropped and resized one at a time, so a long or large video takes no more memory than one of its frames.
    ``decoder`` is ``"pyav"`` or ``"torchcodec"``; the pixels are the same.

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
        DecoderUnavailable: the decoder cannot run here.
    """
    info = info or probe(data, limits)
    clip = np.empty((len(view.frames), view.size, view.size, 3), np.uint8) if out is None else out
    _decode_into([clip], data, [view], info, decoder)
    return clip


def decode_clips(
    data: bytes,
    views: Sequence[View],
    *,
    info: VideoMetadata | None = None,
    limits: Limits | None = None,
    decoder: str = "pyav",
) -> np.ndarray:
    """Decode several views of one video, which have as many frames and the same size, in one pass over the file.

    Returns:
        uint8 [len(views), frames, size, size, 3]: what :func:`decode_view` gives for each.

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
        DecoderUnavailable: the decoder cannot run here.
        ValueError: there are no views, or they differ in shape.
    """
    shapes = {(len(view.frames), view.size) for view in views}
    if len(shapes) != 1:
        raise ValueError(f"views decoded together need one number of frames and one size; got {sorted(shapes)}")
    frames, size = shapes.pop()
    clips = np.empty((len(views), frames, size, size, 3), np.uint8)
    _decode_into(clips, data, views, info or probe(data, limits), decoder)
    return clips


def _decode_into(
    clips: Sequence[np.ndarray] | np.ndarray, data: bytes, views: Sequence[View], info: VideoMetadata, decoder: str
) -> None:
    places = [(v, t) for v, view in enumerate(views) for t in range(len(view.frames))]
    wanted = [views[v].frames[t] for v, t in places]
    for position, frame in iter_frames(data, wanted, info=info, decoder=decoder):
        v, t = places[position]
        clips[v][t] = _cut(frame, views[v])


def cut_view(frames: np.ndarray, view: View, out: np.ndarray) -> None:
    """Cut a view out of a video's decoded frames, uint8 [n, H, W, 3], as :func:`decode_view` does from its bytes."""
    for position, index in enumerate(view.frames):
        out[position] = _cut(frames[index], view)


def _cut(frame: np.ndarray, view: View) -> np.ndarray:
    image = crop_resize(frame, view.box, view.size)
    return image[:, ::-1] if view.flip else image
