"""Samples of a tar that have pictures in place of a video."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fastvid.data.shards.tar_reader import Member
from fastvid.data.source import IMAGE_SUFFIXES
from fastvid.video.picture_archive import picture_number

PICTURES_SUFFIX = ".pictures"
"""Stands for the suffix of a sample whose frames are pictures."""

LATENTS_SUFFIX = ".latents.npy"
"""Ends the name of what a frozen model saw in the frames of a video: float16 [frames, channels, height, width]."""

TEXTS = (".json", ".cls", ".txt")
"""Suffixes of what is written about a sample."""


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


def still_images(groups: Mapping[str, Mapping[str, Member]], videos: Mapping[str, Sequence[str]]) -> dict[str, Member]:
    """Return the samples that have neither a video nor numbered pictures but one picture, with a text beside it."""
    found = {}
    for key, members in groups.items():
        if videos[key] or any(picture_number(suffix) is not None for suffix in members):
            continue
        picture = next((members[suffix] for suffix in IMAGE_SUFFIXES if suffix in members), None)
        if picture is not None and any(suffix in members for suffix in TEXTS):
            found[key] = picture
    return found
