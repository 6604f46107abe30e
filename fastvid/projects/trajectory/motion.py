"""The four motions in three dimensions.

Coordinates are those of the original project: x to the right, y down and z away from the camera, the visible box being
[-1, 1] in each. The camera looks along z and projects in parallel, so z shows in an object's size alone.
"""

import numpy as np

from fastvid.draws import between

MOTIONS = ("linear", "circular", "helical", "parabolic")
"""Names of the motion classes; a class id is a position."""

LINEAR, CIRCULAR, HELICAL, PARABOLIC = range(4)
PATH_DRAWS = 8  # random numbers of a long path
ROOM = 0.85  # a long path stays within this in x and y


def long_path(motion: np.ndarray, draws: np.ndarray, time: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Compute paths that stay in view, of objects that are followed for a while.

    Args:
        motion: int [...], index into :data:`MOTIONS`.
        draws: float [..., 8], uniform numbers in [0, 1) that say size, speed, direction and place.
        time: float [T], moments; one unit is the duration over which sizes and speeds are meant.
        lasts: float [...], the last moment of each object's life, which begins at 0. Over it the path is in view;
            moments after it have positions too, which may be out of view.

    Returns:
        float64 [..., T, 3].
    """
    lasts, moments = lasts[..., None], np.broadcast_to(time, (*motion.shape, len(time)))
    shape = _shape(motion[..., None], np.moveaxis(draws, -1, 0)[..., None], moments, lasts)
    lived = moments <= lasts + 1e-9
    low = np.where(lived[..., None], shape, np.inf).min(-2, keepdims=True)
    high = np.where(lived[..., None], shape, -np.inf).max(-2, keepdims=True)
    # A path that is too large is shrunk, and then lies anywhere in the room that is left.
    shrink = np.minimum(1.0, 2 * ROOM / np.maximum((high - low).max(-1, keepdims=True), 1e-9))
    slack = 2 * ROOM - (high - low) * shrink
    plane = (shape - low) * shrink - ROOM + slack * draws[..., None, 5:7]
    return np.concatenate([plane, _depth(motion, draws, moments)[..., None]], axis=-1)


def _shape(motion: np.ndarray, draws: np.ndarray, time: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Return x and y [..., T, 2] of each motion, wherever it lies."""
    sign = np.where(draws[0] < 0.5, -1.0, 1.0)
    angle = between(draws[1], 0, 2 * np.pi)
    # linear: a straight way in any direction
    way = between(draws[2], 0.7, 1.3) * time
    straight = np.stack([way * np.cos(angle), way * np.sin(angle)], -1)
    # circular, and helical seen along its axis
    radius = np.where(motion == HELICAL, between(draws[2], 0.25, 0.5), between(draws[2], 0.3, 0.6))
    turned = angle + sign * 2 * np.pi * between(draws[3], 0.9, 1.6) * time
    round_ = np.stack([radius * np.cos(turned), radius * np.sin(turned)], -1)
    # parabolic: thrown upwards and falling back (y points down)
    peak = between(draws[3], 0.3, 0.7) * lasts
    fall = between(draws[4], 0.6, 1.3) * ((time - peak) / 0.7) ** 2
    thrown = np.stack([sign * between(draws[2], 0.6, 1.4) * time, fall], -1)
    kind = motion[..., None]
    return np.where(kind == LINEAR, straight, np.where(kind == PARABOLIC, thrown, round_))


def _depth(motion: np.ndarray, draws: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return z [..., T]: it changes in a helix alone, back and forth, so that each depth is as likely at any moment."""
    speed = np.where(motion == HELICAL, between(draws[..., 4], 0.8, 1.2), 0.0)[..., None]
    back_and_forth = 1 - np.abs((2 * draws[..., 7, None] + speed * time) % 2 - 1)
    return between(back_and_forth, -0.8, 0.8)


def brief_path(
    motion: np.ndarray, start: np.ndarray, velocity: np.ndarray, age: np.ndarray, lifetime: np.ndarray
) -> np.ndarray:
    """Compute the paths of the original project's transient objects, which last for at most a few frames.

    Args:
        motion: int [...], index into :data:`MOTIONS`.
        start: float [..., 3], where a path begins.
        velocity: float [..., 3], per frame.
        age: float [..., T], frames since birth.
        lifetime: int [...], frames.

    Returns:
        float64 [..., T, 3], clipped to the visible box.
    """
    origin, step = start[..., None, :], velocity[..., None, :]
    age = age[..., None]
    moved = origin + step * age
    angle = 0.5 * age[..., 0]
    turn = np.stack([np.cos(angle) - 1, np.sin(angle), np.zeros_like(angle)], -1)
    circle = origin + 0.3 * turn
    helix = origin + 0.2 * turn + step * age * np.array([0.0, 0.0, 1.0])
    share = age / np.maximum(lifetime[..., None, None] - 1, 1)
    # -.5 t^2 in the original's y, which points up
    parabola = moved + np.array([0.0, 0.5, 0.0]) * share**2
    kind = motion[..., None, None]
    path = np.select([kind == LINEAR, kind == CIRCULAR, kind == HELICAL], [moved, circle, helix], parabola)
    paths: np.ndarray = np.clip(path, -1.0, 1.0)
    return paths
