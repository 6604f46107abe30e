"""Prediction of the tracks of a new video that persist: as text, as files, and drawn into the video."""

import io
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy.special import expit

from fastvid.command import UserError, user_errors
from fastvid.data.demo.files import encode_h264
from fastvid.eval import early
from fastvid.files import cache_dir, write_whole
from fastvid.projects.trajectory.config import TokenConfig
from fastvid.projects.trajectory.footage import open_videos
from fastvid.projects.trajectory.predictions import Predictor
from fastvid.projects.trajectory.saved import TrainedTrajectory
from fastvid.projects.trajectory.scenes import SceneConfig
from fastvid.projects.trajectory.token_set import TokenSet, make_token_set
from fastvid.projects.trajectory.tokens import find_tracks, make_extractor, object_crops
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.projects.trajectory.videos import Footage, split_rows
from fastvid.random import sample_id
from fastvid.report.records import read_json
from fastvid.video import VideoMetadata, decode

_SIDE = 384  # of an annotated frame at least, pixels
_PERSISTENT, _TRANSIENT, _OPEN = (46, 204, 113), (231, 76, 60), (241, 196, 15)


@dataclass(frozen=True)
class TrackVerdict:
    """The verdict on one track.

    Attributes:
        track: its number.
        verdict: "persistent" or "transient".
        confidence: calibrated probability of the verdict, after the last frame.
        decided_at: the video's frame at which the verdict first was confident, or None where it never was.
        seen: int [n], which of the frames that were read show the track.
        frames: int [n], their numbers in the video.
        boxes: float [n, 4], left, top, right, bottom in pixels of the video.
        attention: float [n], of the read-out query, as a multiple of uniform attention.
    """

    track: int
    verdict: str
    confidence: float
    decided_at: int | None
    seen: np.ndarray
    frames: np.ndarray
    boxes: np.ndarray
    attention: np.ndarray

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {
            "track": self.track, "verdict": self.verdict, "confidence": self.confidence, "decided_at": self.decided_at,
            "frames": self.frames.tolist(), "boxes": np.round(self.boxes, 3).tolist(),
            "attention": np.round(self.attention, 4).tolist(),
        }  # fmt: skip


def predict(
    trained: TrainedTrajectory, name: str, data: bytes, info: VideoMetadata, out: Path
) -> tuple[dict[str, Any], str]:
    """Tell which tracks of a video persist, and write an annotated mp4, a JSON of all and an NPZ of the persistent
    tracks.

    Args:
        trained: the model, on any device.
        name: of the video.
        data: the whole file.
        info: its :func:`fastvid.video.probe`.
        out: folder of the files.

    Returns:
        What was found, as JSON values, and the same as text.

    Raises:
        DecodeError: the video cannot be used.
        UserError: no object was found in it.
    """
    about = trained.about
    moments = _moments(info.frames, about.frames)
    frames = decode(data, moments.tolist(), info=info)
    tokens = _tokens(trained, name, _resized(frames, int(about.data["size"])))
    if not len(tokens.frame):
        raise UserError(
            f"{name}: no object was found in {len(moments)} frames; the detector expects what the model was trained "
            f"on, variant {about.data['variant']}"
        )
    tracks, probabilities = _verdicts(trained, tokens, frames.shape[1:3], moments)
    found = {
        "video": name, "frames": info.frames, "frames_read": moments.tolist(), "fps": info.fps,
        "width": frames.shape[2], "height": frames.shape[1], "worker": about.worker, "task": about.task,
        "classes": about.classes, "probabilities": probabilities,
        "tracks": [track.as_dict() for track in tracks],
    }  # fmt: skip
    out.mkdir(parents=True, exist_ok=True)
    place = _place(out, name)
    files = {
        ".json": (json.dumps(found, indent=1) + "\n").encode(),
        ".npz": _triangulation(tracks),
        ".mp4": encode_h264(_annotated(frames, moments, tracks), max(1, round(info.fps))),
    }
    for ending, content in files.items():
        write_whole(place.with_name(place.name + ending), content, sync=False)
    return found, _readable(found, tracks, place, len(moments) < info.frames)


def _place(out: Path, name: str) -> Path:
    """Return the path of a video's files without their endings; videos of one name in different folders keep apart."""
    place = out / (Path(name).stem or "video")
    before = read_json(place.with_name(f"{place.name}.json"), {})
    if before.get("video", name) == name:
        return place
    return place.with_name(f"{place.name}-{sample_id(name) % 2**32:08x}")


def _moments(frames: int, most: int) -> np.ndarray:
    """Return which frames are read: all, or as many as a training video had, evenly over the whole."""
    return np.arange(frames) if frames <= most else np.linspace(0, frames - 1, most).round().astype(np.int64)


def _resized(frames: np.ndarray, size: int) -> np.ndarray:
    if frames.shape[1:3] == (size, size):
        return frames
    return np.stack([np.asarray(Image.fromarray(one).resize((size, size), Image.Resampling.BOX)) for one in frames])


