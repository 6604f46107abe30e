"""Scenes: what a generated video shows, and the truth about it, before any pixel is drawn.

A scene is a pure function of (seed, index). All motion classes take turns, so every class has as many videos.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from fastvid.projects.trajectory.motion import MOTIONS
from fastvid.ranges import Count, Natural
from fastvid.train.paths import PathOption

Variant = Literal["seed", "hard"]
HARD_FRAMES = 32  # frames of the variant hard
NOISE_SHARE = 0.2  # a video whose share of frames with a transient is below this has the noise label 1

MOST_TRANSIENTS = 6  # of a video
LONGEST_BRIEF = 3  # frames of a transient object of the variant seed


@dataclass(frozen=True)
class SceneConfig:
    """The videos."""

    path: Annotated[str, PathOption()] | None = None
    """A folder: of the original project's augmented_traj files, of shards that this project wrote, or of any videos,
    which can be tracked and predicted on, but not trained on; default: videos are generated."""
    variant: Variant = "seed"
    """seed: the original project's videos, white persistent and red transient discs on black. hard: nothing in a single
    frame tells them apart, and there are occluders and decoys."""
    frames: Count | None = None
    """Frames of a video; default: 16 for seed, 32 for hard, which takes no other number. With path: how many are used,
    the first ones of files of the original project, or evenly over any other video."""
    size: Count = 64
    """Side of the square frame in pixels, which videos at path are resized to; the original's files keep their own."""
    train: Count = 2048
    """Videos to train with. This and the next two are the parts' sizes, or with path their proportions: a hash of its
    key says which part a video is in, for each class apart."""
    val: Count = 512
    """Videos to validate with."""
    test: Count = 512
    """Videos to test with."""
    seed: Natural = 0
    """Seed of the generated videos: runs with different run.seed share them."""

    @property
    def length(self) -> int:
        """Return the number of frames of a video.

        Raises:
            ValueError: the variant is not made for as many.
        """
        if self.variant == "hard":
            if self.frames not in (None, HARD_FRAMES):
                raise ValueError(
                    f"the variant hard is made for {HARD_FRAMES} frames (lifetimes of 12 to 32 against 1 to 6); got "
                    f"{self.frames}: leave frames out, or choose the variant seed"
                )
            return HARD_FRAMES
        if self.frames is not None and self.frames < LONGEST_BRIEF:
            raise ValueError(f"frames must be at least {LONGEST_BRIEF}; got {self.frames}")
        return self.frames or 16


@dataclass(frozen=True)
class Scenes:
    """V scenes of T frames with at most O objects each; lengths are in pixels.

    Attributes:
        indices: int64 [V], numbers of the videos in the data set.
        size: side of the square frame.
        seed: of the data set.
        centre: float32 [V, O, T, 2], x and y; pixel i covers [i, i + 1).
        radius: float32 [V, O, T].
        near: float32 [V, O, T]; of two objects the one with the greater value is in front.
        alive: bool [V, O, T], whether the object exists, seen or not. An unused slot is never alive.
        colour: uint8 [V, O, 3], RGB.
        persistent: bool [V, O].
        motion: int64 [V, O], motion class.
        bars: int64 [V, B, 4], left, top, right and bottom of opaque bars in front of all objects; those without area do
            not exist.
        textured: whether there is a background.
    """

    indices: np.ndarray
    size: int
    seed: int
    centre: np.ndarray
    radius: np.ndarray
    near: np.ndarray
    alive: np.ndarray
    colour: np.ndarray
    persistent: np.ndarray
    motion: np.ndarray
    bars: np.ndarray
    textured: bool

    @property
    def exists(self) -> np.ndarray:
        """Return bool [V, O]: which slots hold an object."""
        exists: np.ndarray = np.any(self.alive, axis=-1)
        return exists

    @property
    def lifetime(self) -> np.ndarray:
        """Return int64 [V, O]: frames in which the object exists."""
        frames: np.ndarray = self.alive.sum(-1)
        return frames

    @property
    def birth(self) -> np.ndarray:
        """Return int64 [V, O]: the first frame of its life, 0 for an unused slot."""
        first: np.ndarray = self.alive.argmax(-1)
        return first

    @property
    def video_motion(self) -> np.ndarray:
        """Return int64 [V]: the motion class that a video's persistent objects share."""
        return self.indices % len(MOTIONS)

    @property
    def noise(self) -> np.ndarray:
        """Return int64 [V]: 1 where the share of frames with a transient is below :data:`NOISE_SHARE`."""
        transient = self.alive & ~self.persistent[:, :, None]
        noise: np.ndarray = (transient.any(1).mean(-1) < NOISE_SHARE).astype(np.int64)
        return noise


def disc_radius(depth: np.ndarray, size: int) -> np.ndarray:
    """Return the radius in pixels of an object at a depth in [-1, 1], as in the original project: 2 to 4.8 of 64."""
    return np.maximum(2.0, 0.05 * size * (1.5 - (depth + 1) / 2))
