"""Pictures of a run: where single answers were looked up, by frame, by layer and by head, and a video of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fastvid.data.demo.files import encode_h264
from fastvid.files import write_whole
from fastvid.report.gaze import Gaze, gaze_video, spotlight
from fastvid.report.strips import Strips, strips_png

_SIDE = 120  # of a frame in a strip, pixels
_FRAMES = 8  # of a strip
_SLOW = 1  # frames a second of the video: time to find the tile


@dataclass(frozen=True)
class Shown:
    """One question, its clip, and how it was answered.

    Attributes:
        key: of the clip.
        question: its words.
        answer: the true one.
        frames: uint8 [T, H, W, 3].
        grid: rows and columns of patches.
        truth: int [T], patch that holds the answer, -1 where that is not known.
        attention: by pass, float [L, T, h, N] on the tokens of each frame, the patches last.
        said: by pass, the answer.
    """

    key: str
    question: str
    answer: str
    frames: np.ndarray
    grid: tuple[int, int]
    truth: Sequence[int]
    attention: Mapping[str, np.ndarray]
    said: Mapping[str, str]

    def on_patches(self, attention: np.ndarray) -> np.ndarray:
        """Return attention [..., N] on the patches, [..., rows, columns]."""
        patches = attention[..., attention.shape[-1] - self.grid[0] * self.grid[1] :]
        return patches.reshape(*attention.shape[:-1], *self.grid)

    def gaze(self, name: str) -> Gaze:
        """Return the first layer's attention in a pass, averaged over its heads."""
        first = self.on_patches(self.attention[name])[0].mean(1)
        return Gaze(f"{name} pass", first, self.said[name].split(), self.truth)


def write_pictures(folder: Path, shown: Sequence[Shown]) -> None:
    """Write strips of the gazes by pass, and of one by layer and by head, as PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    groups = []
    for one in shown:
        gazes = [one.gaze(name) for name in one.attention]
        groups.append(
            Strips(
                f"{one.question}: {one.answer}",
                [spotlight(one.frames, gaze.attention, gaze.truth, side=_SIDE) for gaze in gazes],
                [f"{name}: {said}" for name, said in one.said.items()],
                one.key,
            )
        )
    strips_png(folder / "gaze-by-pass.png", groups, frames=_FRAMES, side=_SIDE)
    strips_png(folder / "gaze-by-layer-and-head.png", [_layers(shown[0])], frames=_FRAMES, side=_SIDE)


def write_video(path: Path, shown: Sequence[Shown]) -> None:
    """Write a video of the gazes, one question after the other, the passes side by side."""
    parts = [gaze_video(one.frames, [one.gaze(name) for name in one.attention], one.question) for one in shown]
    height = max(part.shape[1] for part in parts)
    parts = [np.pad(part, ((0, 0), (0, height - part.shape[1]), (0, 0), (0, 0))) for part in parts]
    write_whole(path, encode_h264(np.concatenate(parts), _SLOW), sync=False)


def _layers(one: Shown) -> Strips:
    """Return the looks of the first pass: each layer's mean over heads, then the heads of the first layer."""
    name, attention = next(iter(one.attention.items()))
    on_patches = one.on_patches(attention)
    rows = {f"layer {i + 1}": layer.mean(1) for i, layer in enumerate(on_patches)}
    rows |= {f"layer 1, head {i + 1}": on_patches[0][:, i] for i in range(on_patches.shape[2])}
    clips = [spotlight(one.frames, row, one.truth, side=_SIDE) for row in rows.values()]
    return Strips(f"{name} pass: {one.question}", clips, list(rows), one.key)
