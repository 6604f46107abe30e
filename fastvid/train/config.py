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
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from fastvid.command import UserError
from fastvid.data.storage.remote import without_secrets
from fastvid.ranges import Count, Natural, NotNegative, Positive, Share, ShareAboveZero, check_numbers
from fastvid.report.records import project_of, read_json
from fastvid.train.config_file import with_file
from fastvid.train.paths import Config, PathOption, check_old_paths, with_absolute_paths

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


@dataclass(frozen=True)
class DataConfig:
    """Videos and the clips cut from them."""

    path: Annotated[str, PathOption("data")] = "demo"
    """A folder of videos, a folder of WebDataset tar shards or its URL, a LeRobot data set, one shard, one video, or
    "demo"."""
    labels: Annotated[str, PathOption()] | None = None
    """Table of paths and labels, for a folder of videos; default: the name of each video's folder."""
    cameras: tuple[str, ...] = ()
    """Of a LeRobot data set, the cameras to show, by their names or the ends of these; default: all."""
    frames: Count = 16
    """Frames per clip."""
    size: Count = 224
    """Side of a clip in pixels."""
    sampling: Literal["span", "stride", "fps"] = "stride"
    """Choice of frames: evenly over the whole video, every stride-th, or at fps frames per second."""
    stride: Count = 4
    """For sampling=stride."""
    fps: Positive = 4.0
    """For sampling=fps."""
    scale: tuple[ShareAboveZero, ShareAboveZero] = (0.3, 1.0)
    """Share of the frame's area kept by a training crop."""
    ratio: tuple[Positive, Positive] = (0.75, 1.35)
    """Width / height of a training crop."""
    flip: Share = 0.5
    """Probability of mirroring a training clip."""
    decode: Literal["auto", "pyav", "torchcodec", "dali", "torchcodec-cuda"] = "pyav"
    """Decoder; auto measures for some seconds which one is fastest for these videos on this machine."""
    threads: Count | None = None
    """Decoding threads; default: half of the processors, more while batches have to be waited for; one for the demo."""
    prefetch: Count = 2
    """Batches decoded ahead."""
    window: Count = 16
    """Shards that are shuffled together."""
    cache_gb: NotNegative = 0.0
    """Keep decoded videos in memory up to this size, for small data sets: whole frames, or only the crop at the clips'
    size where scale and ratio leave one."""
    disk_gb: NotNegative = 8.0
    """Shards from a URL take this much disk at most, in 10^9 bytes."""
    disk_dir: Annotated[str, PathOption()] | None = None
    """Folder in which shards from a URL are kept; default: $FASTVID_CACHE, or the user's cache directory."""
    holdout: Share = 0.2
    """Share of labelled videos kept from training for the probe, chosen by key."""
    bad_share: Share = 0.01
    """Stop when more than this share of the files tried is bad, and more than bad_files."""
    bad_files: Natural = 10
    """Bad files that are always tolerated."""
    bad_in_a_row: Count = 100
    """Stop after this many bad files in a row."""


@dataclass(frozen=True)
class RunConfig:
    """The run itself."""

    dir: str | None = None
    """The run's directory; default: a new one under runs/."""
    seed: Natural = 0
    """Seed of weights, order, views and masks."""
    log_every: Count = 10
    """Steps between records in metrics.jsonl."""
    checkpoint_every: Count = 500
    """Steps between checkpoints."""
    keep: Count = 2
    """Checkpoints kept of each stage."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Autocast: bfloat16 where the device computes in it, or as told; weights and optimizer stay float32."""
    compile: bool = False
    """torch.compile the training step, for its one set of shapes; of fVLM its repeated parts, for all shapes."""
    memory_budget: ShareAboveZero = 1.0
    """Share of a compiled step's activations kept for the backward pass, which computes the others again, first
    of all what costs next to nothing."""
    threads: Count | None = None
    """Processor threads for the arithmetic; default: torch's choice."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Several processes each hold the whole of what is trained (ddp), or a shard of it and of its moments (fsdp)."""
    shard: Count | None = None
    """For fsdp: processes that hold one copy of the weights between them, such as those of a machine; default: all."""
    hang_minutes: NotNegative = 30.0
    """Processes that wait for another for so long name it and end; 0 to wait for ever."""
    tensorboard: bool = True
    """Write TensorBoard events."""
    wandb: str | None = None
    """Weights & Biases project; needs the wandb package."""

    def __post_init__(self) -> None:
        if 0 < self.memory_budget < 1 and not self.compile:
            raise ValueError("run: memory-budget is for compiled steps; add --run.compile True")
        if self.shard is not None and self.parallel != "fsdp":
            raise ValueError("run: shard is the number of shards of sharded weights; add --run.parallel fsdp")


@dataclass(frozen=True)
class Launch:
    """The options of a launch that do not change what is trained."""

    resume: Path | None = None
    """Continue the run in this directory."""
    detach: bool = False
    """Go on in the background: the run outlives the shell it was started from."""
    check: bool = False
    """Say whether a run with these options can begin, and stop there: nothing is made."""
    accept_changed: bool = False
    """Go on although videos were added, removed or changed since the run was started."""


