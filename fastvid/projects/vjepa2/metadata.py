"""Metadata beside a trained classifier's weights: all that is needed to build it again."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from fastvid.ops import IMAGENET_MEAN, IMAGENET_STD
from fastvid.projects.vjepa2.approach import LoraSettings
from fastvid.video import ViewSpec

_VERSION = 1  # of the file's form
_VIEWS = ("frames", "size", "sampling", "stride", "fps", "crop")  # fields of the evaluation views in the file


@dataclass(frozen=True)
class ClassifierMetadata:
    """A trained classifier without its weights.

    The caller gives the first fields; those from ``approach`` on are filled in from the model by
    :func:`fastvid.projects.vjepa2.checkpoint.save_classifier`.

    Attributes:
        source: hub name or folder that the untrained model came from; ``"tiny"`` with ``init="tiny"``.
        classes: their names, sorted: a class id is a position in this list.
        init: as :func:`fastvid.projects.vjepa2.load.load_vjepa2` takes it.
        init_seed: likewise.
        views: of the evaluation; what only training views depend on is reset. ``frames`` and ``size`` are the model's.
        clips: per video in the evaluation.
        crops: per clip in the evaluation.
        approach: which parts were trained.
        lora: of the adapters; None without.
        mean: per-channel mean of pixels in [0, 1].
        std: per-channel standard deviation of pixels in [0, 1].
        frozen: sha256 of what was not trained, without the predictor, which a classifier does not use.
        trained: sha256 of the file of what was trained.
        project: the recipe.
        fastvid: version that wrote it.
        transformers: version that wrote it.

    Raises:
        ValueError: classes that are not two or more different names in order, or an impossible number.
    """

    source: str
    classes: tuple[str, ...]
    init: Literal["pretrained", "tiny"] = "pretrained"
    init_seed: int = 0
    views: ViewSpec = field(default_factory=lambda: ViewSpec(size=256))
    clips: int = 1
    crops: int = 1
    approach: str = ""
    lora: LoraSettings | None = None
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    frozen: str = ""
    trained: str = ""
    project: str = "vjepa2"
    fastvid: str = ""
    transformers: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))
        if len(self.classes) < 2 or list(self.classes) != sorted(set(self.classes)):
            raise ValueError(f"classes must be two or more different names, sorted; got {', '.join(self.classes)}")
        if self.clips < 1 or self.crops not in (1, 3):
            raise ValueError(f"an evaluation needs clips >= 1 and 1 or 3 crops; got {self.clips} and {self.crops}")
        if self.project != "vjepa2":
            raise ValueError(f"a classifier of the project {self.project!r}; this reads those of vjepa2")
        object.__setattr__(self, "views", _evaluation_views(vars(self.views)))

    def to_json(self) -> str:
        """Serialise the metadata to JSON for :meth:`from_json`."""
        values = dataclasses.asdict(self)
        views = values.pop("views")
        values |= {name: views[name] for name in _VIEWS}
        return json.dumps({"version": _VERSION, **values}, indent=1, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str | bytes, path: Path) -> "ClassifierMetadata":
        """Read what :meth:`to_json` wrote.

        Args:
            text: the file's content.
            path: path of the file, for errors.

        Raises:
            ValueError: damaged, or of another version.
        """
        try:
            fields = json.loads(text)
            if not isinstance(fields, dict):
                raise ValueError("it is no JSON object")
        except ValueError as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        version = fields.pop("version", None)
        if version != _VERSION:
            raise ValueError(
                f"{path} has version {version!r}, and this fastvid reads version {_VERSION}: use the fastvid that "
                f"wrote it ({fields.get('fastvid')})"
            )
        known = {field.name for field in dataclasses.fields(ClassifierMetadata)} - {"views"} | set(_VIEWS)
        if unknown := sorted(set(fields) - known):
            raise ValueError(f"{path} has fields that this version does not know: {', '.join(unknown)}")
        if missing := sorted(known - set(fields)):
            raise ValueError(f"{path} is damaged: it lacks {', '.join(missing)}")
        try:
            values = {name: _value(name, value) for name, value in fields.items()}
            views = _evaluation_views({name: values.pop(name) for name in _VIEWS})
            return ClassifierMetadata(**values, views=views)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error


def _evaluation_views(values: Mapping[str, Any]) -> ViewSpec:
    """Return the evaluation views with these values; they are not mirrored."""
    return ViewSpec.from_fields({**{name: values[name] for name in _VIEWS}, "flip": 0.0})


_NUMBERS = ("init_seed", "stride", "clips", "crops", "frames", "size")


def _value(name: str, value: Any) -> Any:
    """Convert a JSON value to a field's type.

    Raises:
        ValueError: of another type.
    """
    if name == "lora":
        return None if value is None else LoraSettings(**value)
    if name == "classes":
        right = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif name in ("mean", "std"):
        right = isinstance(value, list) and len(value) == 3 and all(isinstance(item, float | int) for item in value)
    elif name in _NUMBERS:
        right = type(value) is int
    elif name in ("fps", "crop"):
        right = isinstance(value, float | int)
    else:
        right = isinstance(value, str)
    if not right:
        raise ValueError(f"{name} is {value!r:.60}")
    return tuple(value) if isinstance(value, list) else value
