"""From videos to tokens: track, crop, compute features, and keep the result."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from fastvid.data.progress import Progress
from fastvid.files import cache_dir
from fastvid.projects.trajectory.crops import CONTEXT, cut_crops
from fastvid.projects.trajectory.features import Extractor, Features, Pixels
from fastvid.projects.trajectory.render import SEEN, Truth
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.token_file import fingerprint_of, read_tokens, save_tokens
from fastvid.projects.trajectory.token_set import TokenSet, join_tokens, make_token_set
from fastvid.projects.trajectory.videos import Footage, GeneratedVideos, Split, Task, Videos, split_rows
from fastvid.tracks.follow import followed_objects
from fastvid.tracks.tracks import Tracks, truth_tracks

__all__ = ["TokenConfig", "TokenSet", "load_tokens", "make_tokens"]

log = logging.getLogger(__name__)

Tracker = Literal["truth", "hungarian", "norfair"]
_AT_ONCE = 256  # videos whose pixels exist at one time


@dataclass(frozen=True)
class TokenConfig:
    """The tokens that are made of the videos, once."""

    tracker: Tracker = "truth"
    """truth: the generator's boxes and identities; hungarian: detection and linking of this package; norfair: its
    detection, linked by the package norfair-enough."""
    features: Features = "pixels"
    """pixels: the crop itself."""
    source: str | None = None


def load_tokens(
    data: SceneConfig,
    config: TokenConfig,
    split: Split,
    *,
    task: Task = "motion",
    device: torch.device | str = "cpu",
    folder: Path | None = None,
) -> TokenSet:
    """Return the tokens of one part of the videos: from the cache, or made now.

    Args:
        data: which videos.
        config: how tokens are made of them.
        split: which part.
        task: whose labels every part must have at least two of.
        device: where crops and features are computed.
        folder: of the cache; default: the user's cache directory.

    Raises:
        ValueError: one sentence on what does not fit: options, a part with one class.
        OSError: a file cannot be read or written.
    """
    videos: Videos = GeneratedVideos(data)
    rows = split_rows(videos, (data.train, data.val, data.test), task)
    extractor = Pixels()
    facts = _facts(videos, [videos.keys[row] for row in rows[split]], config, extractor)
    fingerprint = fingerprint_of(facts)
    path = (folder or cache_dir() / "trajectory") / f"tokens-{fingerprint[:16]}.safetensors"
    try:
        return read_tokens(path, fingerprint)
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning("%s: the tokens are made anew", error)
    tokens = make_tokens(videos, rows[split], config, extractor, device=device)
    save_tokens(path, tokens, facts)
    log.info("tokens of %d videos: %d, in %s", len(tokens), tokens.offsets[-1], path)
    return tokens


def make_tokens(
    videos: Videos, rows: np.ndarray, config: TokenConfig, extractor: Extractor, *, device: torch.device | str = "cpu"
) -> TokenSet:
    """Make the tokens of the videos with these numbers, with a progress bar.

    Raises:
        ValueError: the tracker needs a truth that the videos do not have.
    """
    parts = []
    with Progress("video") as progress:
        for first in range(0, len(rows), _AT_ONCE):
            some = rows[first : first + _AT_ONCE]
            footage = videos.read(some)
            tracks = find_tracks(footage, config).seen
            crops = object_crops(footage.frames, tracks, extractor.size, extractor.normalisation, device)
            features = extractor(crops).to(torch.float16).cpu().numpy()
            keys, motion, noise = [videos.keys[row] for row in some], videos.motion[some], videos.noise[some]
            parts.append(make_token_set(keys, tracks, is_persistent(tracks, footage), features, motion, noise))
            progress(first + len(some), len(rows))
    return join_tokens(parts)


def find_tracks(footage: Footage, config: TokenConfig) -> Tracks:
    """Track the objects of some videos."""
    return truth_tracks(_known(footage.truth).boxes, _known(footage.truth).visibility, SEEN)


def object_crops(
    frames: np.ndarray, tracks: Tracks, size: int, normalisation, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Cut the crops of all boxes of some tracks out of frames uint8 [V, T, H, W, 3], as an extractor takes them."""
    mean, std = normalisation
    flat = tracks.video * tracks.frames + tracks.frame
    return cut_crops(
        frames.reshape(-1, *frames.shape[2:]), flat, tracks.boxes, size=size, mean=mean, std=std,
        device=device,
    )  # fmt: skip


def is_persistent(tracks: Tracks, footage: Footage) -> np.ndarray:
    """Return bool [N]: whether the object that each box's track mostly follows is persistent."""
    truth = _known(footage.truth)
    followed = followed_objects(tracks, truth.boxes)
    return truth.persistent[tracks.video, followed] & (followed >= 0)


def _known(truth: Truth | None) -> Truth:
    if truth is None:
        raise ValueError("where the objects of these videos are is not known: choose another tracker than truth")
    return truth


def _facts(videos: Videos, keys: list[str], config: TokenConfig, extractor: Extractor) -> dict[str, Any]:
    """Return all that the tokens depend on."""
    return {
        "videos": videos.facts, "keys": fingerprint_of({"keys": keys}), "tracker": config.tracker, "context": CONTEXT,
        "seen": SEEN, **extractor.facts,
    }  # fmt: skip


def make_extractor(config, videos, train, cache, device="cpu"):
    return Pixels()
