"""Fine-tuning of a frozen V-JEPA 2 as published with ZacCarrico/vjepa2, re-stated literally in plain PyTorch.

A data set that opens decoders, a collate function that decodes, no workers; one clip in a micro-batch, in float32, all
of it through the frozen encoder in every epoch; gradients of four micro-batches for an update, those left over at the
end dropped; ``train()`` on the whole model. Two departures, both of which spare this side time: PyAV decodes in the
place of torchcodec (in one thread, as torchcodec does; the frames wanted are the only ones converted to RGB), and
accuracy is not measured.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import v2
from transformers import VJEPA2VideoProcessor

ACCUMULATE = 4
FRAMES_BETWEEN = 3  # torchcodec's num_indices_between_frames


class Videos(Dataset):
    """(an open decoder, class id) of each video.

    Args:
        files: (path, class id).
    """

    def __init__(self, files: Sequence[tuple[Path, int]]):
        self.files = files

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[av.container.InputContainer, int]:
        path, label = self.files[index]
        return av.open(str(path)), label


def random_clip(decoder: av.container.InputContainer, frames: int) -> torch.Tensor:
    """Decode uint8 [frames, 3, H, W], every FRAMES_BETWEEN-th frame from a random start, from the key frame before."""
    stream = decoder.streams.video[0]
    start = random.randint(0, max(0, stream.frames - (frames - 1) * FRAMES_BETWEEN - 1))
    rate, unit = stream.average_rate, stream.time_base
    assert rate is not None
    assert unit is not None
    wanted = [start + FRAMES_BETWEEN * k for k in range(frames)]
    decoder.seek(round(start / rate / unit), stream=stream)
    pictures: list[np.ndarray] = []
    for frame in decoder.decode(stream):
        assert frame.pts is not None
        if round(frame.pts * unit * rate) == wanted[len(pictures)]:
            pictures.append(frame.to_ndarray(format="rgb24"))
            if len(pictures) == frames:
                break
    decoder.close()
    return torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)


@dataclass
class Spent:
    """The seconds of an epoch, by activity.

    Attributes:
        decode: decoding.
        pixels: random crops, the processor, the way to the device.
        frozen: the encoder's forward pass.
        whole: everything.
    """

    decode: float = 0.0
    pixels: float = 0.0
    frozen: float = 0.0
    whole: float = 0.0
    _encoder_began: float = field(default=0.0, repr=False)


class PublishedLoop:
    """The published training of one model.

    Args:
        model: transformers' classifier, or peft's model around it; its parameters that train are trained.
        files: (path, class id) of each video.
        frames: number of frames of a clip.
        size: side of a clip, pixels.
        device: where the model is.
    """

    def __init__(self, model: nn.Module, files: Sequence[tuple[Path, int]], frames: int, size: int, device):
        self.model, self.device, self.frames = model, torch.device(device), frames
        self.spent = Spent()
        self.transforms = v2.Compose([v2.RandomResizedCrop((size, size)), v2.RandomHorizontalFlip()])
        edge = size * 256 // 224  # as the processor of the checkpoints has it: 292 for 256
        self.processor = VJEPA2VideoProcessor(size={"shortest_edge": edge}, crop_size={"height": size, "width": size})  # type: ignore[call-arg]
        self.loader = DataLoader(Videos(files), batch_size=1, shuffle=True, num_workers=0, collate_fn=self._collate)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trained, lr=2e-4, weight_decay=0.01)
        encoder = next(m for name, m in model.named_modules() if name.endswith("vjepa2.encoder"))
        encoder.register_forward_pre_hook(self._encoder_begins)
        encoder.register_forward_hook(self._encoder_ends)

    def epoch(self) -> Spent:
        """Train on each video once."""
        self.spent = Spent()
        began = self._now()
        self.model.train()
        for micro, (videos, labels) in enumerate(self.loader, start=1):
            before = self._now()
            inputs = self.processor(list(videos), return_tensors="pt").to(self.device)
            self.spent.pixels += self._now() - before
            loss = self.model(pixel_values_videos=inputs["pixel_values_videos"], labels=labels.to(self.device)).loss
            (loss / ACCUMULATE).backward()
            if micro % ACCUMULATE == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()
        self.optimizer.zero_grad()
        self.spent.whole = self._now() - began
        return self.spent

    def _collate(self, samples: list[tuple[Any, int]]) -> tuple[torch.Tensor, torch.Tensor]:
        """Collate decoders and class ids to videos uint8 [B, T, 3, H, W] and class ids int64 [B]."""
        before = time.perf_counter()
        clips = [random_clip(decoder, self.frames) for decoder, _ in samples]
        between = time.perf_counter()
        videos = torch.stack([self.transforms(clip) for clip in clips])
        self.spent.decode += between - before
        self.spent.pixels += time.perf_counter() - between
        return videos, torch.tensor([label for _, label in samples])

    def _encoder_begins(self, *_) -> None:
        self.spent._encoder_began = self._now()

    def _encoder_ends(self, *_) -> None:
        self.spent.frozen += self._now() - self.spent._encoder_began

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()
