"""Options of ``python -m fastvid.cache``."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from fastvid.models.block_numbers import BlockNumbers
from fastvid.ranges import Count, Natural, NotNegative, Positive, Share, ShareAboveZero

if TYPE_CHECKING:  # what opens videos takes a while to load, and options are read without it
    from fastvid.data import Source
    from fastvid.video import ViewSpec


@dataclass(frozen=True)
class CacheData:
    """Videos and the views of them. Options that are not given are those of the teacher's own training run, where it
    is a checkpoint in a run's folder, and those of the training command otherwise."""

    path: str
    """A folder of videos, a folder of WebDataset tar shards, one shard, one video, or the URL of a folder of shards:
    what training will open."""
    labels: str | None = None
    """As for training; no latent depends on it."""
    frames: Count | None = None
    """Frames per clip."""
    size: Count | None = None
    """Side of a clip in pixels."""
    sampling: Literal["span", "stride", "fps"] | None = None
    """Choice of frames: evenly over the whole video, every stride-th, or at fps frames per second."""
    stride: Count | None = None
    """For sampling=stride."""
    fps: Positive | None = None
    """For sampling=fps."""
    scale: tuple[ShareAboveZero, ShareAboveZero] | None = None
    """Share of the frame's area kept by a crop."""
    ratio: tuple[Positive, Positive] | None = None
    """Width / height of a crop."""
    flip: Share | None = None
    """Probability of mirroring a clip."""
    threads: Count | None = None
    """Decoding threads; default: half of the processors."""
    disk_dir: str | None = None
    """Folder in which shards from a URL are kept, as for training."""
    disk_gb: NotNegative = 8.0
    """Most that they take there."""

    def open(self) -> "Source":
        """Open the videos. Shards are read one by one; two shards of a URL have to fit on the disk at a time.

        Raises:
            FileNotFoundError, ValueError: there are none.
        """
        from fastvid.data import open_parts

        return open_parts(self.path, self.labels, cache_dir=self.disk_dir, disk_bytes=int(self.disk_gb * 1e9), window=1)

    def views(self, teacher: str) -> "ViewSpec":
        """Return the clip specification for a teacher source."""
        from fastvid.video import ViewSpec

        values = dict(_DEFAULTS)
        kind, _, where = teacher.partition(":")
        if kind == "checkpoint":
            values |= _of_run(Path(where).expanduser())
        values |= {name: value for name in _DEFAULTS if (value := getattr(self, name)) is not None}
        return ViewSpec.from_fields(values)


@dataclass(frozen=True)
class CacheConfig:
    """Stores a teacher's latents for `python -m fastvid.train salt --latents DIR`."""

    teacher: str
    """checkpoint:PATH, or hf:NAME_OR_DIR (VideoMAE, V-JEPA 2, DINOv2 or DINOv3)."""
    data: CacheData
    """Videos and views."""
    out: Path
    """Folder of the cache; what is there already is kept, and must have been made with the same options."""
    patch: Count = 16
    """Side of the student's tokens in pixels, for an encoder of images; the other teachers have their own."""
    tubelet: Count = 2
    """Frames of the student's tokens, for an encoder of images."""
    layers: BlockNumbers = ()
    """Blocks of the teacher whose latents are stored, as in 3,6,9,12 (the first block is 1), for training with the same
    --teacher.layers; default: the last one's."""
    form: Literal["fp16", "bf16", "int8"] = "fp16"
    """Number format of an element; int8 has a float16 scale for each token."""
    views: Count = 1
    """Views of each clip; training shows them in turn, one an epoch."""
    projection: str = "none"
    """none, pca:D (fitted on a sample of the clips) or random:D (orthonormal): fewer elements per token."""
    projection_clips: Count = 2048
    """Clips that a PCA is fitted on."""
    tokens: ShareAboveZero = 1.0
    """Share of each clip's tokens that is stored, drawn at random; training then predicts only these."""
    seed: Natural = 0
    """Seed of views, projection and token choice."""
    batch: Count = 16
    """Clips per forward pass of the teacher."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """In which the teacher computes: bfloat16 where the device computes in it, or as told."""
    retry_bad: bool = False
    """Try again what could not be decoded; finished shards without bad clips stay as they are."""
    plan: bool = False
    """Print the plan and stop."""
    yes: bool = False
    """Go on although the plan does not fit the disk."""
    ray: bool = False
    """Deal the shards out to the workers of a Ray cluster (RAY_ADDRESS), or of one started on this machine."""
    ray_workers: Count = 2
    """Workers under --ray, each with a GPU where the cluster has them."""

    def __post_init__(self):
        if projection_dim(self.projection) is not None and len(self.layers) > 1:
            raise ValueError(
                "layers and projection exclude each other: a projection is fitted to the latents of one block"
            )


@dataclass(frozen=True)
class VerifyConfig:
    """Recomputes a sample of a cache's latents and compares. Exit code 1 where they are not what the form allows."""

    folder: Annotated[Path, tyro.conf.Positional]
    """The cache."""
    teacher: str
    """The teacher that the cache was made with."""
    data: CacheData
    """The videos; views are drawn as the cache says."""
    sample: Share = 0.01
    """Share of the views to recompute; at least one."""
    seed: Natural = 0
    """Seed of the sample."""


def projection_dim(projection: str) -> int | None:
    """Return the width of a projection, or None for ``"none"``.

    Raises:
        ValueError: it is not a projection.
    """
    kind, _, dim = projection.partition(":")
    if projection == "none":
        return None
    if kind not in ("pca", "random") or not dim.isdigit() or int(dim) < 1:
        raise ValueError(f"projection {projection!r}: use none, pca:D or random:D with a width D, such as pca:384")
    return int(dim)


# Those of the training command, where it is not given a preset's.
_DEFAULTS: dict = {
    "frames": 16, "size": 224, "sampling": "stride", "stride": 4, "fps": 4.0, "scale": (0.3, 1.0),
    "ratio": (0.75, 1.35), "flip": 0.5,
}  # fmt: skip


def _of_run(folder: Path) -> dict:
    """Return how the run that holds an encoder cut its clips, or else the encoder's own clip shape."""
    for config in (folder / "config.json", folder.parent / "config.json"):
        if config.is_file():
            return _fields(config, "data", tuple(_DEFAULTS))
    encoder = folder / "encoder.json"
    return _fields(encoder, None, ("frames", "size")) if encoder.is_file() else {}


def _fields(path: Path, part: str | None, names: tuple[str, ...]) -> dict:
    """Read some values of a JSON file. Raise ValueError where it is damaged."""
    try:
        values = json.loads(path.read_bytes())
        values = values if part is None else values[part]
        return {name: tuple(v) if isinstance(v := values[name], list) else v for name in names}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged, or not of a run that made a teacher: {error!r}") from error
