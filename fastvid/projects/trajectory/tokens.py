"""Tokens of videos: track, crop, compute features, and keep the result."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch

from fastvid.data.progress import Progress
from fastvid.files import cache_dir
from fastvid.projects.trajectory.config import Task, TokenConfig
from fastvid.projects.trajectory.conv import CROP, TRAINED, Conv, load_autoencoder
from fastvid.projects.trajectory.crops import CONTEXT, cut_crops
from fastvid.projects.trajectory.features import Extractor, FrozenTimm, Normalisation, Pixels, Student
from fastvid.projects.trajectory.footage import open_videos
from fastvid.projects.trajectory.render import Truth
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.token_file import fingerprint_of, read_tokens, save_tokens
from fastvid.projects.trajectory.token_set import TokenSet, join_tokens, make_token_set
from fastvid.projects.trajectory.videos import Footage, Split, Videos, split_rows
from fastvid.tracks.blobs import find_blobs
from fastvid.tracks.follow import followed_objects
from fastvid.tracks.link import link
from fastvid.tracks.norfair import link_with_norfair
from fastvid.tracks.tracks import SEEN, Tracks, truth_tracks

__all__ = ["TokenSet", "load_tokens", "make_tokens"]

log = logging.getLogger(__name__)

TRACKING = 1  # version of detection and linking: part of every fingerprint
WHITE = 0.7  # of 1: where all channels of the mean colour exceed this, the original project calls an object white
_CONV_VIDEOS = 512  # training videos whose crops the features conv are trained on
_AT_ONCE = 256  # videos whose pixels exist at one time


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
    cache = folder or cache_dir() / "trajectory"
    videos = open_videos(data)
    rows = split_rows(videos, (data.train, data.val, data.test), task)
    extractor = make_extractor(config, videos, rows["train"], cache, device)
    facts = {**_facts(videos, [videos.keys[row] for row in rows[split]], config), **extractor.facts}
    fingerprint = fingerprint_of(facts)
    path = cache / f"tokens-{fingerprint[:16]}.safetensors"
    try:
        return read_tokens(path, fingerprint)
    except FileNotFoundError:
        pass
    except ValueError as error:
        log.warning("%s: the tokens are made anew", error)
    tokens = make_tokens(videos, rows[split], config, extractor, device=device)
    _check_kinds(tokens, split)
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


def make_extractor(
    config: TokenConfig, videos: Videos, train: np.ndarray, cache: Path, device: torch.device | str = "cpu"
) -> Extractor:
    """Return what makes features of crops, with the weights it needs.

    Args:
        config: the options.
        videos: all videos.
        train: rows of the training videos, on which the features ``conv`` are trained.
        cache: folder of trained weights.
        device: where features are computed.

    Raises:
        FileNotFoundError: pretrained weights that are not there.
        ValueError: weights that do not fit, options that do not go together.
    """
    if config.source is not None and config.features in ("pixels", "conv"):
        raise ValueError(f"the features {config.features} are made of no other model: leave out tokens.source")
    if config.features == "pixels":
        return Pixels()
    if config.features == "resnet18":
        return FrozenTimm("resnet18", weights=config.source, device=device)
    if config.features == "salt":
        if config.source is None:
            raise ValueError("the features salt need a run of `python -m fastvid.train salt`: give it as tokens.source")
        return Student(config.source, device)
    some = train[:_CONV_VIDEOS]
    facts = {**_facts(videos, [videos.keys[row] for row in some], config), "size": CROP, **TRAINED}
    fingerprint = fingerprint_of(facts)

    def crops() -> torch.Tensor:
        log.info("features conv: an autoencoder is trained on crops of %d training videos", len(some))
        parts = [torch.zeros(0, 3, CROP, CROP)]
        for first in range(0, len(some), _AT_ONCE):
            footage = videos.read(some[first : first + _AT_ONCE])
            parts.append(object_crops(footage.frames, find_tracks(footage, config).seen, Conv.size, Conv.normalisation))
        return torch.cat(parts)

    return Conv(load_autoencoder(cache / f"conv-{fingerprint[:16]}.safetensors", fingerprint, crops), device)


def find_tracks(footage: Footage, config: TokenConfig) -> Tracks:
    """Track the objects of some videos."""
    if config.tracker == "truth":
        truth = _known(footage.truth)
        return truth_tracks(truth.boxes, truth.visibility)
    detections = find_blobs(footage.frames, footage.detector if config.detector == "auto" else config.detector)
    return link(detections) if config.tracker == "hungarian" else link_with_norfair(detections)


def object_crops(
    frames: np.ndarray, tracks: Tracks, size: int, normalisation: Normalisation, device: torch.device | str = "cpu"
) -> torch.Tensor:
    """Cut the crops of all boxes of some tracks out of frames uint8 [V, T, H, W, 3]: float32 [N, 3, size, size]."""
    mean, std = normalisation
    flat = tracks.video * tracks.frames + tracks.frame
    return cut_crops(
        frames.reshape(-1, *frames.shape[2:]), flat, tracks.boxes, size=size, mean=mean, std=std,
        device=device,
    )  # fmt: skip


def is_persistent(tracks: Tracks, footage: Footage) -> np.ndarray:
    """Return bool [N]: whether the object that each box's track mostly follows is persistent.

    Without a truth it is where the track's mean colour is white, if that says it, else False for all.
    """
    if footage.truth is None:
        group, count = tracks.groups()
        total = np.zeros((count, 3))
        np.add.at(total, group, tracks.colour)
        mean = total / np.maximum(np.bincount(group, minlength=count), 1)[:, None]
        white = np.all(mean > WHITE, axis=1)
        return white[group] if footage.white_persists else np.zeros(len(tracks), bool)
    truth = footage.truth
    followed = followed_objects(tracks, truth.boxes)
    persistent: np.ndarray = truth.persistent[tracks.video, followed] & (followed >= 0)
    return persistent


def _known(truth: Truth | None) -> Truth:
    if truth is None:
        raise ValueError("where the objects of these videos are is not known: choose another tracker than truth")
    return truth


def _check_kinds(tokens: TokenSet, split: Split) -> None:
    """Raise ValueError where there is nothing to tell apart."""
    kind = "transient" if tokens.persistent.all() else "persistent" if not tokens.persistent.any() else None
    if kind is not None:
        raise ValueError(
            f"no {kind} object was found in the {len(tokens)} videos of the part {split}: where all objects are of one "
            "kind there is nothing to learn to tell apart"
        )


def _facts(videos: Videos, keys: list[str], config: TokenConfig) -> dict[str, Any]:
    """Return all that tracks and crops depend on."""
    return {
        "videos": videos.facts, "keys": fingerprint_of({"keys": keys}), "tracker": config.tracker,
        "tracking": TRACKING, "detector": config.detector, "context": CONTEXT, "seen": SEEN,
    }  # fmt: skip
