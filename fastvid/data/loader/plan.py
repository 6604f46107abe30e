"""The plan of a decoding process: which samples and views, and how they are decoded."""

from dataclasses import dataclass, field

import numpy as np

from fastvid.data.loader.clip_latents import clip_latents
from fastvid.data.loader.read_views import read_views
from fastvid.data.loader.ring import Ring
from fastvid.data.loader.sampler import EpochSampler
from fastvid.data.loader.views import ViewDraws
from fastvid.data.source import Sample, Source, fields_of
from fastvid.data.text.conversation import Conversation, TextChoice
from fastvid.video import Limits, VideoMetadata, View
from fastvid.video.decoders import GPU_DECODERS


@dataclass(frozen=True)
class DecodeOptions:
    """Options of decoding; none of them changes which clips there are.

    Attributes:
        decoder: ``"pyav"`` or ``"torchcodec"``, in the decoding process; ``"dali"`` or ``"torchcodec-cuda"``, of which
            that process only reads and checks the files: whole batches are then decoded on the loader's device.
        threads: decoding threads; default: half the processors this process may use, and more while training waits for
            batches.
        prefetch: batches decoded ahead.
        cache_bytes: bytes of decoded videos kept in memory from epoch to epoch.
        limits: what the decoder refuses.
    """

    decoder: str = "pyav"
    threads: int | None = None
    prefetch: int = 2
    cache_bytes: int = 0
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self):
        for name, value, least in (("threads", self.threads, 1), ("cache_bytes", self.cache_bytes, 0)):
            if value is not None and value < least:
                raise ValueError(f"{name} must be at least {least}; got {value}")
        if self.by_device and self.cache_bytes:
            raise ValueError(
                f"decoder {self.decoder} leaves no frames in the processor's memory to keep: set cache_bytes to 0"
            )

    @property
    def by_device(self) -> bool:
        """Return whether the training process decodes the clips, in batches on its device."""
        return self.decoder in GPU_DECODERS


@dataclass(frozen=True)
class DecodePlan:
    """All that a decoding process has to know.

    Attributes:
        source: where videos come from.
        draws: the views of each epoch.
        sampler: which sample each turn is.
        options: how they are decoded.
        threads: threads at the beginning.
        most_threads: as many as there may become.
        in_a_row: bad samples in a row after which a turn is given up.
        text: which of the conversations about a sample are taken; None reads no text.
    """

    source: Source
    draws: ViewDraws
    sampler: EpochSampler
    options: DecodeOptions
    threads: int
    most_threads: int
    in_a_row: int
    text: TextChoice | None = None

    def __post_init__(self):
        if not len(self.source.samples):
            raise ValueError(f"there is nothing to load: {self.source.description}")
        if self.sampler.samples != len(self.source.samples):
            raise ValueError(
                f"the sampler is of {self.sampler.samples} samples and the source has {len(self.source.samples)}: make "
                "it from source.shard_sizes"
            )
        if type(self.draws).transform is not ViewDraws.transform:
            raise ValueError(
                f"{type(self.draws).__name__} changes the pixels of views, which the decoding process does not do: "
                "load with ViewDraws, and change the pixels of the batch"
            )
        if self.options.by_device and self.text is not None and self.text.latents:
            raise ValueError(f"stored latents are not read with decoder {self.options.decoder}: take pyav")
        if self.in_a_row < 1:
            raise ValueError(f"in_a_row must be at least 1; got {self.in_a_row}")

    @property
    def clip_shape(self) -> tuple[int, int, int, int]:
        """Return the shape of one uint8 clip."""
        spec = self.draws.spec
        return (spec.frames, spec.size, spec.size, 3)

    @property
    def slot_frames(self) -> list[int]:
        """Return the most frames that each of this process's clips of a batch can have."""
        return self.sampler.slot_frames or [self.draws.spec.frames] * self.sampler.local

    def ring(self, slots: int, descriptor: int | None = None) -> Ring:
        """Return the memory for ``slots`` clips that are decoded ahead; see :class:`fastvid.data.loader.ring.Ring`."""
        return Ring(slots, self.clip_shape, descriptor, self.sampler.slot_frames)

    @property
    def most_tries(self) -> int:
        """Return the number of consecutive positions that hold every sample at least once, wherever they begin."""
        return 2 * len(self.sampler) - 1

    def read(self, index: int, epoch: int, frames: int | None = None) -> "VideoFile":
        """Read a sample for an epoch.

        Args:
            index: which one.
            epoch: how often it was shown before.
            frames: of the clip; default: those of the views.

        Raises:
            DecodeError: it cannot be used.
        """
        sample = self.source.samples[index]
        # The cache keeps all frames, and a device's decoder takes whole files.
        whole = self.options.by_device or self.options.cache_bytes > 0
        data, info, (view,) = read_views(
            self.source, index, self.options.limits, lambda info: [self.view(sample, epoch, info, frames)], whole
        )
        return VideoFile(sample, data, info, view)

    def view(self, sample: Sample, epoch: int, info: VideoMetadata, frames: int | None = None) -> View:
        """Return the view of a sample for an epoch, of ``frames`` frames where that is given."""
        draws = self.draws if frames is None else self.draws.with_frames(frames)
        return draws.view(sample, epoch, info)

    def conversations(self, index: int, epoch: int) -> list[Conversation]:
        """Read what is written about a sample and choose for an epoch; nothing where no text is read.

        Raises:
            DecodeError: it cannot be used.
        """
        if self.text is None:
            return []
        sample = self.source.samples[index]
        return self.text.take(fields_of(self.source, index), sample.caption, sample.key, epoch)

    def latents(self, index: int, view: View, info: VideoMetadata) -> np.ndarray | None:
        """Read the stored latents of a sample's frames, float16 [T, C, h, w]; None where they are not wanted.

        Args:
            index: which sample.
            view: its frames, and what is shown of them.
            info: its frame table.

        Raises:
            DecodeError: there are none, or they are not of this clip.
        """
        if self.text is None or not self.text.latents:
            return None
        return clip_latents(self.source, index, view.frames, info.frames, view.is_whole(info))


@dataclass
class VideoFile:
    """A video that was read and checked, and what is wanted of it.

    Attributes:
        sample: which one it is.
        data: the whole file, or the frames of it that are wanted.
        info: its frame table.
        view: the clip that is wanted.
    """

    sample: Sample
    data: bytes
    info: VideoMetadata
    view: View
