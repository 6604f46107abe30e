"""The messages between the training process and its decoding process."""

import pickle
import traceback
from dataclasses import dataclass, field

import numpy as np

from fastvid.data.loader.plan import VideoFile
from fastvid.data.source import Kind, Sample
from fastvid.data.text.conversation import Conversation
from fastvid.video import DecodeError, VideoMetadata, View


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
        conversations: those about the sample that were chosen.
        frames: numbers of the video's frames in the clip.
        whole: whether these are shown whole and not mirrored.
        empty: whether the turn has no clip, see :meth:`fastvid.data.EpochSampler.position`.
        kind: kind of the sample.
        latents: float16 [T, C, h, w] that are stored of these frames, where they were asked for.
    """

    turn: int
    key: str = ""
    label: str | None = None
    view_hash: int = 0
    repeats: bool = False
    threads: int = 0
    bad: list[tuple[str, DecodeError]] = field(default_factory=list)
    file: VideoFile | None = None
    conversations: list[Conversation] = field(default_factory=list)
    frames: tuple[int, ...] = ()
    whole: bool = False
    empty: bool = False
    kind: Kind = "video"
    latents: np.ndarray | None = None

    def tell(self, sample: Sample, view: View | None = None, info: VideoMetadata | None = None) -> None:
        """Record whose clip it is; a text alone has no view."""
        self.key, self.label, self.kind = sample.key, sample.label, sample.kind
        if view is None or info is None:
            return
        self.frames, self.whole = view.frames, view.is_whole(info)
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
