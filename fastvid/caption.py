"""``python -m fastvid.caption RUN VIDEO``: what a vision-language model says of a video, and where it looked.

``python -m fastvid.caption RUN --serve`` does it in a browser.
"""

import json
import sys
import warnings
from dataclasses import dataclass
from functools import partial
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
    video: Annotated[Path | None, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")] = None
    """Video file; none with --serve."""
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
    serve: bool = False
    """Open a page, on which videos are uploaded and questions asked, to browsers on this machine."""
    port: Count | None = None
    """Port of the page; default: the first free one from 7860 on."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code."""
    config = tyro.cli(CaptionConfig, prog="python -m fastvid.caption", args=arguments, config=_FLAGS)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")
    check_numbers(config)
    if config.gaze is not None and config.gaze.suffix.lower() != ".mp4":
        raise UserError(f"--gaze {spelled(config.gaze)}: a video is written there, so its name must end in .mp4")
    video = _checked(config)
    with loading():
        import torch
        from transformers.utils.logging import disable_progress_bar

        from fastvid.projects.caption_page import open_page, serve_until_interrupted
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
    answer_about = partial(resolve_name(project.caption), model)
    if video is None:
        title = f"{project.name}: {config.run.expanduser().resolve().name}"
        page = open_page(answer_about, project.modes, title, mode=config.mode, tokens=config.tokens)
        serve_until_interrupted(page, config.port)
        return 0
    try:
        Limits().check(size=video.stat().st_size)
        data = video.read_bytes()
        with user_errors(ValueError):
            answer = answer_about(data, probe(data), question=config.ask, mode=config.mode, tokens=config.tokens)
        for note in answer.notes:
            print(note, file=sys.stderr)
        for piece in answer:
            if not config.json:
                print(piece, end="", flush=True)
    except DecodeError as error:
        raise UserError(f"{spelled(video)}: {error}") from error
    print(json.dumps({"video": spelled(config.video or ""), **answer.as_dict()}) if config.json else "")
    if config.gaze is not None:
        with naming(config.gaze):
            config.gaze.parent.mkdir(parents=True, exist_ok=True)
            answer.write_gaze(config.gaze)
        print(f"where it looked: {config.gaze}", file=sys.stderr)
    return 0


def _checked(config: CaptionConfig) -> Path | None:
    """Return the video, or None with ``--serve``.

    Raises:
        UserError: there is none, or one too many.
    """
    if config.port is not None and (not config.serve or config.port > _LAST_PORT):
        raise UserError(f"--port {config.port}: a port up to {_LAST_PORT} of the page that --serve opens")
    if config.serve:
        if config.video is not None or config.ask is not None or config.gaze is not None or config.json:
            raise UserError("--serve asks on its page: give no video, --ask, --gaze or --json with it")
        return None
    if config.video is None:
        raise UserError("no video: give a video file, or --serve for a page in the browser")
    if not config.video.expanduser().is_file():
        raise UserError(f"no video at {spelled(config.video)}: give a video file")
    return config.video.expanduser()


_LAST_PORT = 65535
_FLAGS = (tyro.conf.FlagCreatePairsOff,)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
