"""The messages between the training process and its decoding process, and the sample at each position of the order."""

import pickle
import threading
import traceback
from dataclasses import dataclass, field

from fastvid.data.loader.flips import training_view
from fastvid.data.loader.order import EpochOrder, LoaderState
from fastvid.data.source import Sample, Source, read_video
from fastvid.video import DecodeError, Limits, VideoMetadata, View, ViewSpec
from fastvid.video.decoders import GPU_DECODERS


@dataclass(frozen=True)
class Task:
    """The clips to decode.

    Clip number ``turn`` of this rank is position ``start + turn // local * batch + rank + turn % local * world`` of the
    epochs' orders laid end to end, where ``local = batch // world``.

    Attributes:
        source: where videos come from.
        spec: how views are drawn.
        batch: clips per global batch.
        world: processes that share it.
        rank: this process's place among them.
        seed: seed of the order.
        view_seed: seed of the views.
        views: views drawn of each video, over and over; None draws a new one in every epoch.
        window: shards mixed by the shuffle.
        echo: times each window is gone through before the next one.
        start: where turn 0's global batch begins.
        limits: what is refused.
        cache_bytes: bytes of decoded videos kept.
        in_a_row: bad samples in a row after which a turn is given up.
        decoder: one of :data:`fastvid.video.decoders.DECODERS`; those of the GPU leave the decoding to the parent.
        threads: threads at the beginning.
        most_threads: as many as there may become.
        no_flip: labels whose clips are never mirrored.
    """

    source: Source
    spec: ViewSpec
    batch: int
    world: int
    rank: int
    seed: int
    view_seed: int
    views: int | None
    window: int
    start: LoaderState
    limits: Limits
    cache_bytes: int
    in_a_row: int
    decoder: str
    threads: int
    most_threads: int
    no_flip: frozenset[str] = frozenset()
    echo: int = 1

    def __post_init__(self):
        if self.world < 1 or not 0 <= self.rank < self.world:
            raise ValueError(f"rank {self.rank} of {self.world} processes: ranks count from 0 to {self.world - 1}")
        if self.batch < 1 or self.batch % self.world:
            raise ValueError(f"a global batch of {self.batch} clips does not divide among {self.world} processes")
        if not len(self.source.samples):
            raise ValueError(f"there is nothing to load: {self.source.description}")
        for name, value, least in (
            ("threads", self.threads, 1), ("window", self.window, 1), ("views", self.views, 1), ("echo", self.echo, 1),
            ("seed", self.seed, 0), ("view_seed", self.view_seed, 0), ("cache_bytes", self.cache_bytes, 0),
            ("in_a_row", self.in_a_row, 1), ("state.epoch", self.start.epoch, 0),
            ("state.sample", self.start.sample, 0),
        ):  # fmt: skip
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        if self.by_device and self.cache_bytes:
            raise ValueError(
                f"decoder {self.decoder} leaves no frames in the processor's memory to keep: set cache_bytes to 0"
            )

    @property
    def local(self) -> int:
        """Return the number of this rank's clips in a global batch."""
        return self.batch // self.world

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of one uint8 clip."""
        return (self.spec.frames, self.spec.size, self.spec.size, 3)

    @property
    def by_device(self) -> bool:
        """Return whether the parent decodes the clips, in batches on its device."""
        return self.decoder in GPU_DECODERS

    @property
    def positions(self) -> int:
        """Return the number of positions of an epoch's order."""
        return self.echo * len(self.source.samples)

    @property
    def most_tries(self) -> int:
        """Return the number of consecutive positions that hold every sample at least once, wherever they begin."""
        return 2 * self.positions - 1

    def position(self, turn: int) -> LoaderState:
        """Return the position of a turn's sample in the order."""
        batches, slot = divmod(turn, self.local)
        return self.start.advance(batches * self.batch + self.rank + slot * self.world, self.positions)


@dataclass
class File:
    """A video that was read and checked, and what is wanted of it.

    Attributes:
        sample: which one it is.
        data: the whole file.
        info: its frame table.
        view: the clip that is wanted.
    """

    sample: Sample
    data: bytes
    info: VideoMetadata
    view: View


