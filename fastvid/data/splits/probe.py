"""Videos split in two, for probes of a model that was trained without labels."""

from fastvid.data.labels.part_folders import TEST, TRAIN
from fastvid.data.source import Source, classes_of
from fastvid.data.sources.subset import split_by_key
from fastvid.data.splits.groups import group_finder
from fastvid.data.splits.known_videos import only_listed, part_of_source, videos_of, with_labels
from fastvid.data.splits.protocols import Request, assign
from fastvid.data.splits.visible import Facts, visible_split


def hold_out(source: Source, share: float) -> tuple[Source | None, Source | None, list[str]]:
    """Split videos in two for probes: by the split that the data set shows, else by a hash of the keys.

    Args:
        source: the videos; those without a label may be trained on.
        share: share of the labelled videos in the second part, where the data set shows no split. With fewer
            than two classes there is nothing to probe, and all videos are in the first part.

    Returns:
        (training part, labelled test part, sentences on how they came about), None for a part with nothing in it. A
        validation part that the data set shows is in neither, but where it has no labelled test part.

    Raises:
        ValueError: the split that it shows does not fit the videos.
    """
    found = visible_split(Facts.from_videos(videos_of(source)), None)
    if found is None:
        classes = classes_of(source)
        if len(classes) < 2:
            why = f"all labelled videos are of {classes[0]!r}" if classes else "no video has a label"
            return source, None, [f"split: none, since the data set shows none and {why}: there is nothing to probe"]
        rest, held = split_by_key(source, share)
        count = 0 if held is None else len(held.samples)
        why = f"since the data set shows none: {count} of {len(source.samples)} videos are held out for the probes"
        return rest, held, [f"split: protocol hash, {why}, {share:.0%} of those with a label, chosen by key"]
    videos, notes = only_listed(videos_of(source))
    notes.append(f"split: protocol {found.protocol}, since {found.why}")
    videos = with_labels(videos, found.protocol, notes)
    request = Request((0.7, 0.15, 0.15), 0, group_finder(None, ()), validation=False)
    parts = assign(found.protocol, videos, request)
    notes += parts.notes
    train, test = parts.videos[TRAIN], [video for video in parts.videos[TEST] if video.label is not None]
    names = sorted({video.label for video in (*train, *test) if video.label is not None})
    return (
        part_of_source(source, train, names) if train else None,
        part_of_source(source, test, names) if test else None,
        notes,
    )
