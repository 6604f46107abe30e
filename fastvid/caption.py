"""``python -m fastvid.caption RUN VIDEO``: what a vision-language model says of a video, and where it looked."""

import json
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated

import tyro

from fastvid.command import UserError, command, loading, user_errors
from fastvid.files import naming
from fastvid.names import spelled
from fastvid.ranges import Count, check_numbers


@dataclass(frozen=True)
class CaptionConfig:
    """Describes a video, or answers a question about it, word by word."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or the folder of its saved model."""
    video: Annotated[Path, tyro.conf.Positional]
    """Video file."""
    ask: str | None = None
    """Question; default: what the model was trained to be asked."""
    mode: str | None = None
    """Way in which the video is read, such as coarse, parallel or stream; default: as in training."""
    gaze: Path | None = None
    """Video to write, .mp4, of where the model looked; numbers go into a .json beside it."""
    tokens: Count = 64
    """Most tokens of the answer."""
    json: bool = False
    """Print one JSON object instead of words as they come."""
    source: str | None = None
    """Present place of the model that was fine-tuned, if it was moved."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    config = tyro.cli(CaptionConfig, prog="python -m fastvid.caption", args=arguments, config=_FLAGS)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    check_numbers(config)
    if config.gaze is not None and config.gaze.suffix.lower() != ".mp4":
        raise UserError(f"--gaze {spelled(config.gaze)}: a video is written there, so its name must end in .mp4")
    if not config.video.expanduser().is_file():
        raise UserError(f"no video at {spelled(config.video)}: give a video file")
    with loading():
        import torch
        from transformers.utils.logging import disable_progress_bar

        from fastvid.projects.load import find_saved
        from fastvid.projects.registry import projects
        from fastvid.video import DecodeError, Limits, probe

    disable_progress_bar()
    project, folder = find_saved(config.run)
    if project.caption is None:
        others = " or ".join(other.name for other in projects() if other.caption is not None)
        raise UserError(
            f"the run in {config.run} is of {project.name}, which says nothing of a video: give one of {others}"
        )
    with user_errors(ValueError):
        model = resolve_name(project.load)(folder, source=config.source)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    video = config.video.expanduser()
    try:
        Limits().check(size=video.stat().st_size)
        data = video.read_bytes()
        with user_errors(ValueError):
            answer = resolve_name(project.caption)(
                model, data, probe(data), question=config.ask, mode=config.mode, tokens=config.tokens
            )
        for note in answer.notes:
            print(note, file=sys.stderr)
        for piece in answer:
            if not config.json:
                print(piece, end="", flush=True)
    except DecodeError as error:
        raise UserError(f"{spelled(config.video)}: {error}") from error
    print(json.dumps({"video": spelled(config.video), **answer.as_dict()}) if config.json else "")
    if config.gaze is not None:
        with naming(config.gaze):
            config.gaze.parent.mkdir(parents=True, exist_ok=True)
            answer.write_gaze(config.gaze)
        print(f"where it looked: {config.gaze}", file=sys.stderr)
    return 0


_FLAGS = (tyro.conf.FlagCreatePairsOff,)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
