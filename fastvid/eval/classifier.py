"""Evaluation of a video classifier on labelled videos."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from statistics import median

import numpy as np
import torch
from torch import nn

from fastvid.command import UserError
from fastvid.data import EvaluationDraws, Quarantine, Source, eval_batches
from fastvid.data.loader.decode_ahead import NO_VIEW, decode_sample
from fastvid.data.splits.split import labels_of
from fastvid.eval.classification import Classification, average_views
from fastvid.latents import LatentStore
from fastvid.latents.file import network_input
from fastvid.video import DecodeError

_WARM_UP, _TIMED = 3, 10  # forward passes


@dataclass(frozen=True)
class EvaluationData:
    """The videos that a classifier is evaluated on, and where their views come from.

    Attributes:
        source: the videos.
        draws: the views of each.
        store: features of the views; None to decode the videos each time.
        threads: for decoding.
        quarantine: where videos that do not decode go; they are not counted.
    """

    source: Source
    draws: EvaluationDraws
    store: LatentStore | None
    threads: int
    quarantine: Quarantine

    def groups(self, views: int, device: torch.device) -> Iterator[tuple[list[str], torch.Tensor]]:
        """Yield the keys of some videos and the classifier's input for all views of them, the views of a video side by
        side: clips uint8 [B * V, T, H, W, 3], or features.

        Args:
            views: most views of a group, of one video at least.
            device: where the classifier runs; the input stays in the processor's memory.
        """
        videos = max(1, views // self.draws.count)
        return self._from_video(videos, device) if self.store is None else self._from_store(self.store, videos)

    def first_clip(self) -> torch.Tensor:
        """Return the first view that can be decoded, uint8 [1, T, H, W, 3].

        Raises:
            DecodeError: there is none.
        """
        for row in range(len(self.source.samples)):
            pixels = decode_sample(self.draws, self.source, row).pixels[0]
            if pixels is not None:
                return torch.from_numpy(np.ascontiguousarray(pixels))[None]
        raise DecodeError("corrupt", f"none of the videos can be decoded: {self.source.description}")

    def _from_store(self, store: LatentStore, videos: int) -> Iterator[tuple[list[str], torch.Tensor]]:
        whole = sorted((key, hashes) for key, hashes in store.clips() if NO_VIEW not in hashes)
        rows = iter(whole)
        while group := list(islice(rows, videos)):
            keys = [key for key, hashes in group for _ in hashes]
            latents = store.read(keys, [view_hash for _, hashes in group for view_hash in hashes])
            yield [key for key, _ in group], network_input(latents, store.manifest.layer == "pooler")

    def _from_video(self, videos: int, device: torch.device) -> Iterator[tuple[list[str], torch.Tensor]]:
        for batch in eval_batches(
            self.source, range(len(self.source.samples)), self.draws, batch=videos, quarantine=self.quarantine,
            threads=self.threads, device=device,
        ):  # fmt: skip
            assert batch.clips is not None
            yield batch.keys[:: self.draws.count], batch.clips


@dataclass(frozen=True)
class Inference:
    """Options of forward passes.

    Attributes:
        device: where the model is.
        cast: makes the autocast context.
        batch: views in a forward pass.
        check: called between batches; may raise to stop.
    """

    device: torch.device
    cast: Callable[[], AbstractContextManager]
    batch: int
    check: Callable[[], None]


@dataclass(frozen=True)
class Evaluation:
    """A classifier, and what it is evaluated on.

    Attributes:
        model: from uint8 clips [B, T, H, W, 3], or from their features, to logits [B, classes].
        data: the videos.
        classes: names; a class id is a position.
        inference: how forward passes are made.
    """

    model: nn.Module
    data: EvaluationData
    classes: list[str]
    inference: Inference

    @torch.no_grad()
    def __call__(self) -> Classification:
        """Classify each video by the mean of its views' probabilities.

        Raises:
            ValueError: none of the videos can be decoded.
        """
        self.model.eval()
        labels, places = labels_of(self.data.source), {name: i for i, name in enumerate(self.classes)}
        keys: list[str] = []
        logits: list[torch.Tensor] = []
        how = self.inference
        for names, x in self.data.groups(how.batch, how.device):
            how.check()
            with how.cast():
                scores = torch.cat([self.model(part.to(how.device)).float().cpu() for part in x.split(how.batch)])
            keys += names
            logits.append(scores.unflatten(0, (len(names), self.data.draws.count)))
        if not keys:
            raise UserError(f"none of the {len(labels)} videos can be decoded: see bad_samples.jsonl")
        truth = torch.tensor([places[labels[key]] for key in keys])
        return Classification(self.classes, keys, truth, average_views(torch.cat(logits)))

    def milliseconds(self) -> float:
        """Measure the median time from one uint8 clip on the device to its logits, the whole model included."""
        clip = self.data.first_clip().to(self.inference.device)
        self.model.eval()
        times = []
        with torch.no_grad():
            for _ in range(_WARM_UP + _TIMED):
                started = time.perf_counter()
                with self.inference.cast():
                    self.model(clip)
                if self.inference.device.type == "cuda":
                    torch.cuda.synchronize(self.inference.device)
                times.append(time.perf_counter() - started)
        return 1000 * median(times[_WARM_UP:])
