"""Scenes of the variant ``hard``: nothing in a single frame tells a persistent object from a transient one.

Every object, of either kind, begins as a *life*: a path of 12 to 32 frames among occluding bars, with a colour and a
depth, all drawn from the same distributions. A persistent object shows its whole life; a transient one shows a piece of
at most six frames of a life. Two rules make both kinds look the same in any one frame:

- A piece of d frames begins anywhere from d - 1 frames before its life to the life's last frame, and what lies outside
  of the life is cut off. So each moment of a life is shown by as many pieces as any other; pieces from within the life
  alone would show its ends, which are nearer to the border, too rarely. For the same reason a piece's life is drawn
  with a probability proportional to the number of places that a piece of it can have.
- The first frame in which an object is seen is uniform over the same frames for both kinds. It depends on no lifetime:
  an object that lasts for the whole video would have to begin with it, and that would give it away.

What is left is the frame's number itself: an object that is seen late is more often persistent, because it had time to
last. In decoys a transient ends at a bar, and another of the same colour begins beyond it, off the first one's course:
who joins the two gets a long track of transients, and who cuts tracks at bars gets short tracks of persistent objects.
"""

from dataclasses import dataclass

import numpy as np

from fastvid.draws import between, uniforms, whole
from fastvid.projects.trajectory.motion import MOTIONS, PATH_DRAWS, ROOM, long_path
from fastvid.projects.trajectory.scenes import HARD_FRAMES, MOST_TRANSIENTS, SceneConfig, Scenes, disc_radius

SHORTEST, LONGEST = 12, HARD_FRAMES  # frames of a life
PIECE = 6  # most frames of a transient object
BIRTHS = HARD_FRAMES - SHORTEST  # first frames are uniform over 0 to 19
HIDDEN = (2, 6)  # frames that an object stays behind a bar

_PERSISTENT, _SPARE = 3, 3  # most persistent objects; lives drawn beyond those needed, for pieces that nobody would see
_TRIES = 6  # paths drawn for each life, of which the first that passes behind a bar as it should is taken
_PACE = 21.0  # frames in a path's unit of time
_COVERED = 0.65  # an object counts as hidden where more than this share of its box lies behind a bar
_WISH = 0.8  # share of lives that are to pass behind a bar, where one of the tries does
_LIFE_COUNT = _PERSISTENT + 1 + MOST_TRANSIENTS + _SPARE
_DECOYS = 0.85  # share of videos with two transients or more that get decoys, if the life drawn for them allows it
_OUTWARD = 0.75  # share of decoys whose path is, of those tried, the one that meets a bar farthest from the middle
_GAPS = (5, 10)  # frames between the births of two decoys; twice each divides BIRTHS
_SCENE, _LIVES, _PATHS, _BARS = 6, 7, 8, 9  # Philox streams


@dataclass(frozen=True)
class _Lives:
    """G lives in each of V videos, at the moments 0 to 31 after their beginning.

    Attributes:
        path: float [V, G, T, 3], as in :mod:`fastvid.projects.trajectory.motion`.
        length: int [V, G], frames.
        hidden: bool [V, G, T], behind a bar; false after the life's end.
        motion: int [V, G].
        colour: uint8 [V, G, 3].
    """

    path: np.ndarray
    length: np.ndarray
    hidden: np.ndarray
    motion: np.ndarray
    colour: np.ndarray


@dataclass(frozen=True)
class _Showings:
    """K objects of each of V videos: what each shows of a life, and when.

    Attributes:
        life: int [V, K], the life's number.
        start: int [V, K], the moment of the life that is shown first.
        length: int [V, K], frames; 0 for an object that would not be seen.
        birth: int [V, K], frame of the video in which it begins.
        shift: float [V, K, 2], by how much it lies beside the life's path.
    """

    life: np.ndarray
    start: np.ndarray
    length: np.ndarray
    birth: np.ndarray
    shift: np.ndarray

    def take(self, chosen: np.ndarray) -> "_Showings":
        """Return the objects with these numbers, int [V, K']."""
        rows = np.arange(len(chosen))[:, None]
        return _Showings(*(a[rows, chosen] for a in (self.life, self.start, self.length, self.birth, self.shift)))


