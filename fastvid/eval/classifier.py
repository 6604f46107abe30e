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
from fastvid.data import Quarantine, Source
from fastvid.data.splits.split import labels_of
from fastvid.eval.classification import Classification, average_views
from fastvid.latents import LatentStore
from fastvid.latents.compute import decoded, decoded_groups
from fastvid.latents.file import NO_VIEW, network_input
from fastvid.latents.views import EvaluationDraws
from fastvid.video import DecodeError

_WARM_UP, _TIMED = 3, 10  # forward passes


@dataclass
class Evaluation:
    """Videos, and the views on which they are classified.

    Attributes:
        model: from uint8 clips [B, T, H, W, 3], or from their features, to logits [B, classes]; on ``device``.
        source: the videos.
        classes: names; a class id is a position.
        draws: the views.
        store: features of the views; None to compute them each time.
        device: where the model is.
        cast: makes the autocast context.
        batch: views in a forward pass.
        threads: for decoding.
        quarantine: where videos that do not decode go; they are not counted.
        check: called between batches; may raise to stop.
    """

    model: nn.Module
    source: Source
    classes: list[str]
    draws: EvaluationDraws
    store: LatentStore | None
    device: torch.device
    cast: Callable[[], AbstractContextManager]
    batch: int
    threads: int
    quarantine: Quarantine
    check: Callable[[], None]

    @torch.no_grad()
    def __call__(self) -> Classification:
        """Classify each video by the mean of its views' probabilities.

        Raises:
            ValueError: none of the videos can be decoded.
        """
        self.model.eval()
        labels, places = labels_of(self.source), {name: i for i, name in enumerate(self.classes)}
        keys: list[str] = []
        logits: list[torch.Tensor] = []
        groups = self._from_video() if self.store is None else self._from_store(self.store)
        for names, x in groups:
            self.check()
            with self.cast():
                scores = torch.cat([self.model(part.to(self.device)).float().cpu() for part in x.split(self.batch)])
            keys += names
            logits.append(scores.unflatten(0, (len(names), self.draws.count)))
        if not keys:
            raise UserError(f"none of the {len(labels)} videos can be decoded: see bad_samples.jsonl")
        truth = torch.tensor([places[labels[key]] for key in keys])
        return Classification(self.classes, keys, truth, average_views(torch.cat(logits)))

    def milliseconds(self) -> float:
        """Measure the median time from one uint8 clip on the device to its logits, the whole model included."""
        clip = self._one_clip().to(self.device)
        self.model.eval()
        times = []
        with torch.no_grad():
            for _ in range(_WARM_UP + _TIMED):
                started = time.perf_counter()
                with self.cast():
                    self.model(clip)
                if self.device.type == "cuda":
                    torch.cuda.synchronize(self.device)
                times.append(time.perf_counter() - started)
        return 1000 * median(times[_WARM_UP:])

    def _from_store(self, store: LatentStore) -> Iterator[tuple[list[str], torch.Tensor]]:
        whole = sorted((key, hashes) for key, hashes in store.clips() if NO_VIEW not in hashes)
        rows = iter(whole)
        while group := list(islice(rows, max(1, self.batch // self.draws.count))):
            keys = [key for key, hashes in group for _ in hashes]
            latents = store.read(keys, [view_hash for _, hashes in group for view_hash in hashes])
            yield [key for key, _ in group], network_input(latents, store.manifest.layer == "pooler")

    def _from_video(self) -> Iterator[tuple[list[str], torch.Tensor]]:
        rows, per_group = range(len(self.source.samples)), max(1, self.batch // self.draws.count)
        groups = decoded_groups(
            self.source, rows, self.draws, threads=self.threads, group=per_group, device=self.device
        )
        for group in groups:
            good = []
            for clip in group:
                if clip.errors:
                    self.quarantine.add(clip.key, next(iter(clip.errors.values())))
                else:
                    self.quarantine.good(clip.key)
                    good.append(clip)
            if good:
                pixels = np.stack([p for clip in good for p in clip.pixels if p is not None])
                yield [clip.key for clip in good], torch.from_numpy(pixels)

    def _one_clip(self) -> torch.Tensor:
        for clip in decoded(self.source, range(len(self.source.samples)), self.draws, threads=1, ahead=1):
            if clip.pixels[0] is not None:
                return torch.from_numpy(np.ascontiguousarray(clip.pixels[0]))[None]
        raise DecodeError("corrupt", f"none of the videos can be decoded: {self.source.description}")
