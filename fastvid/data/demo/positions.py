"""Positions of the shape in a demo video, for probes that ask for them."""

from collections.abc import Callable, Sequence

import torch

from fastvid.data.demo.render import DemoSpec, demo_motion


def demo_positions(seed: int, spec: DemoSpec, slots: int) -> Callable[[Sequence[str]], torch.Tensor]:
    """Return a function from keys of demo videos to the shape's centres, float32 [B, slots, 2]: (x, y) as shares of the
    frame's side, in [0, 1).

    A clip must show all frames of the video, as one of as many frames as the video has does. The centre of a slot is
    the middle of the way between its first and its last frame, on the torus.

    Args:
        seed: seed of the videos.
        spec: their look.
        slots: time slots of a clip's tokens.

    Raises:
        ValueError: the frames do not divide into the slots.
    """
    if spec.frames % slots:
        raise ValueError(f"{spec.frames} frames do not divide into {slots} time slots")

    def positions(keys: Sequence[str]) -> torch.Tensor:
        numbers = [int(key.rpartition("/")[2]) for key in keys]  # behind the shard's name
        paths = torch.stack([torch.from_numpy(demo_motion(seed, n, spec)[0]) for n in numbers]) / spec.size
        first, last = paths.unflatten(1, (slots, -1))[:, :, 0], paths.unflatten(1, (slots, -1))[:, :, -1]
        return (first + ((last - first + 0.5) % 1 - 0.5) / 2) % 1

    return positions
