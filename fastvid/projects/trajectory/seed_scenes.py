"""Scenes of the variant ``seed``: the original project's parameters."""

import numpy as np

from fastvid.draws import between, uniforms, whole
from fastvid.projects.trajectory.motion import MOTIONS, PATH_DRAWS, brief_path, long_path
from fastvid.projects.trajectory.scenes import LONGEST_BRIEF, MOST_TRANSIENTS, SceneConfig, Scenes, disc_radius

_WHITE = np.array([242, 242, 242], np.uint8)  # the original's .95
_RED = np.array([230, 77, 77], np.uint8)  # the original's .9, .3, .3
_SCENE, _PATHS, _BRIEF = 1, 2, 3  # Philox streams


def draw_seed(config: SceneConfig, indices: np.ndarray) -> Scenes:
    """Draw scenes with the original project's parameters: one persistent object, 1 to 6 transients of 1 to 3 frames."""
    V, T, frames = len(indices), config.length, np.arange(config.length)
    scene = uniforms(config.seed, indices, (4,), _SCENE)
    paths = uniforms(config.seed, indices, (PATH_DRAWS,), _PATHS)
    brief = uniforms(config.seed, indices, (MOST_TRANSIENTS, 9), _BRIEF)

    one = np.full(V, 1.0)
    lasting = long_path(indices % len(MOTIONS), paths, frames / max(T - 1, 1), one)
    lifetime = whole(brief[..., 0], 1, LONGEST_BRIEF)
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
        colour=np.where(persistent[..., None], _WHITE, _RED),
        persistent=persistent,
        motion=np.concatenate([(indices % len(MOTIONS))[:, None], kind], axis=1),
        bars=np.zeros((V, 0, 4), np.int64),
        textured=False,
    )