@dataclass
class Decoded:
    """A finished turn.

    Attributes:
        turn: its number.
        key: key of the sample whose clip is in the ring; empty when the turn was given up.
        label: its class.
        view_hash: :attr:`fastvid.video.View.hash`.
        repeats: whether frames repeat because the video is too short.
        threads: decoding threads when it was finished.
        bad: samples that came before it in the order and could not be used, and why: (key, error).
        file: what is to be decoded, where the parent does that.
    """

    turn: int
    key: str = ""
    label: str | None = None
    view_hash: int = 0
    repeats: bool = False
    threads: int = 0
    bad: list[tuple[str, DecodeError]] = field(default_factory=list)
    file: File | None = None

    def tell(self, sample: Sample, view: View) -> None:
        """Record whose clip it is."""
        self.key, self.label = sample.key, sample.label
        self.view_hash, self.repeats = view.hash, view.repeats_frames


@dataclass
class Failed:
    """An error that is not a sample's: it ends the run.

    Attributes:
        error: the exception, or one with its words where it cannot be sent.
        trace: its traceback.
    """

    error: BaseException
    trace: str

    @staticmethod
    def from_exception(error: BaseException) -> "Failed":
        """Return the message for an exception that is being handled."""
        trace = traceback.format_exc()
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:  # it holds a lock, say, or wants more arguments than it kept
            error = RuntimeError(f"{type(error).__name__}: {error}")
        return Failed(error, trace)


@dataclass
class Taken:
    """A message from the parent.

    Attributes:
        turns: all turns before this one have been copied out of the ring.
        waited: of a batch that was handed out, whether it had to be waited for; None when none was.
    """

    turns: int
    waited: bool | None = None


class Samples:
    """The samples at the positions of the order, and the shards that will be read next."""

    def __init__(self, task: Task):
        self._task, self._orders = task, dict[int, EpochOrder]()
        self._prefetched: tuple[int, int] | None = None
        self._lock = threading.Lock()

    def sample_at(self, position: LoaderState) -> int:
        """Return the sample's index in the source."""
        with self._lock:
            order = self._order(position.epoch)
        return order[position.sample]

    def window_of(self, position: LoaderState) -> int:
        """Return the number of a position's window, counted from the first epoch's first."""
        with self._lock:
            order = self._order(position.epoch)
        # Of most windows an epoch can have: where shards are empty, some have one less.
        windows = -(-len(self._task.source.shard_sizes) // self._task.window)
        return position.epoch * windows + order.window_of(position.sample)

    def view(self, sample: Sample, position: LoaderState, info: VideoMetadata) -> View:
        """Return the clip of a sample at a position."""
        task = self._task
        draw = position.epoch if task.views is None else position.epoch % task.views
        return training_view(task.spec, sample, task.view_seed, draw, info, task.no_flip)

    def read(self, index: int, position: LoaderState) -> File:
        """Read a sample for a position.

        Raises:
            DecodeError: it cannot be used.
        """
        sample = self._task.source.samples[index]
        data, info = read_video(self._task.source, index, self._task.limits)
        return File(sample, data, info, self.view(sample, position, info))

    def prefetch(self, position: LoaderState) -> None:
        """Tell the source about a position that is about to be read."""
        with self._lock:
            order = self._order(position.epoch)
            window = order.window_of(position.sample)
            if self._prefetched is not None and (position.epoch, window) <= self._prefetched:
                return
            self._prefetched = (position.epoch, window)
            last = window + 1 == order.windows
            then = self._order(position.epoch + 1).shards_of(0) if last else order.shards_of(window + 1)
            self._task.source.prefetch(order.shards_of(window), then)

    def _order(self, epoch: int) -> EpochOrder:
        if epoch not in self._orders:
            task = self._task
            # Threads work around an epoch's end, never further apart than that.
            self._orders = {e: o for e, o in self._orders.items() if abs(e - epoch) <= 1}
            self._orders[epoch] = EpochOrder(task.seed, epoch, task.source.shard_sizes, task.window, task.echo)
        return self._orders[epoch]
