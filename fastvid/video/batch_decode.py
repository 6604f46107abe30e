"""Batches of views decoded on a GPU, from bytes to uint8 clips on the device."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from fastvid.video.decoders import CPU_DECODERS, GPU_DECODERS, require
from fastvid.video.decoders.frames import DecodedFrames
from fastvid.video.errors import DecodeError
from fastvid.video.probe import VideoMetadata
from fastvid.video.view import View

if TYPE_CHECKING:
    import torch

# Decoded frames at native size that exist at once; a large batch of large videos is decoded in parts.
_NATIVE_BYTES = 1 << 30
# Frames resized at once: their float32 copies are four times as large.
_FRAMES_AT_ONCE = 8


def decode_views(
    videos: Sequence[bytes],
    views: Sequence[View],
    infos: Sequence[VideoMetadata],
    *,
    decoder: str,
    device: "torch.device | str" = "cuda",
) -> "tuple[torch.Tensor, list[DecodeError | None]]":
    """Decode one view of each video of a batch on a device.

    Frames are those of :func:`fastvid.video.decode_view`, by the same frame table; pixels come close to its (what was
    measured is in docs/decoders.md). A video that cannot be used takes none of the others with it: its row is zero, and
    its error is in the list.

    Args:
        videos: the files, B of them.
        views: a view of each, all with the same number of frames and the same size.
        infos: the :func:`fastvid.video.probe` of each.
        decoder: ``"dali"`` or ``"torchcodec-cuda"``.
        device: where to decode and where the clips end up. DALI decodes VP8 and VP9 on ``"cpu"`` too.

    Returns:
        (uint8 [B, frames, size, size, 3] on ``device``, per video None or its DecodeError).

    Raises:
        ValueError: no such decoder or device, or views of different sizes.
        DecoderUnavailable: the decoder cannot run here.
        RuntimeError: the device failed, or has no memory left.
    """
    import torch

    device = torch.device(device)
    _check(videos, views, infos, decoder, device)
    size, count = views[0].size, len(views[0].frames)
    clips = torch.zeros((len(views), count, size, size, 3), dtype=torch.uint8, device=device)
    errors: list[DecodeError | None] = [None] * len(views)
    for part in _parts(views, infos):
        wanted = [sorted(set(views[i].frames)) for i in part]
        decoded = _decode([videos[i] for i in part], wanted, [infos[i] for i in part], decoder, device)
        for i, indices, frames in zip(part, wanted, decoded, strict=True):
            if isinstance(frames, DecodeError):
                errors[i] = frames
            else:
                _cut(frames, np.searchsorted(indices, views[i].frames), views[i], out=clips[i])
        if device.type == "cuda":  # DALI may give the frames' memory to the next part, on a stream of its own
            torch.cuda.current_stream(device).synchronize()
    return clips, errors


def _check(videos, views, infos, decoder: str, device: "torch.device") -> None:
    if decoder in CPU_DECODERS:
        raise ValueError(f"decoder {decoder!r} decodes on the CPU, with decode_view; here: {' or '.join(GPU_DECODERS)}")
    if not len(videos) == len(views) == len(infos) or not videos:
        raise ValueError(f"{len(videos)} videos, {len(views)} views, {len(infos)} infos: need as many of each")
    if len({(view.size, len(view.frames)) for view in views}) > 1:
        raise ValueError("the views of a batch must have the same number of frames and the same size")
    if device.type != "cuda" and not (decoder == "dali" and device.type == "cpu"):
        raise ValueError(f"decoder {decoder!r} does not decode on {device}; use a CUDA device")
    require(decoder, device.type)


def _parts(views: Sequence[View], infos: Sequence[VideoMetadata]) -> list[list[int]]:
    """Split the rows into consecutive parts that each stay below ``_NATIVE_BYTES``, with at least one row each."""
    parts: list[list[int]] = []
    held = 0
    for i, (view, info) in enumerate(zip(views, infos, strict=True)):
        need = len(set(view.frames)) * info.width * info.height * 3
        if not parts or held + need > _NATIVE_BYTES:
            parts.append([])
            held = 0
        parts[-1].append(i)
        held += need
    return parts


def _decode(
    videos: list[bytes], wanted: list[list[int]], infos: list[VideoMetadata], decoder: str, device: "torch.device"
) -> list[DecodedFrames | DecodeError]:
    """Decode the frames of each video, or return the reason why there are none."""
    if decoder == "dali":
        from fastvid.video.decoders.dali import decode_batch

        return decode_batch(videos, wanted, infos, device)
    from fastvid.video.decoders.torchcodec import decode_on_gpu

    out: list[DecodedFrames | DecodeError] = []
    for data, indices, info in zip(videos, wanted, infos, strict=True):
        try:
            out.append(DecodedFrames(decode_on_gpu(data, indices, info, device)))
        except DecodeError as error:
            out.append(error)
    return out


def _cut(frames: DecodedFrames, rows: np.ndarray, view: View, out: "torch.Tensor") -> None:
    """Crop, resize and mirror frames into ``out``, uint8 [len(rows), size, size, 3].

    The filter is that of :func:`fastvid.video.resize.crop_resize`; Pillow rounds between its two passes and this does
    not, which moves a value by one grey level at most.
    """
    import torch
    from torch.nn.functional import interpolate

    top, left, height, width = view.box
    cut = frames.pixels[:, top : top + height, left : left + width]
    if tuple(cut.shape[1:3]) != (height, width):
        raise ValueError(f"crop box {view.box} does not lie inside a frame of {tuple(frames.pixels.shape[1:3])}")
    for first in range(0, len(rows), _FRAMES_AT_ONCE):
        some = slice(first, first + _FRAMES_AT_ONCE)
        image = cut[torch.from_numpy(rows[some]).to(cut.device)].permute(0, 3, 1, 2)
        if (height, width) != (view.size, view.size):
            image = interpolate(image.float(), (view.size, view.size), mode="bilinear", antialias=True)
        if frames.to_rgb is not None:  # after the resize, where there are fewer pixels; both are linear
            image = torch.einsum("rc,nchw->nrhw", frames.to_rgb, image.float())
        if image.is_floating_point():
            image = image.round().clamp(0, 255)
        out[some] = (image.flip(3) if view.flip else image).permute(0, 2, 3, 1)
