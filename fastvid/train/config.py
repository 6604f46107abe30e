"""Configuration shared by recipes, and how a command line becomes one.

A recipe's configuration is a tree of frozen dataclasses: the defaults, the help texts and ``config.json`` all come from
it. A preset is a function that returns one; options on the command line change fields of it.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import tyro

from fastvid.data.remote import without_secrets

Config = TypeVar("Config")


@dataclass(frozen=True)
class DataConfig:
    """Videos and the clips cut from them."""

    path: str = "demo"
    """A folder of videos, a folder of WebDataset tar shards or its URL, one shard, one video, or "demo"."""
    labels: str | None = None
    """Table of paths and labels, for a folder of videos; default: the name of each video's folder."""
    frames: int = 16
    """Frames per clip."""
    size: int = 224
    """Side of a clip in pixels."""
    sampling: Literal["span", "stride", "fps"] = "stride"
    """Which frames: evenly over the whole video, every stride-th, or at fps frames per second."""
    stride: int = 4
    """For sampling=stride."""
    fps: float = 4.0
    """For sampling=fps."""
    scale: tuple[float, float] = (0.3, 1.0)
    """Share of the frame's area kept by a training crop."""
    ratio: tuple[float, float] = (0.75, 1.35)
    """Width / height of a training crop."""
    flip: float = 0.5
    """Probability of mirroring a training clip."""
    decode: Literal["auto", "pyav", "torchcodec", "dali", "torchcodec-cuda"] = "pyav"
    """Decoder; auto measures for some seconds which one is fastest for these videos on this machine."""
    threads: int | None = None
    """Decoding threads; default: half of the processors, more while batches have to be waited for."""
    prefetch: int = 2
    """Batches decoded ahead."""
    window: int = 16
    """Shards that are shuffled together."""
    cache_gb: float = 0.0
    """Keep decoded videos in memory up to this size, for small data sets of small videos."""
    disk_gb: float = 8.0
    """Shards from a URL take this much disk at most, in 10^9 bytes."""
    disk_dir: str | None = None
    """Where shards from a URL are kept; default: $FASTVID_CACHE, or the user's cache directory."""
    holdout: float = 0.2
    """Share of labelled videos kept from training for the probe, chosen by key."""
    bad_share: float = 0.01
    """Stop when more than this share of the files tried is bad, and more than bad_files."""
    bad_files: int = 10
    """Bad files that are always tolerated."""
    bad_in_a_row: int = 100
    """Stop after this many bad files in a row."""

    def __post_init__(self):
        if self.window < 1 or self.prefetch < 1 or (self.threads is not None and self.threads < 1):
            raise ValueError(f"data: window, prefetch and threads must be at least 1; got {self}")


@dataclass(frozen=True)
class ModelConfig:
    """The student; the pixel teacher is built the same way."""

    name: str = "vit_base_patch16_224"
    """Any timm VisionTransformer."""
    width: int | None = None
    """Overrides the model's width."""
    depth: int | None = None
    """Overrides the model's number of blocks."""
    heads: int | None = None
    """Overrides the model's number of heads."""
    patch: int | None = None
    """Pixels per side of a token; default: the model's own."""
    tubelet: int = 2
    """Frames per token."""
    positions: Literal["sincos", "learned"] = "sincos"
    """Fixed 3-D sine-cosine positions, or learnt ones that start there."""
    init: Literal["xavier", "mimetic"] = "xavier"
    """How weights start; mimetic ties query and key weights, which helps small models on small data."""
    drop_path: float = 0.0
    """Stochastic depth."""
    pretrained: bool = False
    """Start from timm's image weights, with the pixel statistics they were trained with; positions stay 3-D."""
    checkpointing: bool = False
    """Recompute blocks in the backward pass: less memory, a third more time."""


