"""Loading of pretrained weights: every tensor, or one sentence that names those at fault.

Weights are read from safetensors only, and code that comes with a model is never executed.
"""

import contextlib
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from fastvid.models.weight_files import (
    WeightFiles,
    find_file,
    find_weights,
    first_line,
    listed,
    local_or_hub,
    read_json,
)

log = logging.getLogger(__name__)

IMAGE_ENCODERS = {
    "dinov2": "DINOv2", "dinov2_with_registers": "DINOv2 with registers", "dinov3_vit": "DINOv3 ViT",
}  # fmt: skip
"""Model types of transformers that encode images, by the name of each for messages."""

_ANEW = "its files do not belong together or are incomplete: download or save it anew"


@dataclass(frozen=True)
class Parts:
    """Prefixes of tensor names that a model and its files need not share.

    Attributes:
        may_lack: parts of the model that the files may lack, each as a whole: half a part is a damaged file.
        may_leave_out: parts of the files that the model does not use.
        advice: advice for the user about files that do not fit.
    """

    may_lack: tuple[str, ...] = ()
    may_leave_out: tuple[str, ...] = ()
    advice: str = _ANEW


@dataclass
class Misfits:
    """The differences between a model and its files.

    Attributes:
        missing: tensors of the model that the files lack.
        unexpected: tensors of the files that the model lacks.
        mismatched: (name, shape in the files, shape in the model) of those that differ in shape.
    """

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    mismatched: list[tuple[str, Sequence[int], Sequence[int]]] = field(default_factory=list)


def open_config(source: str, families: Mapping[str, str], kind: str = "") -> Any:
    """Read the configuration of a transformers model.

    Args:
        source: local folder or hub name.
        families: the model types that are accepted, and the name of each for messages.
        kind: name of all of them, for messages; empty to list their names.

    Raises:
        FileNotFoundError: no ``config.json`` there.
        ValueError: a damaged one, or one of another model.
        OSError: a file that cannot be read.
    """
    from transformers import AutoConfig

    path = find_file(source, "config.json")
    if path is None:
        raise FileNotFoundError(
            f"no model at {source!r}: it has no config.json; give a folder with config.json and model.safetensors, or "
            "the name of a hub model that was downloaded or can be"
        )
    family = read_json(path).get("model_type")
    try:
        config = AutoConfig.from_pretrained(local_or_hub(source), trust_remote_code=False)
    except Exception as error:  # of any type: transformers does not check a configuration's values as a whole
        raise ValueError(f"{path} describes no model that transformers can open: {first_line(error)}") from error
    if config.model_type not in families:
        supported = kind or " and ".join(families.values())
        raise ValueError(f"{source!r} is a {family} model; {supported} are supported")
    return config


def load_pretrained(
    model_class: Any, source: str, *, config: Any = None, parts: Parts = Parts(), dtype: torch.dtype = torch.float32
) -> tuple[Any, tuple[str, ...]]:
    """Load a transformers model, every tensor of it.

    What was loaded is said in the log: from where, which commit, how many tensors and parameters, what was left out.

    Args:
        model_class: such as ``AutoModel``, ``AutoModelForCausalLM`` or ``VJEPA2ForVideoClassification``.
        source: hub name or local folder, with ``model.safetensors`` or shards and their index.
        config: a configuration from :func:`open_config`; None for the source's own.
        parts: in what the model and the files may differ. Tied weights, such as a language model's ``lm_head``, need
            not be named.
        dtype: dtype of the model, whatever the files have.

    Returns:
        The model in eval mode, and the ``parts.may_lack`` that were drawn at random.

    Raises:
        FileNotFoundError: no weights in safetensors.
        ValueError: damaged files, or tensors that are missing, unexpected or of another shape.
        OSError: a file that cannot be read.
    """
    weights = find_weights(source)
    with _quiet_transformers():  # what it would warn of is refused here
        try:
            model, found = model_class.from_pretrained(
                local_or_hub(source), config=config, dtype=dtype, use_safetensors=True,
                trust_remote_code=False, output_loading_info=True, ignore_mismatched_sizes=True,
            )  # fmt: skip
        except OSError:
            raise
        except Exception as error:  # of any type: a configuration's numbers are checked by what they break
            raise ValueError(f"transformers cannot build the model of {source!r}: {first_line(error)}") from error
    misfits = Misfits(sorted(found["missing_keys"]), sorted(found["unexpected_keys"]), sorted(found["mismatched_keys"]))
    lacking = check_fit(source, misfits, model.state_dict(), parts)
    _say(type(model).__name__, weights, model, misfits)
    return model, lacking


