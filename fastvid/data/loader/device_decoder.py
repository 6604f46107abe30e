"""Decoding of batches on a device, from files that the decoding process has read and checked."""

import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.loader.messages import Decoded, File, Samples, Task
from fastvid.video import DecodeError
from fastvid.video.batch_decode import decode_views


class DeviceDecoder:
    """Decoder of whole batches; the next good sample in order replaces one that does not decode.

    Args:
        task: clips to decode, and the decoder.
        quarantine: where bad samples go.
        device: where clips are decoded and stay.
    """

    def __init__(self, task: Task, quarantine: Quarantine, device: torch.device):
        self._task, self._quarantine, self._device = task, quarantine, device
        self._samples = Samples(task)

    def clips(self, made: list[Decoded]) -> torch.Tensor:
        """Decode the files that were read to uint8 [B, T, H, W, 3], and record their samples in ``made``."""
        files = [one.file for one in made if one.file is not None]
        clips, errors = self._decode(files)
        for slot, (one, file, error) in enumerate(zip(made, files, errors, strict=True)):
            while error is not None:
                one.bad.append((file.sample.key, error))
                file = self._next_good(one)
                clip, (error,) = self._decode([file])
                clips[slot] = clip[0]
            one.tell(file.sample, file.view)
            one.file = None
        return clips

    def _decode(self, files: list[File]) -> tuple[torch.Tensor, list[DecodeError | None]]:
        return decode_views(
            [file.data for file in files],
            [file.view for file in files],
            [file.info for file in files],
            decoder=self._task.decoder,
            device=self._device,
        )

    def _next_good(self, one: Decoded) -> File:
        """Return the first readable sample after the bad ones of a turn."""
        samples = self._task.source.samples
        while True:
            self._quarantine.add_row(one.bad)
            if len(one.bad) >= self._task.most_tries:
                self._quarantine.give_up(one.bad, len(samples))
            position = self._task.position(one.turn).advance(len(one.bad), self._task.positions)
            index = self._samples.sample_at(position)
            try:
                return self._samples.read(index, position)
            except DecodeError as error:
                one.bad.append((samples[index].key, error))
