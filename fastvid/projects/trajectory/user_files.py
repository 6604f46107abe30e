"""The original project's files: ``augmented_traj_00000.pt`` with pixels, ``augmented_traj_00000.json`` beside it."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastvid.files import write_whole
from fastvid.projects.trajectory.generator import draw_scenes
from fastvid.projects.trajectory.motion import MOTIONS
from fastvid.projects.trajectory.render import render
from fastvid.projects.trajectory.scenes import NOISE_SHARE, SceneConfig, Scenes

NAME = "augmented_traj_{:05d}"
_NUMBERED = re.compile(r"augmented_traj_\d{5,}\.pt")
_BASE = ("Linear", "Circular", "Helical", "Parabolic")  # as the original spells the classes
_MOST_BYTES = 1 << 30  # of one file

LOST = (
    "imported files: velocities of transient objects were not saved, so their boxes cannot be rebuilt; objects are "
    "found by the tracker, and one whose mean colour is white counts as persistent"
)


def find_files(folder: Path) -> list[Path]:
    """Return the ``.pt`` files of the original project in a folder, by name."""
    return sorted(path for path in folder.iterdir() if _NUMBERED.fullmatch(path.name))


def read_pixels(path: Path) -> np.ndarray:
    """Read the video of one file as uint8 [T, H, W, 3]. Nothing in the file is executed.

    The axis of size 3 says how the pixels lie: [T, 3, H, W], [T, H, W, 3] or [3, T, H, W].

    Raises:
        ValueError: no tensor, another shape, one in which several axes may be the colours, or values that are neither
            uint8 nor in [0, 1].
        OSError: it cannot be read.
    """
    if path.stat().st_size > _MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: a video of the original project has less than 1 GB")
    try:
        tensor = torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # of any type: the file may hold anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{path} is no file of torch.save with a tensor alone: {reason}") from error
    if not isinstance(tensor, torch.Tensor):
        raise ValueError(f"{path} holds a {type(tensor).__name__}, not one tensor: save the video's tensor itself")
    return _as_bytes(_colours_last(tensor, path), path)


@dataclass(frozen=True)
class FileLabels:
    """The labels of one file.

    Attributes:
        motion: motion class.
        frames: number of frames.
        transient: frames with a transient object.
    """

    motion: int
    frames: int
    transient: frozenset[int]

    def noise(self, frames: int) -> int:
        """Return the noise label of the first ``frames`` frames."""
        return int(sum(frame < frames for frame in self.transient) / frames < NOISE_SHARE)


def read_labels(path: Path) -> FileLabels:
    """Read the ``.json`` beside a file of pixels.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is damaged, or lacks what is needed.
    """
    place = path.with_suffix(".json")
    try:
        fields = json.loads(place.read_bytes())
    except FileNotFoundError:
        raise FileNotFoundError(
            f"{place} is missing: it says the class and the frames with transients of {path.name}, which the pixels do "
            "not; copy it beside the .pt file"
        ) from None
    except ValueError as error:
        raise ValueError(f"{place} is damaged: {error}") from error
    try:
        motion, frames = _BASE.index(str(fields["class"]).capitalize()), int(fields["num_frames"])
        transient = frozenset(int(frame) for frame in fields["transient_frames"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{place} lacks what is needed: class, one of {', '.join(_BASE)}; num_frames; transient_frames, a list "
            f"({type(error).__name__}: {error})"
        ) from error
    if frames < 1 or any(not 0 <= frame < frames for frame in transient):
        raise ValueError(f"{place}: transient_frames must be in [0, {frames})")
    return FileLabels(motion, frames, transient)


def export_files(config: SceneConfig, indices: np.ndarray, folder: Path) -> None:
    """Write generated videos of the variant ``seed`` as the original project's files, float32 [T, 3, H, W].

    Raises:
        ValueError: another variant, which those files have no fields for.
        OSError: a file cannot be written.
    """
    if config.variant != "seed":
        raise ValueError(f"augmented_traj files describe the variant seed alone, not {config.variant}")
    folder.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(indices), 64):
        scenes = draw_scenes(config, indices[first : first + 64])
        frames, _ = render(scenes)
        for row, index in enumerate(scenes.indices):
            path = folder / NAME.format(int(index))
            pixels = torch.from_numpy(frames[row]).permute(0, 3, 1, 2).float().div(255).contiguous()
            write_whole(path.with_suffix(".json"), json.dumps(_fields(scenes, row), indent=1).encode(), sync=False)
            with path.with_suffix(".pt.part").open("wb") as file:
                torch.save(pixels, file)
            path.with_suffix(".pt.part").replace(path.with_suffix(".pt"))


def _fields(scenes: Scenes, row: int) -> dict[str, Any]:
    alive, centre = scenes.alive[row], scenes.centre[row]
    place = centre / (scenes.size / 2) - 1
    # A radius is a whole number of pixels: the depth is the middle of those that give it.
    depth = 2 * (1.5 - (scenes.radius[row] + 0.5) / (0.05 * scenes.size)) - 1
    passing = [o for o in range(1, len(alive)) if alive[o].any()]
    details = [
        {
            "start_frame": int(alive[o].argmax()), "duration": int(alive[o].sum()),
            "trajectory_type": MOTIONS[scenes.motion[row, o]],
            "start_position": [*place[o, alive[o].argmax()].tolist(), float(depth[o, alive[o].argmax()])],
        }
        for o in passing
    ]  # fmt: skip
    return {
        "class": _BASE[scenes.video_motion[row]], "num_frames": alive.shape[1],
        "resolution": [scenes.size, scenes.size], "num_cameras": 1,
        "positions": np.concatenate([place[0], depth[0, :, None]], 1).tolist(), "camera_positions": [[0.0, 0.0, -1.0]],
        "num_transients": len(passing), "transient_frames": np.flatnonzero(alive[1:].any(0)).tolist(),
        "transient_details": details, "augmented": True, "source_sample_idx": int(scenes.indices[row]),
    }  # fmt: skip


def _colours_last(tensor: torch.Tensor, path: Path) -> torch.Tensor:
    shape = tuple(tensor.shape)
    if tensor.ndim != 4 or 0 in shape:
        raise ValueError(
            f"{path} holds a tensor of shape {shape}: a video has four axes, such as (32, 3, 64, 64); of several "
            "cameras, save one at a time"
        )
    colours = [axis for axis in (0, 1, 3) if shape[axis] == 3]
    if not colours:
        raise ValueError(f"{path} holds a tensor of shape {shape}: no axis of size 3 can be the colours")
    if len(colours) > 1:
        raise ValueError(
            f"{path} holds a tensor of shape {shape}: axes {' and '.join(map(str, colours))} may each be the colours; "
            "save it with one axis of size 3, as (frames, 3, height, width)"
        )
    return tensor.permute({0: (1, 2, 3, 0), 1: (0, 2, 3, 1), 3: (0, 1, 2, 3)}[colours[0]])


def _as_bytes(pixels: torch.Tensor, path: Path) -> np.ndarray:
    if pixels.dtype == torch.uint8:
        return pixels.contiguous().numpy()
    if not pixels.is_floating_point():
        raise ValueError(f"{path} holds {pixels.dtype} values: pixels are uint8, or floats in [0, 1]")
    low, high = (float(value) for value in torch.aminmax(pixels))
    if not -1e-3 <= low <= high <= 1.001:  # false for NaN too
        raise ValueError(f"{path} holds values from {low:g} to {high:g}: pixels are uint8, or floats in [0, 1]")
    return (pixels.float() * 255).round().clamp(0, 255).to(torch.uint8).contiguous().numpy()
