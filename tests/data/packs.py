"""Folders of videos to pack, and what packing left."""

import gzip
import hashlib
import io
import json
import tarfile
from pathlib import Path

from fastvid.data.shards.dataset_json import Dataset
from tests.video.clips import encode

VIDEOS = [encode(n) for n in range(1, 9)]


def make(root, count=24):
    for i in range(count):
        path = root / f"class{i % 3}" / f"{i:03d}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(VIDEOS[i % len(VIDEOS)])


def content(folder):
    """Every finished file and its checksum."""
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(folder).iterdir() if p.is_file()}


def dataset_of(folder):
    return Dataset.from_bytes((folder / "dataset.json").read_bytes(), "dataset.json")


def rejects_of(folder):
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


def tar(members):
    """A tar file of these contents by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as out:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            out.addfile(info, io.BytesIO(data))
    return file.getvalue()


def make_llava(src, cut=False):
    src.mkdir()
    talks = []
    for archive in range(3):
        members = {}
        for i in range(6):
            name = f"part{archive}/{i}.mp4"
            members[name] = VIDEOS[(archive + i) % 8]
            talks.append(
                {"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": name}], "video": name}
            )
        members["part0/0.mp4" if archive else "unnamed.mp4"] = VIDEOS[0]  # again, and one that no list names
        data = gzip.compress(tar(members), 1)
        (src / f"v{archive}.tar.gz").write_bytes(data[: len(data) // 2] if cut and archive == 1 else data)
    talks.append({"conversations": [{"from": "gpt", "value": "lost"}], "video": "lost.mp4"})
    (src / "cap.json").write_text(json.dumps(talks))
