"""``python -m fastvid.predict RUN VIDEO...``: which class each video is of, and how that changes over its length."""

import functools
import json
import logging
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
import tyro

from fastvid.command import UserError, command, loading, user_errors
from fastvid.names import spelled
from fastvid.ranges import Count, check_numbers

if TYPE_CHECKING:  # what decodes takes a while to load, and options are read without it
    from fastvid.projects.vjepa2.checkpoint import TrainedClassifier
    from fastvid.video import VideoMetadata, ViewSpec

_MOST_WINDOWS = 32  # chosen by "auto"
_BATCH = 8  # clips per forward pass
_BAR = 24  # characters


@dataclass(frozen=True)
class PredictConfig:
    """Names the classes of videos with a run's best classifier: per clip, over time, and averaged over each video. With
    a run that tracks objects: which of them persist."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or the folder of its saved model."""
    videos: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Video files, or folders of them."""
    top: Count = 5
    """Classes to name."""
    json: bool = False
    """Print one JSON object per video and line, with everything."""
    windows: Count | Literal["auto"] = "auto"
    """Clips per video, evenly over it; auto: as many as fit side by side, at most 32."""
    crops: Literal[1, 3] = 1
    """Squares per clip: the centred one, or three along the longer side, averaged."""
    source: str | None = None
    """Present place of the model that was fine-tuned, if it was moved."""
    out: Path | None = None
    """Folder for the files that runs of some projects write about each video; default: predictions in the run."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code: 0, or 1 if a video could not be used."""
    config = tyro.cli(PredictConfig, prog="python -m fastvid.predict", args=arguments, config=_FLAGS)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    check_numbers(config)
    with loading():
        from transformers.utils.logging import disable_progress_bar

        from fastvid.projects.load import find_saved
        from fastvid.video import DecodeError

    disable_progress_bar()
    if not config.videos:
        raise UserError("no videos are named: give at least one file or folder after the run")
    (project, folder), videos = find_saved(config.run, predicts=True), _videos(config.videos)
    with user_errors(ValueError):
        model = resolve_name(project.load)(folder, source=config.source)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    own = None if project.predict is None else resolve_name(project.predict)
    out = config.out or config.run / "predictions"
    failed = False
    for name, read in videos:
        try:
            if own is not None:
                answer, said = own(model, name, *read(), out)
            else:
                found = predict(model, name, *read(), windows=config.windows, crops=config.crops)
                answer, said = _everything(found, config.top), _readable(found, config.top)
        except (DecodeError, OSError, UserError) as error:  # of this video; the others may be well
            failed = True
            print(_one_line(name, error), file=sys.stderr)
            continue
        print(json.dumps(answer) if config.json else said, flush=True)
    return int(failed)


_FLAGS = (tyro.conf.FlagCreatePairsOff,)


def predict(
    classifier: "TrainedClassifier",
    name: str,
    data: bytes,
    info: "VideoMetadata",
    *,
    windows: int | Literal["auto"] = "auto",
    crops: int = 1,
) -> dict[str, Any]:
    """Predict the classes of one video.

    Args:
        classifier: on any device.
        name: of the video, for the answer.
        data: the whole file.
        info: its :func:`fastvid.video.probe`.
        windows: clips, at the moments of :meth:`fastvid.video.ViewSpec.evaluation`; ``"auto"``: as many as,
            side by side, are as long as the video, at most 32. With the sampling ``"span"`` every clip covers the
            whole video, and one is enough.
        crops: 1 or 3 per clip, averaged.

    Returns:
        ``video``, ``seconds``, ``fps``, ``frames``, ``classes``, ``probabilities`` [classes] averaged over ``windows``,
        and of each of these its ``start`` and ``end`` in seconds, ``frames`` (indices), ``repeats_frames`` (the video
        is shorter than a clip) and ``probabilities`` [classes].

    Raises:
        DecodeError: the video cannot be used.
        UserError: the model's output is not finite.
    """
    from fastvid.video import decode_clips

    spec = classifier.views
    count = _enough(spec, info) if windows == "auto" else windows
    views = spec.evaluation(name, info, count, crops)
    found = []
    for first in range(0, len(views), _BATCH):
        clips = decode_clips(data, views[first : first + _BATCH], info=info)
        found.append(classifier.probabilities(torch.from_numpy(clips)).cpu())
    probabilities = torch.cat(found).double().view(count, crops, -1).mean(1)
    if not torch.isfinite(probabilities).all():
        raise UserError("the classifier has no finite probabilities for it")
    return {
        "video": name,
        "seconds": info.duration,
        "fps": info.fps,
        "frames": info.frames,
        "classes": classifier.classes,
        "probabilities": probabilities.mean(0).tolist(),
        "windows": [
            {
                **dict(zip(("start", "end"), _seconds(view.frames, info), strict=True)),
                "frames": list(view.frames),
                "repeats_frames": view.repeats_frames,
                "probabilities": window.tolist(),
            }
            for view, window in zip(views[::crops], probabilities, strict=True)
        ],
    }


