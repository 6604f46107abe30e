"""The training view of a sample: drawn by the spec, and not mirrored where mirroring would change its class."""

from collections.abc import Collection
from dataclasses import replace

from fastvid.data.source import Sample
from fastvid.video import VideoInfo, View, ViewSpec


def training_view(
    spec: ViewSpec, sample: Sample, seed: int, draw: int, info: VideoInfo, no_flip: Collection[str] = ()
) -> View:
    """:meth:`fastvid.video.ViewSpec.draw`, never mirrored for labels in ``no_flip``: a pure function of its arguments.

    Frames and box are those drawn with flips allowed, so that exempting one class moves nothing else; the view's hash is
    that of the clip as it really is.
    """
    view = spec.draw(sample.key, seed, draw, info)
    return replace(view, flip=False) if sample.label in no_flip else view
