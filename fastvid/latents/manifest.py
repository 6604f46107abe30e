"""``manifest.json`` of a latent cache: everything its latents depend on, and the fingerprint of that."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from fastvid.data.shards.dataset_json import NAME, Dataset
from fastvid.data.source import Source
from fastvid.data.sources.open_stream import LONGEST_DATASET
from fastvid.data.storage.remote import Remote
from fastvid.data.walk import MISSING
from fastvid.files import write_new
from fastvid.video import DecodeError, ViewSpec

MANIFEST = "manifest.json"
_FORMAT, _VERSION = "fastvid latents", 1

Form = Literal["fp16", "bf16", "int8"]


@dataclass(frozen=True)
class LatentManifest:
    """The content of a cache. All fields but ``notes`` make the fingerprint.

    Attributes:
        teacher: kind of the teacher and sha256 of its configuration; not where it was read from, which may change.
        weights: sha256 of its weights.
        layer: whose output is kept: ``"last"``, numbers of several blocks, ``"3,6,9,12"``, each of which gives a latent
            of every token, or a name that the teacher's recipe gives it.
        precision: dtype the teacher computed in.
        grid: (T, H, W) tokens of a clip.
        views: how views are drawn: :attr:`fastvid.video.ViewSpec.fingerprint`, or what else it takes.
        view_seed: views are drawn with it.
        views_per_clip: V; the view of epoch e is draw ``e % V``.
        form: how an element is stored; int8 has a float16 scale for each token.
        projection: ``"none"``, ``"pca:D"`` or ``"random:D"``.
        projection_hash: sha256 of the projection's file; empty without one.
        dim: elements of a stored token.
        tokens: K stored tokens of each view.
        token_seed: of the choice of these, where they are not all.
        dataset: :func:`dataset_hash` of the videos.
        clips: videos in them.
        shards: shards with at least one video, each a file of the cache.
        notes: values that nothing depends on, such as a projection's explained variance.
    """

    teacher: str
    weights: str
    layer: str
    precision: str
    grid: tuple[int, int, int]
    views: dict[str, Any]
    view_seed: int
    views_per_clip: int
    form: Form
    projection: str
    projection_hash: str
    dim: int
    tokens: int
    token_seed: int
    dataset: str
    clips: int
    shards: int
    notes: dict[str, Any] = field(default_factory=dict)

    @property
    def dependencies(self) -> dict[str, Any]:
        """Return the fields that latents depend on, flat, as JSON values."""
        values = json.loads(json.dumps(asdict(self)))
        del values["notes"]
        return _flat(values)

    @property
    def fingerprint(self) -> str:
        """Return the sha256 of :attr:`dependencies` and the format's version. Caches with equal fingerprints are
        interchangeable.
        """
        return hashlib.sha256(json.dumps([_FORMAT, _VERSION, self.dependencies], sort_keys=True).encode()).hexdigest()

    @property
    def view_spec(self) -> ViewSpec:
        """Return the specification with which the views were drawn.

        Raises:
            ValueError: this version does not know how they were.
        """
        spec = ViewSpec.from_fields(self.views)
        if spec.fingerprint != json.loads(json.dumps(self.views)):
            raise ValueError(f"the views of these latents were drawn by another version, as {self.views}")
        return spec

    @property
    def grid_tokens(self) -> int:
        """Return N, the tokens of a clip."""
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def layers(self) -> int:
        """Return the number of latents of a token: one for each block that ``layer`` names."""
        return self.layer.count(",") + 1

    @property
    def rows(self) -> int:
        """Return the number of stored latents of a view; those of a token follow each other."""
        return self.tokens * self.layers

    @property
    def is_subset(self) -> bool:
        """Return whether some tokens of a clip are left out."""
        return self.tokens < self.grid_tokens

    @property
    def view_bytes(self) -> int:
        """Return the bytes of one view of one clip: latents, scales and token indices."""
        return latent_bytes(self.rows, self.dim, self.form) + 4 * self.tokens * self.is_subset

    def save(self, folder: Path) -> None:
        """Write the manifest of a new cache. An existing one stays."""
        values = {"format": _FORMAT, "version": _VERSION, "fingerprint": self.fingerprint, **asdict(self)}
        write_new(folder / MANIFEST, json.dumps(values, indent=1).encode() + b"\n")

    @staticmethod
    def load(folder: Path) -> "LatentManifest":
        """Read the manifest of a cache.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is damaged, edited, or of another version.
        """
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"no latents in {folder}: it has no {MANIFEST}; `python -m fastvid.cache` makes it")
        try:
            values = json.loads(path.read_bytes())
            if (values.pop("format"), values.pop("version")) == (_FORMAT, _VERSION):
                fingerprint = values.pop("fingerprint")
                values["grid"] = tuple(values["grid"])
                if set(values) == {f.name for f in fields(LatentManifest)}:
                    manifest = LatentManifest(**values)
                    if manifest.fingerprint == fingerprint:
                        return manifest
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            pass  # said below, with the file's name
        raise ValueError(
            f"{path} is damaged, was edited, or was written by another version: what the latents beside it depend on "
            "is unknown; restore it, or make the cache anew in another folder"
        )


def latent_bytes(rows: int, dim: int, form: Form) -> int:
    """Return the bytes of the latents of one view, and of their scales."""
    return rows * (dim + 2 if form == "int8" else 2 * dim)


def dataset_hash(path: str | Path, source: Source) -> str:
    """Return the hash of a data set. It is the hash in the ``dataset.json`` of a folder or URL, which covers every byte
    of the shards, or else a hash of the sorted list of keys and file sizes.

    Args:
        path: what ``source`` was opened from.
        source: all videos there; not looked at where there is a ``dataset.json``.
    """
    if "://" in str(path):
        remote = Remote(str(path))
        return f"{NAME} {Dataset.from_bytes(remote.read(NAME, LONGEST_DATASET), remote.where(NAME)).hash}"
    described = Path(path).expanduser() / NAME
    if described.is_file():
        return f"{NAME} {Dataset.from_bytes(described.read_bytes(), str(described)).hash}"
    lines = sorted(f"{sample.key}\0{size_of(source, row)}\n" for row, sample in enumerate(source.samples))
    return f"keys and sizes {hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def size_of(source: Source, row: int) -> int:
    """Return the bytes of a video, for a fingerprint, or -1 for one that cannot be read, which later is a bad
    sample.
    """
    try:
        return source.size(row)
    except DecodeError:
        return MISSING


def differences(cached: Mapping[str, Any], wanted: Mapping[str, Any], who: str) -> list[str]:
    """Return one line for each of the wanted values that differs in the cache.

    Args:
        cached: :attr:`LatentManifest.dependencies`.
        wanted: some of the same names; groups of them may be nested.
        who: whose wishes these are.
    """
    wanted = _flat(json.loads(json.dumps(wanted)))
    groups = {name.split(".")[0] for name in wanted if "." in name}
    names = [*wanted, *(name for name in cached if name.split(".")[0] in groups and name not in wanted)]
    return [
        f"{name}: {cached.get(name, 'not used')} in the cache, {wanted.get(name, 'not used')} in {who}"
        for name in names
        if cached.get(name) != wanted.get(name)
    ]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        out |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return out