def draw_hard(config: SceneConfig, indices: np.ndarray) -> Scenes:
    """Draw scenes of the variant ``hard``: 1 to 3 persistent objects, 1 to 6 transients, 1 or 2 bars.

    Raises:
        ValueError: the number of frames is not 32.
    """
    assert config.length == HARD_FRAMES  # or the error of another number
    scene = uniforms(config.seed, indices, (6,), _SCENE)
    bars = _bars(config, indices)
    lives, whole_lives, pieces = _draw(config, indices, bars)
    decoys = _decoys(lives, scene, bars, config.size)
    number = whole(scene[:, 0], 1, MOST_TRANSIENTS)
    decoys.length[number < 2] = 0
    passing = _joined([decoys, pieces])
    # What begins and ends behind a bar is seen for less long: a life of less than 12 frames does not count, nor does a
    # piece that nobody would see. There are more of both than are needed.
    lasting = _first(whole_lives, whole_lives.length >= SHORTEST, whole(scene[:, 1], 1, _PERSISTENT), _PERSISTENT)
    brief = _first(passing, passing.length > 0, number, MOST_TRANSIENTS)
    return _assembled(config, indices, bars, lives, _joined([lasting, brief]))


def _first(objects: _Showings, usable: np.ndarray, number: np.ndarray, slots: int) -> _Showings:
    """Take the first ``number`` [V] usable objects into as many slots."""
    chosen = objects.take(np.argsort(~usable, axis=1, kind="stable")[:, :slots])
    count = np.minimum(number, usable.sum(1))
    chosen.length[np.arange(slots) >= count[:, None]] = 0
    return chosen


def _draw(config: SceneConfig, indices: np.ndarray, bars: np.ndarray) -> tuple[_Lives, _Showings, _Showings]:
    """Draw all lives, and show those of persistent objects whole and pieces of the others.

    Between the two there is one more life, for decoys.
    """
    pieces = slice(_PERSISTENT + 1, _LIFE_COUNT)
    draws = uniforms(config.seed, indices, (_LIFE_COUNT, 9), _LIVES)
    birth = (draws[..., 0] * BIRTHS).astype(np.int64)
    # A persistent object lasts for 12 frames at least from its birth, and until the video's end at most.
    length = SHORTEST + (draws[..., 1] * (HARD_FRAMES - birth - SHORTEST + 1)).astype(np.int64)
    wanted = whole(draws[:, pieces, 2], 1, PIECE)
    length[:, pieces] = _life_lengths(draws[:, pieces, 1], wanted)
    lives = _lives(config, indices, bars, draws[..., 3:], length)

    first = np.floor(draws[:, pieces, 8] * (length[:, pieces] + wanted - 1)).astype(np.int64) - (wanted - 1)
    start, end = np.maximum(first, 0), np.minimum(first + wanted, length[:, pieces])
    number = np.broadcast_to(np.arange(_LIFE_COUNT), length.shape)
    nothing = np.zeros((*length.shape, 2))
    lasting = slice(0, _PERSISTENT)
    shown = _Showings(
        number[:, lasting], *_trimmed(lives.hidden[:, lasting], np.zeros_like(length[:, lasting]), length[:, lasting]),
        birth[:, lasting], nothing[:, lasting],
    )  # fmt: skip
    cut = _Showings(
        number[:, pieces], *_trimmed(lives.hidden[:, pieces], start, end), birth[:, pieces], nothing[:, pieces]
    )
    return lives, shown, cut


def _life_lengths(uniform: np.ndarray, piece: np.ndarray) -> np.ndarray:
    """Draw the lengths of lives that pieces are cut from, int [...], given the pieces' lengths.

    A life of n frames has n + d - 1 places for a piece of d frames.
    """
    lengths = np.arange(SHORTEST, LONGEST + 1)
    # Of a persistent object that is born in frame b, each length from 12 to 32 - b is as likely.
    rest = HARD_FRAMES - np.arange(BIRTHS)
    chance = ((lengths[:, None] <= rest) / (rest - SHORTEST + 1)).mean(1)
    weight = chance * (lengths + piece[..., None] - 1)
    ladder = np.cumsum(weight, axis=-1) / weight.sum(-1, keepdims=True)
    drawn: np.ndarray = SHORTEST + (uniform[..., None] >= ladder[..., :-1]).sum(-1)
    return drawn