def _tokens(trained: TrainedTrajectory, name: str, frames: np.ndarray) -> TokenSet:
    about = trained.about
    scenes = SceneConfig(**about.data)
    options = TokenConfig(**about.tokens)
    if options.tracker == "truth":  # which nobody has of a new video
        options = TokenConfig(**{**about.tokens, "tracker": "hungarian"})
    videos = open_videos(scenes)
    device = next(trained.parameters()).device
    with user_errors(ValueError, OSError):
        train = split_rows(videos, (scenes.train, scenes.val, scenes.test))["train"]
        extractor = make_extractor(options, videos, train, cache_dir() / "trajectory", device)
    detector = videos.read(np.arange(1)).detector  # the one that suits what the model was trained on
    tracks = find_tracks(Footage(frames[None], detector, None), options).seen
    crops = object_crops(frames[None], tracks, extractor.size, extractor.normalisation, device)
    unknown = np.full(1, -1, np.int64)
    features = extractor(crops).to(torch.float16).cpu().numpy()
    return make_token_set([name], tracks, np.zeros(len(tracks.frame), dtype=bool), features, unknown, unknown)


def _verdicts(
    trained: TrainedTrajectory, tokens: TokenSet, shape: Sequence[int], moments: np.ndarray
) -> tuple[list[TrackVerdict], list[float]]:
    about = trained.about
    run = Predictor(trained.model, about.task, 1, next(trained.parameters()).device)
    table = TrackTable.from_tokens(tokens)
    whole, (_, by_frame) = run(tokens, table), run.by_frame(tokens, table)
    since = early.since_birth(by_frame, table.birth)  # nan after the video's end
    p = expit(since / about.temperatures)
    decisions = early.decide(p, np.zeros(len(table), dtype=bool), about.confidence)
    logits = whole.target[0] - whole.target[0].max()
    found = []
    for row in range(len(table)):
        mine = table.row == row
        likely = float(p[row, tokens.frames - 1 - table.birth[row]])  # after the last frame
        side = np.tile([shape[1], shape[0]], 2)
        found.append(
            TrackVerdict(
                int(table.track[row]), "persistent" if likely > 0.5 else "transient", max(likely, 1 - likely),
                int(moments[table.birth[row] + decisions.age[row] - 1]) if decisions.decided[row] else None,
                tokens.frame[mine].astype(int), moments[tokens.frame[mine]], tokens.boxes[mine] * side,
                whole.attention[mine] * len(tokens.frame),
            )
        )  # fmt: skip
    return found, (np.exp(logits) / np.exp(logits).sum()).tolist()


def _triangulation(tracks: Sequence[TrackVerdict]) -> bytes:
    """Return an NPZ of the persistent tracks' observations: ``track``, ``frame`` int [n], ``centre`` [n, 2] and ``box``
    [n, 4] in pixels."""
    kept = [track for track in tracks if track.verdict == "persistent"]
    boxes = np.concatenate([np.zeros((0, 4)), *(track.boxes for track in kept)])
    out = io.BytesIO()
    np.savez_compressed(
        out, track=np.concatenate([np.zeros(0, int), *(np.full(len(track.frames), track.track) for track in kept)]),
        frame=np.concatenate([np.zeros(0, int), *(track.frames for track in kept)]),
        centre=(boxes[:, :2] + boxes[:, 2:]) / 2, box=boxes,
    )  # fmt: skip
    return out.getvalue()


def _annotated(frames: np.ndarray, moments: np.ndarray, tracks: Sequence[TrackVerdict]) -> np.ndarray:
    """Draw the boxes, yellow until the verdict is confident, then green for persistent and red for transient."""
    scale = max(1, math.ceil(_SIDE / max(frames.shape[1:3])))
    drawn = []
    for t, frame in enumerate(frames):
        size = (frame.shape[1] * scale // 2 * 2, frame.shape[0] * scale // 2 * 2)  # H.264 takes even sides
        image = Image.fromarray(frame).resize(size, Image.Resampling.NEAREST)
        pen = ImageDraw.Draw(image)
        for track in tracks:
            for box in track.boxes[track.seen == t]:
                known = track.decided_at is not None and moments[t] >= track.decided_at
                colour = (_PERSISTENT if track.verdict == "persistent" else _TRANSIENT) if known else _OPEN
                left, top, right, bottom = (float(value) * scale for value in box)
                pen.rectangle((left - 3, top - 3, right + 3, bottom + 3), outline=colour, width=2)
                pen.text((left - 3, max(0.0, top - 15)), f"{track.track} {track.verdict[0].upper()}", fill=colour)
        drawn.append(np.asarray(image))
    return np.stack(drawn)


def _readable(found: dict[str, Any], tracks: Sequence[TrackVerdict], place: Path, sampled: bool) -> str:
    best = int(np.argmax(found["probabilities"]))
    read = f"{len(found['frames_read'])} of {found['frames']} frames" if sampled else f"{found['frames']} frames"
    lines = [
        f"{found['video']}  ({read}, {len(tracks)} tracks)",
        f"  {found['task']}: {found['classes'][best]}  {found['probabilities'][best]:.1%}",
        "  track  verdict     confidence  decided at  seen in frames",
    ]
    for track in tracks:
        decided = "-" if track.decided_at is None else f"frame {track.decided_at}"
        seen = f"{track.frames.min()} to {track.frames.max()} ({len(track.frames)})"
        lines.append(f"  {track.track:5d}  {track.verdict:10s}  {track.confidence:10.1%}  {decided:>10s}  {seen}")
    return "\n".join([*lines, f"  written: {place}.mp4, .json, .npz"])
