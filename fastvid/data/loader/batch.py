"""The batches that a loader yields."""

from dataclasses import dataclass

import torch


@dataclass(kw_only=True)
class BatchInfo:
    """The ids, keys and labels of the B clips of a batch.

    Attributes:
        ids: int64 [B], :func:`fastvid.random.sample_id` of each key.
        view_hashes: int64 [B], :attr:`fastvid.video.View.hash`.
        keys: the samples' keys.
        labels: the samples' labels, None where there is none.
        substitutes: per clip, whether it stands in for a bad sample.
        repeats: per clip, whether it repeats frames because the video has fewer than the clip wants.
    """

    ids: torch.Tensor
    view_hashes: torch.Tensor
    keys: list[str]
    labels: list[str | None]
    substitutes: list[bool]
    repeats: list[bool]


@dataclass(kw_only=True)
class Batch(BatchInfo):
    """Clips and their ids.

    Attributes:
        clips: uint8 [B, T, H, W, 3].
    """

    clips: torch.Tensor