def _lives(config: SceneConfig, indices: np.ndarray, bars: np.ndarray, draws: np.ndarray, length: np.ndarray) -> _Lives:
    """Draw the paths and looks of lives; of several paths the first is taken that passes behind a bar as wished."""
    V, lives = length.shape
    motion = whole(draws[..., 0], 0, len(MOTIONS) - 1)
    motion[:, :_PERSISTENT] = (indices % len(MOTIONS))[:, None]
    tries = np.broadcast_to(motion[..., None], (V, lives, _TRIES))
    numbers = uniforms(config.seed, indices, (lives, _TRIES, PATH_DRAWS), _PATHS)
    time = np.arange(HARD_FRAMES)
    path = long_path(tries, numbers, time / _PACE, ((length - 1) / _PACE)[..., None])
    hidden = _hidden(path, bars, config.size) & (time < length[..., None, None])
    ends = hidden[..., 0] | np.take_along_axis(hidden, (length - 1)[..., None, None], -1)[..., 0]
    passes, clear = _passes(hidden) & ~ends, ~hidden.any(-1)
    wish = (draws[..., 1] < _WISH)[..., None]
    score = np.select([passes, clear, ~ends], [2.0 + wish, 3.0 - wish, 1.0], 0.0)
    outward = np.take_along_axis(np.linalg.norm(path[..., :2], axis=-1), hidden.argmax(-1)[..., None], -1)[..., 0] / 2
    score[:, _PERSISTENT] += np.where(draws[:, _PERSISTENT, 1:2] < _OUTWARD, outward[:, _PERSISTENT], 0)
    best = score.argmax(-1)[..., None]
    path = np.take_along_axis(path, best[..., None, None], 2)[:, :, 0]
    hidden = np.take_along_axis(hidden, best[..., None], 2)[:, :, 0]
    return _Lives(path, length, hidden, motion, _colours(draws[..., 2:5]))


def _bars(config: SceneConfig, indices: np.ndarray) -> np.ndarray:
    """Draw one or two opaque bars of 10 to 16 by 26 to 40 pixels (of 64), upright or lying: int64 [V, 2, 4]."""
    draws = uniforms(config.seed, indices, (2, 6), _BARS)
    unit = config.size / 64
    width, length = between(draws[..., 0], 10, 17), between(draws[..., 1], 26, 41)
    across, along = between(draws[..., 2], 14, 50), between(draws[..., 3], 20, 44)
    sides = np.stack([width, length], -1)
    middle = np.stack([across, along], -1)
    lying = (draws[..., 4] < 0.5)[..., None]
    sides, middle = np.where(lying, sides[..., ::-1], sides), np.where(lying, middle[..., ::-1], middle)
    low = np.floor((middle - sides / 2) * unit).astype(np.int64)
    bars = np.concatenate([low, low + np.floor(sides * unit).astype(np.int64)], -1).clip(0, config.size)
    bars[draws[:, 1, 5] < 0.5, 1] = 0
    return bars


def _hidden(path: np.ndarray, bars: np.ndarray, size: int) -> np.ndarray:
    """Return bool [V, ..., T]: whether most of the box of an object on a path [V, ..., T, 3] lies behind a bar."""
    centre, reach = (path[..., :2] + 1) * (size / 2), disc_radius(path[..., 2], size)[..., None]
    covered = np.zeros(path.shape[:-1])
    for number in range(bars.shape[1]):
        box = bars[:, number].reshape(-1, *[1] * (path.ndim - 2), 4)
        shared = np.minimum(centre + reach, box[..., 2:]) - np.maximum(centre - reach, box[..., :2])
        covered += np.prod(np.maximum(shared, 0), -1)
    return covered > _COVERED * (2 * reach[..., 0]) ** 2


def _passes(hidden: np.ndarray) -> np.ndarray:
    """Return bool [...]: whether something is hidden, each time for 2 to 6 frames, in bool [..., T]."""
    run = np.zeros(hidden.shape[:-1], np.int64)
    good, any_ = np.ones(hidden.shape[:-1], bool), np.zeros(hidden.shape[:-1], bool)
    low, high = HIDDEN
    for now in np.moveaxis(hidden, -1, 0):
        ended = (run > 0) & ~now
        good &= ~ended | (run >= low)
        any_ |= ended
        run = (run + 1) * now
        good &= run <= high
    return good & any_


