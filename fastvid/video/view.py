"""Views: which frames of a video a clip has, which part of each, and whether it is mirrored."""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fastvid.random import SampleRandom
from fastvid.video.decode import iter_frames
from fastvid.video.limits import Limits
from fastvid.video.probe import VideoInfo, probe
from fastvid.video.resize import crop_resize

_STREAM = 8  # Philox stream of views; masks use streams below 4


@dataclass(frozen=True)
class View:
    """One clip of one video, fully determined.

    Attributes:
        key: the sample's key.
        frames: frame indices, one per frame of the clip; an index repeats where the video is too short.
        box: (top, left, height, width) in pixels of the upright frame.
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
        """A 63-bit hash of everything above: equal hashes mean equal pixels. Latent caches store it."""
        text = f"{self.key}\0{self.frames}\0{self.box}\0{self.flip}\0{self.size}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") & (2**63 - 1)

    @property
    def repeats_frames(self) -> bool:
        """Whether the video had fewer frames than the clip wants."""
        return len(set(self.frames)) < len(self.frames)


@dataclass(frozen=True)
class ViewSpec:
    """How views are drawn.

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
    """

    frames: int = 16
    size: int = 224
    sampling: Literal["span", "stride", "fps"] = "span"
    stride: int = 4
    fps: float = 4.0
    scale: tuple[float, float] = (0.3, 1.0)
    ratio: tuple[float, float] = (0.75, 1.35)
    flip: float = 0.5

    def __post_init__(self):
        if self.frames < 1 or self.size < 1 or self.stride < 1 or self.fps <= 0:
            raise ValueError(f"ViewSpec: frames, size, stride and fps must be positive; got {self}")
        if self.sampling not in ("span", "stride", "fps"):
            raise ValueError(f"ViewSpec: sampling must be span, stride or fps; got {self.sampling!r}")
        if not 0 < self.scale[0] <= self.scale[1] <= 1 or not 0 < self.ratio[0] <= self.ratio[1]:
            raise ValueError(f"ViewSpec: need 0 < scale <= 1 and ratio > 0; got {self.scale} and {self.ratio}")

    def draw(self, key: str, seed: int, draw: int, info: VideoInfo) -> View:
        """A training view: a pure function of (key, seed, draw) and the video's metadata.

        Args:
            key: the sample's key.
            seed: the run's seed.
            draw: which view of this sample, such as the epoch.
            info: the video's frame table and size.
        """
        rng = SampleRandom(key, seed, draw, stream=_STREAM)
        frames = self._frames(info, rng.uniform())
        box = self._random_box(rng, *info.upright_size)
        return View(key, frames, box, rng.uniform() < self.flip, self.size)

    def center(self, key: str, info: VideoInfo) -> View:
        """The evaluation view: the middle of the video, the largest centred square, not mirrored."""
        height, width = info.upright_size
        side = min(height, width)
        box = ((height - side) // 2, (width - side) // 2, side, side)
        return View(key, self._frames(info, 0.5), box, False, self.size)

    def _frames(self, info: VideoInfo, where: float) -> tuple[int, ...]:
        """Frame indices for a position in [0, 1) among all possible ones."""
        n, last = info.frames, info.frames - 1
        if self.sampling == "span":
            return tuple(min(last, int((k + where) * n / self.frames)) for k in range(self.frames))
        if self.sampling == "stride":
            start = int(where * max(1, n - (self.frames - 1) * self.stride))
            return tuple(min(last, start + k * self.stride) for k in range(self.frames))
        length = (self.frames - 1) / self.fps
        start_time = where * max(0.0, float(info.times[-1]) - length)
        wanted = start_time + np.arange(self.frames) / self.fps
        # The frame on screen at that moment: the last one shown no later.
        shown = np.searchsorted(info.times, wanted + 1e-9, side="right") - 1
        return tuple(int(i) for i in np.clip(shown, 0, last))

    def _random_box(self, rng: SampleRandom, height: int, width: int) -> tuple[int, int, int, int]:
        """A random resized crop, as torchvision draws it: ten tries, then the largest centred box of allowed shape."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            # Rounded, so that a last-digit difference between math libraries does not move the box.
            ratio = round(math.exp(rng.uniform(low, high)), 6)
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if 0 < w <= width and 0 < h <= height:
                return rng.below(height - h + 1), rng.below(width - w + 1), h, w
        ratio = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = min(height, round(width / ratio)), min(width, round(height * ratio))
        return (height - h) // 2, (width - w) // 2, h, w


def decode_view(
    data: bytes,
    view: View,
    *,
    info: VideoInfo | None = None,
    limits: Limits | None = None,
    out: np.ndarray | None = None,
    decoder: str = "pyav",
) -> np.ndarray:
    """Decodes one view of a video: uint8 [frames, size, size, 3], into ``out`` when it is given.

    Frames are cropped and resized one at a time, so a long or large video takes no more memory than one of its frames.
    ``decoder`` is ``"pyav"`` or ``"torchcodec"``; the pixels are the same.

    Raises:
        DecodeError: the file cannot be used; see its ``reason``.
        DecoderUnavailable: the decoder cannot run here.
    """
    info = info or probe(data, limits)
    clip = np.empty((len(view.frames), view.size, view.size, 3), np.uint8) if out is None else out
    for position, frame in iter_frames(data, view.frames, info=info, decoder=decoder):
        image = crop_resize(frame, view.box, view.size)
        clip[position] = image[:, ::-1] if view.flip else image
    return clip


def cut_view(frames: np.ndarray, view: View, out: np.ndarray) -> None:
    """Cuts a view out of a video's decoded frames, uint8 [n, H, W, 3], as :func:`decode_view` does from its bytes."""
    for position, index in enumerate(view.frames):
        image = crop_resize(frames[index], view.box, view.size)
        out[position] = image[:, ::-1] if view.flip else image