def load_timm(name: str, *, weights: str | None = None, parts: Parts = Parts(), **arguments: Any) -> Any:
    """Load a timm model with pretrained weights, every tensor of it.

    timm's own loading passes over missing tensors wherever the number of classes differs.

    Args:
        name: name of the model, with or without a tag.
        weights: a ``.safetensors`` file, or a folder with ``model.safetensors``; None for those that timm names.
        parts: as in :func:`load_pretrained`; a classifier head that the model does not have need not be named.
        arguments: for ``timm.create_model``, such as ``num_classes=0``.

    Raises:
        FileNotFoundError: the weights are not there, as without a network.
        ValueError: no safetensors of this model, or tensors that are missing, unexpected or of another shape.
        OSError: a file that cannot be read.
    """
    import timm
    from timm.models import load_pretrained as timm_load

    if weights is None:
        source, revision, names = _hub_place(name)
        files = find_weights(source, revision=revision, names=names)
    else:
        files = find_weights(weights)
    model: Any = timm.create_model(name, pretrained=False, **arguments)
    shown = {**model.pretrained_cfg, "source": "", "state_dict": files.read()}
    heads = shown.get("classifier") or ()
    heads = (heads,) if isinstance(heads, str) else tuple(heads)
    misfits = Misfits()

    def check(module: nn.Module, state: dict[str, torch.Tensor], *_: Any) -> None:
        """Compare the model that timm built with its files."""
        nonlocal misfits
        misfits = compare({n: t.shape for n, t in state.items()}, module.state_dict())
        check_fit(files.source, misfits, module.state_dict(), parts)

    # timm's convention: how a module's checkpoints of all ages are read stands beside its models.
    convert = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    handle = model.register_load_state_dict_pre_hook(check)
    try:
        timm_load(model, pretrained_cfg=shown, num_classes=model.num_classes, filter_fn=convert)
    finally:
        handle.remove()
    if not model.num_classes:  # timm has dropped the head before the comparison
        misfits.unexpected += sorted(n for n in files.shapes if n.startswith(tuple(f"{head}." for head in heads)))
    _say(name, files, model, misfits)
    return model


def load_tensors(
    module: nn.Module, tensors: Mapping[str, torch.Tensor], source: str, parts: Parts = Parts()
) -> tuple[str, ...]:
    """Copy tensors into a module of the same names and shapes.

    Args:
        module: module that the tensors are loaded into.
        tensors: tensors by name, of any dtype.
        source: where they come from, for messages.
        parts: in what the two may differ.

    Returns:
        The ``parts.may_lack`` that the tensors lack.

    Raises:
        ValueError: tensors that are missing, unexpected or of another shape.
    """
    wanted = module.state_dict()
    lacking = check_fit(source, compare({n: t.shape for n, t in tensors.items()}, wanted), wanted, parts)
    module.load_state_dict({name: tensor for name, tensor in tensors.items() if name in wanted}, strict=False)
    return lacking


def compare(found: Mapping[str, Sequence[int]], wanted: Mapping[str, torch.Tensor]) -> Misfits:
    """Compare the shapes in files with a model's tensors."""
    return Misfits(
        sorted(wanted.keys() - found.keys()),
        sorted(found.keys() - wanted.keys()),
        [(n, found[n], wanted[n].shape) for n in sorted(found.keys() & wanted) if tuple(found[n]) != wanted[n].shape],
    )


