"""``python -m fastvid.encode RUN VIDEOS --out DIR``: the features of videos, by a trained encoder, as files."""

import logging
import sys
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from fastvid.command import UserError, command, loading, user_errors
from fastvid.ranges import Count, check_numbers


@dataclass(frozen=True)
class EncodeConfig:
    """Writes the features that a run's encoder has of each video, with their keys. A stopped command goes on when it is
    given again."""

    run: Annotated[Path, tyro.conf.Positional]
    """Run directory, or a folder with an encoder, such as RUN/teacher."""
    videos: Annotated[str, tyro.conf.Positional]
    """A folder of videos, a folder of tar shards or its URL, a LeRobot data set, or one video."""
    out: Path
    """Folder of the features."""
    labels: str | None = None
    """Table of paths and labels, for a folder of videos; default: the name of each video's folder."""
    pool: Literal["mean", "time", "tokens"] = "mean"
    """What is kept of a clip: the mean of its tokens, the mean of each time slot's, or all of them."""
    clips: Count = 1
    """Clips of each video, at moments evenly over it; default: the centre one."""
    form: Literal["safetensors", "npz"] = "safetensors"
    """Kind of the files."""
    element: Literal["float32", "float16"] = "float32"
    """Number format of the features."""
    batch: Count = 32
    """Clips per forward pass."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """In which the encoder computes: bfloat16 where the device computes in it, or as told."""
    threads: Count | None = None
    """Decoding threads; default: half of the processors."""


@command
def main(arguments: list[str]) -> int:
    """Run the command and return the exit code: 0, or 1 if a video could not be used."""
    config = tyro.cli(EncodeConfig, prog="python -m fastvid.encode", args=arguments)
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    check_numbers(config)
    with loading():
        import torch

        from fastvid.data import EvaluationDraws, open_parts
        from fastvid.data.worker_pool import default_threads
        from fastvid.latents.feature_files import BAD, FeatureOptions, write_features
        from fastvid.latents.video_features import frozen_encoder
        from fastvid.projects.load import find_saved
        from fastvid.projects.registry import projects

    with user_errors(ValueError, OSError):
        project, folder = find_saved(config.run)
        if not project.encodes:
            others = " or ".join(other.name for other in projects() if other.encodes)
            said = f"the run in {config.run} is of {project.name}, which saves no encoder"
            raise UserError(f"{said}: give one of {others}")
        model = resolve_name(project.load)(folder)
        source = open_parts(config.videos, config.labels)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    encoder = frozen_encoder(model, device=device, batch=config.batch, precision=config.precision)
    threads = config.threads or default_threads()
    options = FeatureOptions(config.pool, config.clips, config.form, config.element, threads)
    started = time.perf_counter()
    print(f"{source.description}: {config.pool} of {encoder.frozen.grid} tokens of width {model.dim}", flush=True)
    with tqdm(total=len(source.samples), unit="video", disable=not sys.stderr.isatty(), dynamic_ncols=True) as bar:
        found = write_features(
            config.out, encoder, source, EvaluationDraws(model.views, config.clips), options,
            path=config.videos, progress=bar.update, log=partial(tqdm.write, file=sys.stderr),
        )  # fmt: skip
    seconds = time.perf_counter() - started
    print(f"features of {len(found.keys)} videos in {config.out}, {seconds:.1f} s")
    if found.bad:
        print(f"{len(found.bad)} videos could not be used: {config.out / BAD} says why", file=sys.stderr)
    return int(bool(found.bad))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
