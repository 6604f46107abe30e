"""UCF-101: class folders and split files."""

from pathlib import Path, PurePosixPath

from fastvid.data.pack.folder import video_files
from fastvid.data.pack.item import Collection, collect, file_item


def ucf101(src: Path, split: int = 1) -> dict[str, Collection]:
    """The videos in class folders below ``src``.

    Args:
        src: holds the class folders, and the split files in any folder.
        split: 1, 2 or 3 takes ``trainlist0X.txt`` and ``testlist0X.txt`` and makes the parts ``train`` and ``test``; 0
            makes one part of all videos.
    """
    paths, notes = video_files(src)
    by_name = {"/".join(PurePosixPath(path).parts[-2:]): (path, size) for path, size in paths}
    if split == 0:
        every = (file_item(src, path, size, label=PurePosixPath(path).parent.name) for path, size in paths)
        return {"": collect(src, every, notes=notes)}
    parts = {}
    for part in ("train", "test"):
        name = f"{part}list{split:02d}.txt"
        lists = sorted(src.rglob(name))
        if not lists:
            raise FileNotFoundError(f"no {name} below {src}: put the split files there, or give --split 0")
        items = []
        for line in lists[0].read_text().splitlines():
            if line.strip():
                listed = line.split()[0]  # a training list gives the class's number too
                path, size = by_name.get(listed, (listed, None))
                items.append(file_item(src, path, size, label=PurePosixPath(listed).parent.name))
        parts[part] = collect(src, items)
    return parts
