"""The cells of a grid: one run each."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

from fastvid.command import UserError

# Our names of the approaches, and under which ones the published experiments keep their JSON files and their
# TensorBoard runs.
PUBLISHED_NAMES = {
    "head": ("head_only", "head_only"),
    "pooler": ("pooler_head", "pooler_head"),
    "lora": ("lora_action", "action_lora"),
    "pooler+lora": ("pooler_head_lora", "pooler_head_lora"),
    "backbone-lora": ("backbone_lora", "backbone_lora"),
    "full": ("full", "full"),
}


@dataclass(frozen=True)
class Cell:
    """One run of a sweep.

    Attributes:
        approach: what is trained.
        videos: training videos of each class; None for all there are.
        seed: seed of the run.
        trial: its number in a search, or None.
        options: further options of this cell alone, as on a command line.
    """

    approach: str
    videos: int | None
    seed: int
    trial: int | None = None
    options: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the name of the cell's folder."""
        amount = "all" if self.videos is None else self.videos
        trial = "" if self.trial is None else f"-trial{self.trial:04d}"
        return f"{self.approach}-{amount}videos-seed{self.seed}{trial}"

    def __str__(self) -> str:
        amount = "all videos" if self.videos is None else f"{self.videos} videos a class"
        return f"{self.approach}, {amount}, seed {self.seed}" + ("" if self.trial is None else f", trial {self.trial}")

    def arguments(self) -> list[str]:
        """Return the recipe's options of the cell."""
        return [
            "--approach", self.approach, "--data.videos-per-class", str(self.videos), "--run.seed", str(self.seed),
            *self.options,
        ]  # fmt: skip


def parse_approaches(text: str) -> list[str]:
    """Parse a comma-separated list of approaches.

    Raises:
        UserError: an unknown one, one given twice, or none.
    """
    names = _split("--approach", text)
    for name in names:
        if name not in PUBLISHED_NAMES:
            raise UserError(f"--approach {text}: {name!r} is none of {', '.join(PUBLISHED_NAMES)}")
    return names


def parse_videos(text: str) -> list[int | None]:
    """Parse a comma-separated list of videos per class, in ascending order. ``all`` (None, the last) takes all there
    are.

    Raises:
        UserError: not a number of at least 1, one given twice, or none.
    """
    counts: list[int | None] = []
    for part in _split("--videos-per-class", text):
        if part != "all" and (not _is_number(part) or int(part) < 1):
            raise UserError(f"--videos-per-class {text}: {part!r} is neither a number of at least 1 nor 'all'")
        counts.append(None if part == "all" else int(part))
    return sorted(counts, key=by_amount)


def parse_seeds(text: str) -> list[int]:
    """Parse a comma-separated list of seeds, in ascending order.

    Raises:
        UserError: not a whole number of at least 0, one given twice, or none.
    """
    parts = _split("--seed", text)
    for part in parts:
        if not _is_number(part):
            raise UserError(f"--seed {text}: {part!r} is no whole number of at least 0")
    return sorted(int(part) for part in parts)


def make_grid(approaches: Iterable[str], videos: Iterable[int | None], seeds: Iterable[int]) -> list[Cell]:
    """Make all combinations. Seeds change slowest, so that a comparison exists after the first seed."""
    videos, seeds = list(videos), list(seeds)
    approaches = list(approaches)
    return [Cell(a, n, s) for s in seeds for n in videos for a in approaches]


def in_grid_order(cells: Iterable[Cell]) -> list[Cell]:
    """Sort cells as tables show them: by approach, videos, seed and trial."""
    order = list(PUBLISHED_NAMES)
    return sorted(cells, key=lambda c: (order.index(c.approach), by_amount(c.videos), c.seed, c.trial or 0))


def by_amount(videos: int | None) -> float:
    """Return a key that sorts numbers of videos. None, which means all of them, is last."""
    return float("inf") if videos is None else videos


def _is_number(text: str) -> bool:
    return re.fullmatch(r"\d{1,18}", text, flags=re.ASCII) is not None


def _split(option: str, text: str) -> list[str]:
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UserError(f"{option} {text!r}: give a list such as a,b without gaps")
    values = [str(int(part)) if _is_number(part) else part for part in parts]
    twice = sorted({part for part in values if values.count(part) > 1})
    if twice:
        raise UserError(f"{option} {text}: {', '.join(twice)} is there twice")
    return values
