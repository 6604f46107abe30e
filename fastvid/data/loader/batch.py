"""The batch that every loader yields."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from fastvid.data.text.rows import ClipText


@dataclass
class Latents:
    """Latents of B clips, as they are stored.

    Attributes:
        values: [B, K, D] float16, bfloat16 or int8.
        scale: float16 [B, K] for int8 values: token k is ``values[b, k] * scale[b, k]``.
        tokens: int64 [B, K], ascending: which tokens of the grid these are; None for all, in order.
    """

    values: torch.Tensor
    scale: torch.Tensor | None = None
    tokens: torch.Tensor | None = None

    @property
    def parts(self) -> list[torch.Tensor]:
        """Return the tensors that are present."""
        return [part for part in (self.values, self.scale, self.tokens) if part is not None]

    def rows(self, which: slice | torch.Tensor) -> "Latents":
        """Return the latents of some of the clips."""
        scale, tokens = (None if part is None else part[which] for part in (self.scale, self.tokens))
        return Latents(self.values[which], scale, tokens)

    def to(self, device: torch.device) -> "Latents":
        """Move the latents to a device."""
        ahead = device.type == "cuda"  # the other way nobody would know when they have arrived
        scale = None if self.scale is None else self.scale.to(device, non_blocking=ahead)
        tokens = None if self.tokens is None else self.tokens.to(device, non_blocking=ahead)
        return Latents(self.values.to(device, non_blocking=ahead), scale, tokens)

    def float(self) -> torch.Tensor:
        """Return dequantised float32 [B, K, D]."""
        values = self.values.float()
        return values if self.scale is None else values * self.scale.float().unsqueeze(-1)


@dataclass(kw_only=True)
class Batch:
    """B clips, or what is known of them. A loader fills in what it has; a loss reads what it needs.

    Attributes:
        keys: keys of the samples.
        ids: int64 [B], :func:`fastvid.random.sample_id` of each key.
        view_hashes: int64 [B] in the processor's memory, :attr:`fastvid.video.View.hash`.
        clips: uint8 [B, T, H, W, 3]; None where no video was opened.
        latents: what a frozen model saw in these views; None where that is not known.
        labels: classes of the samples, None where there is none.
        substitutes: per clip, whether it stands in for a bad sample.
        repeats: per clip, whether it repeats frames because the video has fewer than the clip wants.
        windows: windows of the shuffle that the first and the last clip of the global batch are of, counted from the
            first epoch's first.
        text: what is written about each clip, where a loader reads that.
        extra: further tensors of a project's own loader, such as ``{"tokens": ...}``, on the device.
    """

    keys: list[str]
    ids: torch.Tensor
    view_hashes: torch.Tensor
    clips: torch.Tensor | None = None
    latents: Latents | None = None
    labels: list[str | None] = field(default_factory=list)
    substitutes: list[bool] = field(default_factory=list)
    repeats: list[bool] = field(default_factory=list)
    windows: tuple[int, int] = (0, 0)
    extra: dict[str, torch.Tensor] = field(default_factory=dict)
    text: list[ClipText] = field(default_factory=list)

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Tell the allocator that ``stream`` uses the tensors, which another stream made."""
        parts = [] if self.latents is None else self.latents.parts
        for tensor in (self.clips, self.ids, *parts, *self.extra.values()):
            if tensor is not None and tensor.is_cuda:
                tensor.record_stream(stream)


def stacked_latents(found: Sequence[np.ndarray | None]) -> dict[str, torch.Tensor]:
    """Return the latents of the clips of a batch as ``latents``, float16 [B, T, C, h, w]: zeros for clips that have
    none; nothing where no clip has any.

    Raises:
        ValueError: they differ in their sizes.
    """
    like = next((one for one in found if one is not None), None)
    if like is None:
        return {}
    sizes = {one.shape for one in found if one is not None}
    if len(sizes) > 1:
        raise ValueError(f"the stored latents of a batch differ in their sizes: {sorted(sizes)}")
    return {"latents": torch.from_numpy(np.stack([np.zeros_like(like) if one is None else one for one in found]))}