def parse(
    project: str, presets: dict[str, Callable[[], Config]], default: str, arguments: Sequence[str]
) -> tuple[Config, Launch]:
    """Read a recipe's command line.

    Args:
        project: for the help text.
        presets: by name.
        default: name of the preset used without ``--preset``.
        arguments: after the project's name. ``--preset NAME`` picks a preset, ``--resume RUN`` starts from the run's
            own configuration, ``--config FILE`` changes fields as a file says; every other option changes a field.

    Returns:
        The configuration, its paths absolute, and what to do with it. Prints help and exits where that is asked for.

    Raises:
        UserError: options that do not fit, or nothing to resume.
        SystemExit: after help, or what tyro prints about an option that it does not know.
    """
    rest = list(arguments)
    preset = _take(rest, "--preset")
    resume = _take(rest, "--resume")
    file = _take(rest, "--config")
    if preset is not None and preset not in presets:
        raise UserError(f"--preset {preset}: choose one of {', '.join(presets)}")
    if resume is not None and preset is not None:
        raise UserError("--resume continues a run with its own configuration: leave --preset out")
    if resume is not None and file is not None:
        raise UserError("--resume continues a run with its own configuration: leave --config out")
    base = presets[preset or default]()
    if file is not None:
        base = with_file(base, Path(file))
    if resume is not None:
        base = _config_of(Path(resume), project, type(base))
    flags = ("--detach", "--accept-changed", "--check")
    detach, accept_changed, check = (flag in rest for flag in flags)
    rest = [argument for argument in rest if argument not in flags]
    if check and (resume is not None or detach):
        raise UserError("--check is for the options of a new run: leave --resume and --detach out")
    names = ", ".join(f"{name} (default)" if name == default else name for name in presets)
    config = tyro.cli(
        type(base),
        prog=f"python -m fastvid.train {project}",
        description=f"Presets, chosen with --preset NAME: {names}. The defaults below are those of "
        f"{preset or default}. Also: --config FILE takes options from a run's config.json, or from YAML or TOML with "
        "its keys, and those given beside it win; --resume RUN continues a run, with --accept-changed on data that has "
        "changed since; --detach frees it from this shell; --check says whether a run can begin, and makes nothing.",
        default=base,
        args=rest,
        config=(tyro.conf.FlagConversionOff, tyro.conf.SuppressFixed),
    )
    if resume is not None:
        check_old_paths(base, config)
    config = with_absolute_paths(config, Path.cwd())
    check_numbers(config)
    if resume is not None:
        for line in differences(base, config):
            print(f"changed against {resume}/config.json: {without_secrets(line)}", file=sys.stderr)
    return config, Launch(Path(resume) if resume else None, detach, check, accept_changed)


def _config_of(run: Path, project: str, kind: type[Config]) -> Config:
    """Read the configuration of a run that is to be resumed.

    Raises:
        UserError: there is none, of another project, or damaged.
    """
    values, metadata = read_json(run / "config.json"), read_json(run / "run.json", {})
    if values is None:
        raise UserError(f"nothing to resume in {run}: it has no config.json")
    of = project_of(values, metadata)
    if of != project:
        raise UserError(f"{run} is a run of {of}: resume it with `python -m fastvid.train {of} --resume {run}`")
    try:
        return from_dict(kind, values)
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"{run / 'config.json'} is not the configuration of a run of {project}: {error}") from error


def to_dict(config: "DataclassInstance") -> dict[str, Any]:
    """Return a configuration as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(dataclasses.asdict(config)))
    return values


def from_dict(kind: type[Config], values: dict[str, Any]) -> Config:
    """Build a configuration from the values of :func:`to_dict`.

    Raises:
        ValueError: a field this version does not have.
    """
    fields = {f.name: f for f in dataclasses.fields(kind)}
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


def differences(before: "DataclassInstance", after: "DataclassInstance") -> list[str]:
    """Return the fields in which two configurations differ, one line each."""
    old, new = _flat(to_dict(before)), _flat(to_dict(after))
    return [f"{name}: {old[name]!r} -> {new[name]!r}" for name in new if old.get(name) != new[name]]


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out


def _take(arguments: list[str], option: str) -> str | None:
    """Remove ``option VALUE`` or ``option=VALUE`` from the arguments and return the value."""
    for i, argument in enumerate(arguments):
        if argument == option:
            if i + 1 == len(arguments):
                raise UserError(f"{option} needs a value")
            value = arguments[i + 1]
            del arguments[i : i + 2]
            return value
        if argument.startswith(option + "="):
            del arguments[i]
            return argument.split("=", 1)[1]
    return None


@dataclass(frozen=True)
class LabelledDataConfig(DataConfig):
    """Labelled videos, how they are split, and the clips cut from them."""

    protocol: str = "auto"
    """Split into training, validation and test videos: auto (the one that the data set shows, such as folders train and
    test), hash, hash-group, folders, table, ucf101-1 (-2, -3), ntu-subject, ntu-view or random."""
    shares: tuple[Share, Share, Share] = (0.7, 0.15, 0.15)
    """Shares of training, validation and test videos, where the protocol leaves them open."""
    classes: str | None = None
    """ntu-4 (sitting down, standing up, waving, other), or LABEL=CLASS,LABEL=CLASS,... to rename, merge and leave out
    labels; * stands for all others."""
    lists: Annotated[str, PathOption()] | None = None
    """Folder of UCF-101's official lists, where they are not beside the videos."""
    groups: str | None = None
    """Regular expression whose first group, found in a video's key, says which videos belong together."""
    videos_per_class: Count | None = None
    """Training videos of each class; default: all. Validation and test videos are the same for every number."""
    jitter: Share = 0.0
    """Frames of a training clip are moved at random by this share of their distance."""
    no_flip: tuple[str, ...] = ()
    """Classes whose clips are never mirrored, beside those whose names speak of left and right."""