@dataclass(frozen=True)
class RunConfig:
    """The run itself."""

    dir: str | None = None
    """The run's directory; default: a new one under runs/."""
    seed: int = 0
    """Of weights, order, views and masks."""
    log_every: int = 10
    """Steps between records in metrics.jsonl."""
    checkpoint_every: int = 500
    """Steps between checkpoints."""
    keep: int = 2
    """Checkpoints kept of each stage."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast: bfloat16 where the device computes in it, or as told; weights and optimizer stay float32."""
    compile: bool = False
    """torch.compile the training step, for its one set of shapes."""
    memory_budget: float = 1.0
    """Of a compiled step: share of its activations kept for the backward pass, which computes the others again, first
    of all what costs next to nothing."""
    threads: int | None = None
    """Processor threads for the arithmetic; default: torch's choice."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    wandb: str | None = None
    """Weights & Biases project; needs the wandb package."""

    def __post_init__(self):
        if self.log_every < 1 or self.checkpoint_every < 1 or self.keep < 1:
            raise ValueError(f"run: log-every, checkpoint-every and keep must be at least 1; got {self}")
        if not 0 < self.memory_budget <= 1:
            raise ValueError(f"run: memory-budget must be more than 0 and at most 1; got {self.memory_budget}")
        if self.memory_budget < 1 and not self.compile:
            raise ValueError("run: memory-budget is for compiled steps; add --run.compile True")


@dataclass(frozen=True)
class Launch:
    """What to do with a run, apart from what is in it."""

    resume: Path | None = None
    """Continue the run in this directory."""
    detach: bool = False
    """Go on in the background: the run outlives the shell it was started from."""


def parse(
    project: str, presets: dict[str, Callable[[], Config]], default: str, arguments: Sequence[str]
) -> tuple[Config, Launch]:
    """Reads a recipe's command line.

    Args:
        project: for the help text.
        presets: by name.
        default: name of the preset used without ``--preset``.
        arguments: after the project's name. ``--preset NAME`` picks a preset, ``--resume RUN`` starts from the run's
            own configuration; every other option changes a field.

    Returns:
        The configuration and what to do with it. Prints help or a usage error and exits where that is asked for.
    """
    rest = list(arguments)
    preset = _take(rest, "--preset")
    resume = _take(rest, "--resume")
    if preset is not None and preset not in presets:
        _refuse(f"--preset {preset}: choose one of {', '.join(presets)}")
    if resume is not None and preset is not None:
        _refuse("--resume continues a run with its own configuration: leave --preset out")
    base = presets[preset or default]()
    if resume is not None:
        path = Path(resume) / "config.json"
        if not path.is_file():
            _refuse(f"nothing to resume in {resume}: it has no config.json")
        base = from_dict(type(base), json.loads(path.read_text()))
    detach = "--detach" in rest
    rest = [argument for argument in rest if argument != "--detach"]
    names = ", ".join(f"{name} (default)" if name == default else name for name in presets)
    config = tyro.cli(
        type(base),
        prog=f"python -m fastvid.train {project}",
        description=f"Presets, chosen with --preset NAME: {names}. The defaults below are those of "
        f"{preset or default}. Also: --resume RUN continues a run; --detach frees it from this shell.",
        default=base,
        args=rest,
        config=(tyro.conf.FlagConversionOff, tyro.conf.SuppressFixed),
    )
    if resume is not None:
        for line in differences(base, config):
            print(f"changed against {resume}/config.json: {without_secrets(line)}", file=sys.stderr)
    return config, Launch(Path(resume) if resume else None, detach)


def _refuse(sentence: str) -> NoReturn:
    print(sentence, file=sys.stderr)
    sys.exit(2)


def to_dict(config: Any) -> dict:
    """A configuration as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(kind: type[Config], values: dict) -> Config:
    """The inverse of :func:`to_dict`.

    Raises:
        ValueError: a field this version does not have.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"config.json has fields this version does not know: {', '.join(unknown)}")
    default = kind()
    made: dict[str, Any] = {}
    for name, value in values.items():
        kind_of_field = type(getattr(default, name))
        if dataclasses.is_dataclass(kind_of_field):
            made[name] = from_dict(kind_of_field, value)
        else:
            made[name] = tuple(value) if isinstance(value, list) else value
    return kind(**made)


def differences(before: Any, after: Any) -> list[str]:
    """The fields in which two configurations differ, one line each."""
    old, new = _flat(to_dict(before)), _flat(to_dict(after))
    return [f"{name}: {old[name]!r} -> {new[name]!r}" for name in new if old.get(name) != new[name]]


def _flat(values: dict, prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def _take(arguments: list[str], option: str) -> str | None:
    """Removes ``option VALUE`` or ``option=VALUE`` from the arguments and returns the value."""
    for i, argument in enumerate(arguments):
        if argument == option:
            if i + 1 == len(arguments):
                _refuse(f"{option} needs a value")
            value = arguments[i + 1]
            del arguments[i : i + 2]
            return value
        if argument.startswith(option + "="):
            del arguments[i]
            return argument.split("=", 1)[1]
    return None