def _videos(names: Sequence[str]) -> list[tuple[str, Callable[[], tuple[bytes, "VideoMetadata"]]]]:
    """Return (name, a function that reads it) of each video, folders opened.

    Raises:
        UserError: there is nothing at one of the names, or a folder without videos.
    """
    from fastvid.data import open_parts
    from fastvid.data.source import read_video
    from fastvid.video import Limits

    videos: list[tuple[str, Callable[[], tuple[bytes, VideoMetadata]]]] = []
    for name in names:
        path = Path(name).expanduser()
        if not path.exists():
            raise UserError(f"no video at {spelled(name)}: give a video file, or a folder of videos")
        if not path.is_dir():
            videos.append((spelled(name), functools.partial(_read, path)))
            continue
        with user_errors(OSError, ValueError):
            source = open_parts(path)
        videos += [
            (f"{spelled(path)}/{sample.key}", functools.partial(read_video, source, index, Limits()))
            for index, sample in enumerate(source.samples)
        ]
    return videos


def _read(path: Path) -> tuple[bytes, "VideoMetadata"]:
    from fastvid.video import Limits, probe

    Limits().check(size=path.stat().st_size)
    data = path.read_bytes()
    return data, probe(data)


def _enough(spec: "ViewSpec", info: "VideoMetadata") -> int:
    """Return the number of clips that, side by side, are as long as the video."""
    if spec.sampling == "span":
        return 1
    covered = spec.frames * spec.stride / info.fps if spec.sampling == "stride" else spec.frames / spec.fps
    return min(_MOST_WINDOWS, max(1, math.ceil(info.duration / covered - 1e-6)))


def _seconds(frames: Sequence[int], info: "VideoMetadata") -> tuple[float, float]:
    """Return when the first frame appears and when the last one ends, in seconds."""
    after = max(frames) + 1
    end = float(info.times[after]) if after < info.frames else info.duration
    return float(info.times[min(frames)]), end


def _ranked(answer: dict[str, Any], probabilities: Sequence[float], top: int) -> list[dict[str, Any]]:
    order = sorted(range(len(probabilities)), key=lambda index: (-probabilities[index], index))
    return [{"class": answer["classes"][index], "probability": probabilities[index]} for index in order[:top]]


def _everything(answer: dict[str, Any], top: int) -> dict[str, Any]:
    windows = [{**window, "top": _ranked(answer, window["probabilities"], top)} for window in answer["windows"]]
    return {**answer, "top": _ranked(answer, answer["probabilities"], top), "windows": windows}


def _readable(answer: dict[str, Any], top: int) -> str:
    windows = answer["windows"]
    width = max(len(name) for name in answer["classes"])
    clips = f"{len(windows)} clip{'s' if len(windows) > 1 else ''}"
    lines = [f"{answer['video']}  ({answer['seconds']:.1f} s, {clips})"]
    lines += [_line("  ", row, width) for row in _ranked(answer, answer["probabilities"], top)]
    if len(windows) > 1:
        digits = len(f"{answer['seconds']:.1f}")
        for window in windows:
            when = f"  {window['start']:{digits}.1f} to {window['end']:{digits}.1f} s  "
            ranked = _ranked(answer, window["probabilities"], top)
            lines.append(_line(when, ranked[0], width))
            lines += [_line(" " * len(when), row, width) for row in ranked[1:] if row["probability"] >= 0.1]
    if any(window["repeats_frames"] for window in windows):
        lines.append("  the video is shorter than a clip: frames are repeated")
    return "\n".join(lines)


def _line(lead: str, row: dict[str, Any], width: int) -> str:
    share = row["probability"]
    return f"{lead}{row['class']:<{width}}  {share:6.1%}  {'█' * round(share * _BAR)}".rstrip()


def _one_line(name: str, error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{name}: {error.strerror}"
    text = " ".join(str(error).split())
    return text if name in text else f"{name}: {text}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
