"""Padded batches of ragged tokens, in an order and with draws that two integers resume."""

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from fastvid.data import Batch, EpochOrder, LoaderState
from fastvid.projects.trajectory.tokens import TokenSet
from fastvid.projects.trajectory.track_table import TrackTable
from fastvid.random import philox4x32, split64

_STREAM_CODES, _STREAM_PREFIX, _STREAM_CURRICULUM = 11, 12, 14  # Philox streams
CODE_BITS = 32
GEOMETRY = 7  # centre, size, velocity, time


@dataclass(kw_only=True)
class TokenBatch:
    """The objects of B videos, padded to the L tokens and M tracks of the largest.

    Attributes:
        features: float32 [B, L, D].
        geometry: float32 [B, L, 7]: the box's centre, the logarithms of its sides, its velocity, and the time.
        codes: float32 [B, L, 32] of -1 and 1: a random code for each track, so that tokens of one can be told to be.
        frame: int64 [B, L].
        track: int64 [B, L].
        valid: bool [B, L], False for padding.
        persistent: bool [B, L], kind of the token's track.
        kinds: bool [B, M], kind of each track.
        present: bool [B, M], whether the track has a token here.
        lengths: float32 [B, M], tokens of the track over the video's frames.
        target: int64 [B], class of each video.
        rows: int64 [n], where the tokens are in the set.
        where: int64 [n], where they are in the flattened [B, L].
    """

    features: torch.Tensor
    geometry: torch.Tensor
    codes: torch.Tensor
    frame: torch.Tensor
    track: torch.Tensor
    valid: torch.Tensor
    persistent: torch.Tensor
    kinds: torch.Tensor
    present: torch.Tensor
    lengths: torch.Tensor
    target: torch.Tensor
    rows: torch.Tensor
    where: torch.Tensor


def targets_of(tokens: TokenSet, task: str) -> np.ndarray:
    """Return the class of each video for a task, ``motion`` or ``noise``, int64 [V]."""
    return tokens.motion if task == "motion" else tokens.noise


