"""Samples of a tar with several videos: what they are called, and how to choose one."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from fastvid.data.shards.tar_reader import Member
from fastvid.data.walk import such_as

_NAMED = 5  # names in a sentence


def several_videos(
    shard: Path, videos: Mapping[str, Sequence[str]], members: Mapping[str, Mapping[str, Member]]
) -> str:
    """Describe a sample that has several videos, the names in all samples, and what each choice keeps.

    Args:
        shard: the tar.
        videos: for each sample's key the suffixes of its videos, such as ``".left.mp4"``.
        members: a sample's members by suffix.
    """
    key = next(key for key, suffixes in videos.items() if len(suffixes) > 1)
    names = such_as([members[key][suffix].name for suffix in videos[key]])
    counts = Counter(suffix for suffixes in videos.values() for suffix in suffixes)
    best, kept = counts.most_common(1)[0]
    return (
        f"{shard}: the sample {key!r} has {len(videos[key])} videos ({names}; a key ends at the first dot). Of "
        f"{sum(map(bool, videos.values()))} samples, so many have {counted_names(videos.values())}. Choose one with "
        f"`python -m fastvid.data index {shard.parent} --video {best[1:]}`, or with --video of pack --format "
        f"webdataset: this one keeps {kept} of {counts.total()} videos. To keep all of them, as samples of their own, "
        "unpack the tar and give the folder to pack --format folder, whose keys have _ for dots"
    )


def counted_names(videos: Iterable[Sequence[str]]) -> str:
    """List the names of samples' videos with the number of samples that have each, the most frequent first."""
    counts = Counter(suffix for suffixes in videos for suffix in suffixes).most_common()
    said = ", ".join(f"{suffix[1:]} ({count})" for suffix, count in counts[:_NAMED])
    return said + (f" and {len(counts) - _NAMED} other names" if len(counts) > _NAMED else "")
