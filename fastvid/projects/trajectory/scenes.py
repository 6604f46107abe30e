"""Scenes: what a generated video shows, and the truth about it, before any pixel is drawn.

A scene is a pure function of (seed, index). All motion classes take turns, so every class has as many videos.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np

from fastvid.projects.trajectory.draws import between, uniforms, whole
from fastvid.projects.trajectory.motion import MOTIONS, PATH_DRAWS, brief_path, long_path
from fastvid.ranges import Count, Natural
from fastvid.train.paths import PathOption

Variant = Literal["seed", "hard"]
HARD_FRAMES = 32
NOISE_SHARE = 0.2  # a video whose share of frames with a transient is below this has the noise label 1

_AT_ONCE = 512  # scenes that exist at one time
MOST_TRANSIENTS = 6
_LONGEST_TRANSIENT = 3  # frames, of the variant seed
_WHITE, _RED = (242, 242, 242), (230, 77, 77)  # the original's (.95, .95, .95) and (.9, .3, .3)
_SCENE, _PATHS, _BRIEF = 1, 2, 3  # Philox streams


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
    """Of the generated videos: runs with different run.seed share them."""

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
        if self.frames is not None and self.frames < _LONGEST_TRANSIENT:
            raise ValueError(f"frames must be at least {_LONGEST_TRANSIENT}; got {self.frames}")
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
        return self.alive.any(-1)

    @property
    def lifetime(self) -> np.ndarray:
        """Return int64 [V, O]: frames in which the object exists."""
        return self.alive.sum(-1)

    @property
    def birth(self) -> np.ndarray:
        """Return int64 [V, O]: the first frame of its life, 0 for an unused slot."""
        return self.alive.argmax(-1)

    @property
    def video_motion(self) -> np.ndarray:
        """Return int64 [V]: the motion class that a video's persistent objects share."""
        return self.indices % len(MOTIONS)

    @property
    def noise(self) -> np.ndarray:
        """Return int64 [V]: 1 where the share of frames with a transient is below :data:`NOISE_SHARE`."""
        transient = self.alive & ~self.persistent[:, :, None]
        return (transient.any(1).mean(-1) < NOISE_SHARE).astype(np.int64)


def draw_scenes(config: SceneConfig, indices: np.ndarray) -> Scenes:
    """Draw the scenes with these numbers.

    Raises:
        ValueError: the number of frames does not fit the variant.
    """
    indices = np.asarray(indices, np.int64)
    length = config.length  # or an error
    if config.variant == "hard":
        from fastvid.projects.trajectory.hard_scenes import draw_hard

        return draw_hard(config, indices)
    return _draw_seed(config, indices, length)


def noise_labels(config: SceneConfig, indices: np.ndarray) -> np.ndarray:
    """Return int64 [V]: the noise labels of many videos, without holding all of their scenes."""
    parts = [draw_scenes(config, indices[i : i + _AT_ONCE]).noise for i in range(0, len(indices), _AT_ONCE)]
    return np.concatenate([np.zeros(0, np.int64), *parts])


def disc_radius(depth: np.ndarray, size: int) -> np.ndarray:
    """Return the radius in pixels of an object at a depth in [-1, 1], as in the original project: 2 to 4.8 of 64."""
    return np.maximum(2.0, 0.05 * size * (1.5 - (depth + 1) / 2))


def _draw_seed(config: SceneConfig, indices: np.ndarray, length: int) -> Scenes:
    """Draw scenes with the original project's parameters: one persistent object, 1 to 6 transients of 1 to 3 frames."""
    V, T, frames = len(indices), length, np.arange(length)
    scene = uniforms(config.seed, indices, (4,), _SCENE)
    paths = uniforms(config.seed, indices, (PATH_DRAWS,), _PATHS)
    brief = uniforms(config.seed, indices, (MOST_TRANSIENTS, 9), _BRIEF)

    one = np.full(V, 1.0)
    lasting = long_path(indices % len(MOTIONS), paths, frames / max(T - 1, 1), one)
    lifetime = whole(brief[..., 0], 1, _LONGEST_TRANSIENT)
    birth = (brief[..., 1] * (T - lifetime + 1)).astype(np.int64)
    age = frames - birth[..., None]
    kind = whole(brief[..., 2], 0, len(MOTIONS) - 1)
    start, velocity = between(brief[..., 3:6], -0.8, 0.8), between(brief[..., 6:9], -0.1, 0.1)
    passing = brief_path(kind, start, velocity, np.clip(age, 0, None), lifetime)

    used = np.arange(MOST_TRANSIENTS) < whole(scene[:, 0], 1, MOST_TRANSIENTS)[:, None]
    alive = (age >= 0) & (age < lifetime[..., None]) & used[..., None]
    path = np.concatenate([lasting[:, None], passing], axis=1)  # [V, O, T, 3]
    slots = path.shape[1]
    persistent = np.zeros((V, slots), bool)
    persistent[:, 0] = True
    half = config.size / 2
    # The original draws whole pixels: the disc's centre and radius are integers.
    centre = ((path[..., :2] + 1) * half).astype(np.int64) + 0.5
    reach = disc_radius(path[..., 2], config.size).astype(np.int64)
    return Scenes(
        indices=indices,
        size=config.size,
        seed=config.seed,
        centre=centre.astype(np.float32),
        radius=reach.astype(np.float32),
        near=np.broadcast_to(
            np.arange(slots, dtype=np.float32)[:, None], (V, slots, T)
        ),  # later ones overwrite, as there
        alive=np.concatenate([np.ones((V, 1, T), bool), alive], axis=1),
        colour=np.where(persistent[..., None], np.uint8(_WHITE), np.uint8(_RED)),
        persistent=persistent,
        motion=np.concatenate([(indices % len(MOTIONS))[:, None], kind], axis=1),
        bars=np.zeros((V, 0, 4), np.int64),
        textured=False,
    )