def pad(
    tokens: TokenSet,
    videos: Sequence[int] | np.ndarray,
    task: str,
    *,
    keep: np.ndarray | None = None,
    seed: int = 0,
    draws: np.ndarray | int = 0,
    device: torch.device | str = "cpu",
) -> TokenBatch:
    """Make a batch of some videos.

    Args:
        tokens: of all videos.
        videos: which of them, B.
        task: ``motion`` or ``noise``.
        keep: bool [N], tokens to use; default: all. A video may be left without any.
        seed: seed of the tracks' codes.
        draws: draw of the codes, one for all or int [B].
        device: where the tensors are put.
    """
    videos = np.asarray(videos, dtype=np.int64)
    counts = tokens.counts[videos]
    row, rows = np.repeat(np.arange(len(videos)), counts), tokens.rows(videos)
    if keep is not None:
        row, rows = row[keep[rows]], rows[keep[rows]]
        counts = np.bincount(row, minlength=len(videos))
    longest = max(1, int(counts.max(initial=0)))
    where = row * longest + np.arange(len(row)) - (np.cumsum(counts) - counts)[row]
    shape = (len(videos), longest)
    track = tokens.track[rows].astype(np.int64)
    ids = tokens.ids[videos]
    draws = np.broadcast_to(np.asarray(draws, dtype=np.int64), len(videos))
    words = philox4x32(((_STREAM_CODES << 28) + track, draws[row], *split64(ids[row])), split64(seed))[0]
    codes = ((words[:, None] >> np.arange(CODE_BITS)) & 1) * 2.0 - 1.0
    boxes = tokens.boxes[rows]
    time = (tokens.frame[rows] / max(1, tokens.frames - 1))[:, None]
    centre, size = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    # Each about as large as one: a tenth of the frame is a common size, and a change of it by a tenth is to be seen.
    scale = 4 * np.log(np.maximum(size, 1e-3) / 0.1)
    geometry = np.concatenate([2 * centre - 1, scale, tokens.frames * tokens.velocity[rows], 2 * time - 1], 1)

    def padded(values: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
        out = torch.zeros((shape[0] * shape[1], *values.shape[1:]), dtype=dtype)
        out[torch.from_numpy(where)] = torch.from_numpy(np.ascontiguousarray(values)).to(dtype)
        rows: torch.Tensor = out.unflatten(0, shape)
        return rows

    most = int(track.max(initial=0)) + 1
    kinds, tracks = np.zeros((len(videos), most), dtype=bool), np.zeros((len(videos), most), dtype=np.float32)
    kinds[row, track] = tokens.persistent[rows]
    np.add.at(tracks, (row, track), 1.0)
    found = TokenBatch(
        features=padded(tokens.features[rows], torch.float32), geometry=padded(geometry, torch.float32),
        codes=padded(codes, torch.float32), frame=padded(tokens.frame[rows].astype(np.int64), torch.int64),
        track=padded(track, torch.int64), valid=padded(np.ones(len(rows), dtype=bool), torch.bool),
        persistent=padded(tokens.persistent[rows], torch.bool), kinds=torch.from_numpy(kinds),
        present=torch.from_numpy(tracks > 0), lengths=torch.from_numpy(tracks / tokens.frames),
        target=torch.from_numpy(targets_of(tokens, task)[videos]), rows=torch.from_numpy(rows),
        where=torch.from_numpy(where),
    )  # fmt: skip
    return TokenBatch(**{name: value.to(device) for name, value in vars(found).items()})


@dataclass(frozen=True)
class Draws:
    """The randomness of a training batch, all of it a function of (seed, video, epoch).

    Attributes:
        seed: of the codes, the prefixes and the curriculum.
        prefix: share of the videos of which only the first k frames are shown, k uniform.
        curriculum: epochs over which the share of transient tracks that are shown grows to all of them.
    """

    seed: int
    prefix: float = 0.0
    curriculum: int = 0

    def keep(self, tokens: TokenSet, videos: np.ndarray, epochs: np.ndarray) -> np.ndarray:
        """Return which tokens these videos show in these epochs, bool [N]; False for those of other videos."""
        keep = np.zeros(len(tokens.frame), dtype=bool)
        key = split64(self.seed)
        for v, epoch in zip(videos.tolist(), epochs.tolist(), strict=True):
            span = slice(int(tokens.offsets[v]), int(tokens.offsets[v + 1]))
            frame, track = tokens.frame[span].astype(np.int64), tokens.track[span].astype(np.int64)
            ident = split64(int(tokens.ids[v]))
            shown = np.ones(len(frame), dtype=bool)
            if epoch < self.curriculum:
                words = philox4x32(((_STREAM_CURRICULUM << 28) + track, epoch, *ident), key)[0]
                shown &= tokens.persistent[span] | (words < (epoch + 1) / (self.curriculum + 1) * 2**32)
            whether, which, _, _ = philox4x32((_STREAM_PREFIX << 28, epoch, *ident), key)
            if whether < self.prefix * 2**32 and shown.any():
                first = int(frame[shown].min())  # at least one token is shown
                shown &= frame <= first + which * (tokens.frames - first) // 2**32
            keep[span] = shown
        return keep


class TokenLoader:
    """An endless stream of batches of tokens, in a global order that depends on nothing but the seed.

    Args:
        tokens: of all training videos.
        task: ``motion`` or ``noise``.
        draws: what is random.
        batch: videos in a global batch; a multiple of ``world``.
        state: where to begin.
        rank: this process's place among ``world``.
        world: processes that share the global batches.
        device: where the tensors are put.
    """

    def __init__(
        self,
        tokens: TokenSet,
        task: str,
        draws: Draws,
        *,
        batch: int,
        state: LoaderState | None = None,
        rank: int = 0,
        world: int = 1,
        device: torch.device | str = "cpu",
    ):
        self.state = state or LoaderState()
        self._tokens, self._task, self._draws, self._batch = tokens, task, draws, batch
        self._rank, self._world, self._device = rank, world, device
        self._order: tuple[int, np.ndarray] | None = None

    @property
    def description(self) -> str:
        """Return a description for the log."""
        count = len(self._tokens.keys)
        return f"{count} videos of {len(self._tokens.frame) / max(1, count):.1f} tokens on average"

    @property
    def clips_shown(self) -> int:
        """Return the videos handed out since the order began, by all processes together."""
        return self.state.epoch * len(self._tokens.keys) + self.state.sample

    def worker_bytes(self) -> int:
        """Return 0: nothing is decoded."""
        return 0

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        count = len(self._tokens.keys)
        places = [self.state.advance(slot, count) for slot in range(self._rank, self._batch, self._world)]
        epochs = np.array([place.epoch for place in places])
        videos = np.array([self._whole(place.epoch)[place.sample] for place in places])
        self.state = self.state.advance(self._batch, count)
        # A batch that ends one epoch and begins the next may hold a video twice, shown otherwise each time.
        tokens = self._tokens.subset(videos)
        own = np.arange(len(videos))
        keep = self._draws.keep(tokens, own, epochs)
        found = pad(tokens, own, self._task, keep=keep, seed=self._draws.seed, draws=epochs, device=self._device)
        ids = torch.from_numpy(tokens.ids)
        return Batch(keys=tokens.keys, ids=ids, view_hashes=ids, extra=vars(found))

    def __enter__(self) -> "TokenLoader":
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def _whole(self, epoch: int) -> np.ndarray:
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, EpochOrder(self._draws.seed, epoch, [len(self._tokens.keys)]).whole()
        return self._order[1]


def shuffle_labels(tokens: TokenSet, task: str, seed: int) -> TokenSet:
    """Return the same tokens with labels that say nothing: of whole tracks, and of videos.

    Labels are shuffled so that each true class receives the same shares of shuffled labels. With a plain permutation
    the classes that are easily told apart would keep a small excess of one label, which a network finds; its accuracy
    would be anything between 0 and 1.
    """
    random = np.random.Generator(np.random.Philox(seed))
    table = TrackTable.from_tokens(tokens)
    kinds = _balanced_shuffle(table.persistent.astype(np.int64), random).astype(bool)
    targets = _balanced_shuffle(targets_of(tokens, task), random)
    shuffled = dataclasses.replace(tokens, persistent=kinds[table.row])
    if task == "motion":
        return dataclasses.replace(shuffled, motion=targets)
    return dataclasses.replace(shuffled, noise=targets)


def _balanced_shuffle(labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Deal out labels so that those of each class get all labels in the shares of the whole, but for rounding."""
    shuffled = np.empty_like(labels)
    shares = np.sort(labels)
    for value in np.unique(labels):
        members = np.flatnonzero(labels == value)
        at = ((np.arange(len(members)) + 0.5) / len(members) * len(labels)).astype(np.int64)
        shuffled[members] = random.permutation(shares[at])
    return shuffled