def check_fit(source: str, misfits: Misfits, wanted: Iterable[str], parts: Parts = Parts()) -> tuple[str, ...]:
    """Raise an error where files do not fit a model.

    Args:
        source: source of the files, for the message.
        misfits: differences between the two.
        wanted: the names of all of the model's tensors.
        parts: in what the two may differ.

    Returns:
        The ``parts.may_lack`` that the files lack.

    Raises:
        ValueError: they differ in anything else; the first few names of each kind are in the message.
    """
    missing = set(misfits.missing)
    whole = {prefix: {name for name in wanted if name.startswith(prefix)} for prefix in parts.may_lack}
    lacking = tuple(prefix for prefix, names in whole.items() if names and names <= missing)
    absent = [name for name in misfits.missing if not name.startswith(lacking)] if lacking else misfits.missing
    foreign = [name for name in misfits.unexpected if not name.startswith(parts.may_leave_out or ("\0",))]
    faults = []
    if absent:
        faults.append(f"{len(absent)} missing ({listed(absent)})")
    if foreign:
        faults.append(f"{len(foreign)} that the model does not have ({listed(foreign)})")
    if misfits.mismatched:
        odd = [f"{name} is {list(there)} instead of {list(here)}" for name, there, here in misfits.mismatched]
        faults.append(f"{len(odd)} of another shape ({listed(odd)})")
    if faults:
        raise ValueError(f"the weights of {source!r} do not fit the model: {', '.join(faults)}; {parts.advice}")
    return lacking


def _hub_place(name: str) -> tuple[str, str | None, tuple[str, ...]]:
    """Return repository, revision and file names of a timm model's weights."""
    from timm.models import get_pretrained_cfg

    try:
        shown = get_pretrained_cfg(name)
    except RuntimeError as error:
        raise ValueError(f"timm has no weights {name!r}: {first_line(error)}") from error
    if shown is None or not shown.hf_hub_id:
        raise ValueError(
            f"timm names no safetensors on the hub for {name!r}: use a model or tag that has them, or no pretrained "
            "weights"
        )
    repository, _, revision = shown.hf_hub_id.partition("@")
    file = shown.hf_hub_filename or "model.safetensors"
    if file == "open_clip_pytorch_model.bin":
        file = "open_clip_model.safetensors"
    elif file.endswith(".bin"):
        file = f"{file.removesuffix('.bin')}.safetensors"
    return repository, revision or None, (file,)


def _say(what: str, weights: WeightFiles, model: nn.Module, misfits: Misfits) -> None:
    """Log what was loaded."""
    count = sum(parameter.numel() for parameter in model.parameters())
    here = str(next(model.parameters()).dtype).removeprefix("torch.")
    line = f"loaded {what} from {weights.source}"
    line += f" (commit {weights.revision})" if weights.revision else ""
    line += f": {len(weights.shapes) - len(misfits.unexpected)} tensors in {len(weights.paths)} file(s)"
    line += f", {count:,} parameters; {' and '.join(weights.dtypes)} in the files, {here} here"
    if misfits.unexpected:
        line += f"; left out: {len(misfits.unexpected)} tensors ({listed(misfits.unexpected)})"
    if misfits.missing:
        line += f"; not in the files: {len(misfits.missing)} tensors ({listed(misfits.missing)})"
    log.info(line)


@contextlib.contextmanager
def _quiet_transformers() -> Iterator[None]:
    from transformers.utils import logging as their_logging

    before, bars = their_logging.get_verbosity(), their_logging.is_progress_bar_enabled()
    their_logging.set_verbosity_error()
    their_logging.disable_progress_bar()
    try:
        yield
    finally:
        their_logging.set_verbosity(before)
        if bars:
            their_logging.enable_progress_bar()
