"""Samples of a tar that have pictures in place of a video."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastvid.data.shards.tar_reader import Member
from fastvid.video.picture_archive import picture_number

PICTURES_SUFFIX = ".pictures"
"""Stands for the suffix of a sample whose frames are pictures."""


def picture_samples(
    groups: Mapping[str, Mapping[str, Member]], videos: Mapping[str, Sequence[str]], shard: Path
) -> dict[str, Member]:
    """Return the samples that have no video but pictures, each as one member that covers all of its own.

    Raises:
        ValueError: the members of such a sample do not lie together.
    """
    found = {}
    for key, members in groups.items():
        if videos[key] or not any(picture_number(suffix) is not None for suffix in members):
            continue
        begin, end = min(m.begin for m in members.values()), max(m.end for m in members.values())
        if end - begin != sum(m.end - m.begin for m in members.values()):
            raise ValueError(
                f"{shard}: the pictures of the sample {key!r} do not lie together: make the tar anew with its files in "
                "the order of their names (tar --sort=name)"
            )
        found[key] = Member(key + PICTURES_SUFFIX, begin, end - begin, begin)
    return found
