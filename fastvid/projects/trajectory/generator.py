"""The generator: from numbers of videos to scenes of either variant."""

import numpy as np

from fastvid.projects.trajectory.hard_scenes import draw_hard
from fastvid.projects.trajectory.scenes import SceneConfig, Scenes
from fastvid.projects.trajectory.seed_scenes import draw_seed

_AT_ONCE = 512  # scenes that exist at one time


def draw_scenes(config: SceneConfig, indices: np.ndarray) -> Scenes:
    """Draw the scenes with these numbers.

    Raises:
        ValueError: the number of frames does not fit the variant.
    """
    indices = np.asarray(indices, np.int64)
    return draw_hard(config, indices) if config.variant == "hard" else draw_seed(config, indices)


def noise_labels(config: SceneConfig, indices: np.ndarray) -> np.ndarray:
    """Return int64 [V]: the noise labels of many videos, without holding all of their scenes."""
    parts = [draw_scenes(config, indices[i : i + _AT_ONCE]).noise for i in range(0, len(indices), _AT_ONCE)]
    return np.concatenate([np.zeros(0, np.int64), *parts])