def _trimmed(hidden: np.ndarray, start: np.ndarray, end: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cut off the hidden frames at both ends of what is shown of lives, so that each object begins and ends in sight.

    Returns:
        The first moment and the number of frames, 0 where all would be hidden.
    """
    time = np.arange(hidden.shape[-1])
    open_ = ~hidden & (time >= start[..., None]) & (time < end[..., None])
    first, last = open_.argmax(-1), hidden.shape[-1] - 1 - open_[..., ::-1].argmax(-1)
    return first, np.where(open_.any(-1), last - first + 1, 0)


def _decoys(lives: _Lives, scene: np.ndarray, bars: np.ndarray, size: int) -> _Showings:
    """Make two decoys of one life that passes behind a bar: one ends there, the other begins where the life comes out,
    beside its course.

    Births are as uniform as those of all others: the video's frames are paired, each with the one ``gap`` frames
    later or earlier, and a pair is drawn.
    """
    number = _PERSISTENT
    hidden, length = lives.hidden[:, number], lives.length[:, number]
    time = np.arange(hidden.shape[1])
    vanishes = hidden.argmax(1)
    returns = (~hidden & (time >= vanishes[:, None])).argmax(1)
    behind = returns - vanishes
    gap = np.where(behind < 4, *_GAPS)
    before, after = gap - behind, np.minimum(whole(scene[:, 2], 1, PIECE), length - returns)
    # The second piece ends where the life is hidden again.
    again = (hidden & (time >= returns[:, None])).argmax(1)
    after = np.where(again > 0, np.minimum(after, again - returns), after)
    usable = (scene[:, 3] < _DECOYS) & (vanishes >= before) & (after > 0) & (before <= PIECE) & hidden.any(1)
    moment = (scene[:, 4] * BIRTHS).astype(np.int64)
    birth = moment - np.where(moment % (2 * gap) >= gap, gap, 0)

    shift = np.zeros((len(scene), 2, 2))
    shift[:, 1] = _aside(lives.path[:, number], bars * (2 / size) - 1, vanishes, scene[:, 5])
    both = np.stack([before, np.maximum(after, 0)], 1)
    return _Showings(
        np.full((len(scene), 2), number), np.stack([vanishes - before, returns], 1), both * usable[:, None],
        np.stack([birth, birth + gap], 1), shift,
    )  # fmt: skip


def _aside(path: np.ndarray, bars: np.ndarray, moment: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Return float [V, 2], 5 to 12 pixels (of 64) along the bar that an object is behind: away from the frame's middle
    where there is room, else towards it. At bars objects are nearer to the middle than elsewhere, which this makes up
    for.
    """
    rows = np.arange(len(path))
    place = path[rows, moment, :2]
    low, high = bars[..., :2], bars[..., 2:]
    beside = np.maximum(np.maximum(low - place[:, None], place[:, None] - high), 0).sum(-1)
    bar = bars[rows, np.where((high > low).all(-1), beside, np.inf).argmin(1)]
    axis = np.where(bar[:, 3] - bar[:, 1] >= bar[:, 2] - bar[:, 0], 1, 0)
    way = between(uniform, 5, 12) / 32
    at = place[rows, axis]
    outward = np.where(at < 0, -way, way)
    shift = np.zeros((len(path), 2))
    shift[rows, axis] = np.where(np.abs(at + outward) <= ROOM, outward, -outward)
    return shift


def _joined(parts: list[_Showings]) -> _Showings:
    names = ("life", "start", "length", "birth", "shift")
    return _Showings(*(np.concatenate([getattr(part, name) for part in parts], 1) for name in names))


def _colours(draws: np.ndarray) -> np.ndarray:
    """Map uniform numbers [..., 3] to bright saturated colours of any hue, uint8 [..., 3]."""
    hue, saturation, value = draws[..., 0] * 6, between(draws[..., 1], 0.6, 1.0), between(draws[..., 2], 0.75, 1.0)
    ramp = np.clip(np.abs((hue[..., None] + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    colours: np.ndarray = np.rint(255 * value[..., None] * (1 - saturation[..., None] * (1 - ramp))).astype(np.uint8)
    return colours


def _assembled(config: SceneConfig, indices: np.ndarray, bars: np.ndarray, lives: _Lives, shown: _Showings) -> Scenes:
    rows = np.arange(len(indices))[:, None]
    age = np.arange(HARD_FRAMES) - shown.birth[..., None]
    alive = (age >= 0) & (age < shown.length[..., None])
    moment = np.where(alive, age + shown.start[..., None], 0)
    path = lives.path[rows[..., None], shown.life[..., None], moment]
    place = path[..., :2] + shown.shift[:, :, None]
    persistent = np.zeros(shown.life.shape, bool)
    persistent[:, :_PERSISTENT] = True
    return Scenes(
        indices=indices,
        size=config.size,
        seed=config.seed,
        centre=((place + 1) * (config.size / 2)).astype(np.float32),
        radius=disc_radius(path[..., 2], config.size).astype(np.float32),
        near=-path[..., 2].astype(np.float32),
        alive=alive,
        colour=lives.colour[rows, shown.life],
        persistent=persistent,
        motion=lives.motion[rows, shown.life],
        bars=bars,
        textured=True,
    )
