"""A few videos of a source, with a view of each, for measuring decoders."""

from fastvid.data.source import Source, read_video
from fastvid.video import DecodeError, Limits, VideoMetadata, View, ViewSpec


def sample_views(
    source: Source, spec: ViewSpec, videos: int = 8
) -> tuple[list[tuple[bytes, View, VideoMetadata]], list[str]]:
    """Return some videos from all over a source.

    Returns:
        ((file, view, frame table) of those that can be read, a sentence on each of the others).

    Raises:
        ValueError: none can be read.
    """
    count = len(source.samples)
    samples, left_out = [], []
    for index in sorted({k * count // videos for k in range(videos)}):
        key = source.samples[index].key
        try:
            data, info = read_video(source, index, Limits())
        except DecodeError as error:
            left_out.append(f"left out {key}: {error}")
        else:
            samples.append((data, spec.draw(key, 0, 0, info), info))
    if not samples:
        raise ValueError(f"none of the videos that were tried can be used: {'; '.join(left_out)}")
    return samples, left_out
