"""The questions about the demo's scenes, their answers, and where the answer is to be seen."""

from dataclasses import dataclass

import numpy as np

from fastvid.projects.fvlm.glyphs import COLOURS, LETTERS
from fastvid.projects.fvlm.scenes import TASKS, Scenes, Task

_NAMES = list(COLOURS)
_WORDING: dict[Task, str] = {
    "tiles": "Read the tile that is {colour}",
    "chain": "Follow the letters from {colour}",
}


@dataclass(frozen=True)
class Questions:
    """One question about every tile of V scenes, of at most O tiles each.

    Attributes:
        task: int64 [V], position in ``TASKS``.
        exists: bool [V, O].
        colour: int64 [V, O], position in ``COLOURS`` of the colour that the question names.
        letter: int64 [V, O, T], the answer: position in ``LETTERS`` of the letter to read in each frame.
        cell: int64 [V, O, T], the truth: the number of the cell to look at in each frame, row by row.
    """

    task: np.ndarray
    exists: np.ndarray
    colour: np.ndarray
    letter: np.ndarray
    cell: np.ndarray


def ask(scenes: Scenes, task: Task | None = None) -> Questions:
    """Ask about every tile of some scenes.

    Args:
        scenes: the scenes.
        task: of all questions; default: chain for those that are made for it, tiles for the others.

    Raises:
        ValueError: chain is asked of a scene that is not made for it.
    """
    if task == "chain" and not scenes.chain.all():
        raise ValueError("the task chain needs scenes that are made for it: those with odd numbers")
    tasks = scenes.chain.astype(np.int64) if task is None else np.full(len(scenes.chain), TASKS.index(task))
    slots = _slots(scenes, tasks == TASKS.index("chain"))
    letter, cell = (np.take_along_axis(a, slots, 1) for a in (scenes.letter, scenes.cell))
    return Questions(tasks, scenes.exists, scenes.colour, letter, cell)


def question_text(task: Task, colour: int) -> str:
    """Return the question's words. The last one is the colour."""
    return _WORDING[task].format(colour=_NAMES[colour])


def answer_text(letters: np.ndarray) -> str:
    """Return the answer's words, a letter for each frame."""
    return " ".join(LETTERS[letter] for letter in letters)


def _slots(scenes: Scenes, chain: np.ndarray) -> np.ndarray:
    """Return int64 [V, O, T]: the tile that each question is to be answered from, in each frame."""
    V, slots, T = scenes.cell.shape
    owner = np.zeros((V, len(COLOURS)), np.int64)
    rows = np.arange(V)[:, None]
    # From the last tile to the first, so that colours of tiles that do not exist never hide those that do.
    owner[rows, scenes.colour[:, ::-1]] = np.arange(slots)[::-1]
    looks = np.empty((V, slots, T), np.int64)
    looks[..., 0] = np.arange(slots)
    for frame in range(1, T):
        seen = scenes.letter[rows, looks[..., frame - 1], frame - 1]
        looks[..., frame] = np.where(chain[:, None], owner[rows, seen], np.arange(slots))
    return looks
