"""Decoding of batches on a device, from files that the decoding process has read and checked."""

import torch

from fastvid.data.bad_samples import Quarantine
from fastvid.data.loader.messages import Decoded
from fastvid.data.loader.plan import DecodePlan, VideoFile
from fastvid.video import DecodeError
from fastvid.video.batch_decode import decode_views


class DeviceDecoder:
    """Decoder of whole batches; the next good sample in order replaces one that does not decode.

    Args:
        plan: clips to decode, and the decoder.
        quarantine: where bad samples go.
        device: where clips are decoded and stay.
    """

    def __init__(self, plan: DecodePlan, quarantine: Quarantine, device: torch.device):
        self._plan, self._quarantine, self._device = plan, quarantine, device

    def clips(self, made: list[Decoded]) -> torch.Tensor:
        """Decode the files that were read to uint8 [B, T, H, W, 3], and record their samples in ``made``. The clip of
        an empty turn is black.
        """
        turns = [one for one in made if one.file is not None]
        files = [one.file for one in turns if one.file is not None]
        if not files:  # where a batch has less clips than there are processes
            T, *image = self._plan.clip_shape
            frames = self._plan.sampler.frames(made[0].turn)
            shape = (len(made), T if frames is None else frames, *image)
            return torch.zeros(shape, dtype=torch.uint8, device=self._device)
        clips, errors = self._decode(files)
        for slot, (one, file, error) in enumerate(zip(turns, files, errors, strict=True)):
            while error is not None:
                one.bad.append((file.sample.key, error))
                file = self._next_good(one)
                clip, (error,) = self._decode([file])
                clips[slot] = clip[0]
            one.tell(file.sample, file.view, file.info)
            one.file = None
        if len(turns) == len(made):
            return clips
        every = clips.new_zeros((len(made), *clips.shape[1:]))
        every[[slot for slot, one in enumerate(made) if not one.empty]] = clips
        return every

    def _decode(self, files: list[VideoFile]) -> tuple[torch.Tensor, list[DecodeError | None]]:
        return decode_views(
            [file.data for file in files],
            [file.view for file in files],
            [file.info for file in files],
            decoder=self._plan.options.decoder,
            device=self._device,
        )

    def _next_good(self, one: Decoded) -> VideoFile:
        """Return the first readable sample after the bad ones of a turn."""
        plan, sampler = self._plan, self._plan.sampler
        while True:
            self._quarantine.add_row(one.bad)
            if len(one.bad) >= plan.most_tries:
                self._quarantine.give_up(one.bad, len(plan.source.samples))
            position = sampler.position(one.turn)
            assert position is not None  # or there would have been no file
            index, epoch = sampler.sample(sampler.advance(position, len(one.bad)))
            try:
                one.conversations = plan.conversations(index, epoch)
                return plan.read(index, epoch, sampler.frames(one.turn))
            except DecodeError as error:
                one.bad.append((plan.source.samples[index].key, error))
