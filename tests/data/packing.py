"""Packs a folder with small shards, in a process of its own: ``packing.py SRC OUT JOBS SHARD_BYTES [TRANSCODE]``."""

import sys
from pathlib import Path

from fastvid.data.pack.folder import folder
from fastvid.data.pack.prepare import Treatment
from fastvid.data.pack.run import Packing, pack
from fastvid.data.pack.target import FolderTarget
from fastvid.video.transcode import Normalisation


def pack_folder(src, out, jobs=0, shard_bytes=20_000, transcode=False, collection=None):
    treatment = Treatment(normal=Normalisation(short_side=32) if transcode else None)
    packing = Packing(shard_bytes=shard_bytes, treatment=treatment, jobs=jobs)
    collection = collection or folder(Path(src))[""]
    return pack(collection, FolderTarget(Path(out)), Path(out) / ".pack", packing, {}, lambda done, total: None)


if __name__ == "__main__":
    source, target, processes, size, *transcode = sys.argv[1:]
    pack_folder(source, target, int(processes), int(size), bool(transcode))
