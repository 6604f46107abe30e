"""The episodes of a LeRobot data set, each camera's video of one a sample."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from fastvid.data.labels.lerobot import INFO, EpisodeVideo, read_lerobot
from fastvid.data.source import Origin, Sample
from fastvid.names import spelled
from fastvid.video import DecodeError
from fastvid.video.cut import cut

_FILES_PER_SHARD = 1024


class LeRobotSource:
    """The videos of a LeRobot data set, of version 2 or 3: a sample is what one camera saw of one episode, so that no
    clip reaches from an episode into the next.

    A sample's label is the episode's task, where it has one alone, and its caption all tasks. Where the data set names
    episodes for training and for test or validation, that is the split; otherwise the cameras of an episode stay
    together in any.

    Args:
        root: folder of the data set.
        cameras: names of the cameras that are wanted, or the ends of their names behind a dot; default: all.

    Raises:
        ValueError: as :func:`fastvid.data.labels.lerobot.read_lerobot`.
    """

    def __init__(self, root: str | Path, cameras: Sequence[str] = ()):
        self.root = Path(root)
        info = read_lerobot(self.root, cameras)
        self._videos, self._fps, self._split = info.videos, info.fps, info.split
        self.samples = [
            Sample(video.key, video.tasks[0] if len(video.tasks) == 1 else None, "; ".join(video.tasks) or None)
            for video in self._videos
        ]
        # What lies in one file is read together.
        joined = self._videos[0].span is not None
        places = (video.path if joined else str(row // _FILES_PER_SHARD) for row, video in enumerate(self._videos))
        self.shard_sizes = [len(list(rows)) for _, rows in groupby(places)]
        self._in_file: dict[str, float] = {}
        for video in self._videos:
            self._in_file[video.path] = self._in_file.get(video.path, 0) + video.frames
        episodes = len({video.episode for video in self._videos})
        said = f"{episodes} episodes of {len(info.cameras)} camera{'s' * (len(info.cameras) > 1)}"
        self.description = f"{said} ({', '.join(info.cameras)}) in the LeRobot data set {spelled(self.root)}"

    def classes(self) -> list[str]:
        return sorted({sample.label for sample in self.samples if sample.label is not None})

    def prefetch(self, current: Sequence[int], upcoming: Sequence[int]) -> None:
        """Do nothing: the files are local."""

    def size(self, index: int) -> int:
        """Return the number of bytes of a video; of one that shares a file, its share by frames."""
        video = self._videos[index]
        try:
            whole = (self.root / video.path).stat().st_size
        except OSError as error:
            raise self._unreadable(video, error) from error
        return round(whole * video.frames / self._in_file[video.path])

    def read(self, index: int) -> bytes:
        """Return a video as a file; one that shares a file is cut out of it, without decoding."""
        video, slack = self._videos[index], 0.4 / self._fps
        try:
            if video.span is None:
                return (self.root / video.path).read_bytes()
            with (self.root / video.path).open("rb") as file:
                data, frames = cut(file, *video.span, slack=slack)
        except OSError as error:
            raise self._unreadable(video, error) from error
        if frames != video.frames:
            raise DecodeError(
                "frame_count", f"{spelled(video.path)} shows {frames} frames of an episode of {video.frames}"
            )
        return data

    def origin(self, index: int) -> Origin:
        video = self._videos[index]
        origin = Origin(video.key, folder=self.root)
        if not self._split:
            return origin
        return Origin(video.key, folder=self.root, listed=INFO.as_posix(), part=video.part, unlisted=video.part is None)

    def _unreadable(self, video: EpisodeVideo, error: OSError) -> DecodeError:
        return DecodeError("read", f"{spelled(self.root / video.path)}: {error.strerror or error}")
