"""Labelled videos that are just bytes, and what the parts they are split into must be."""

from fastvid.data import Sample, ShardWriter
from tests.data.test_sources import VIDEO

PARTS = ("train", "val", "test")


class Memory:
    """Videos that are just bytes, by key; a key's label is the folder it is in."""

    def __init__(self, keys, labels=None, content=None):
        labels = labels or {}
        self.samples = [Sample(k, labels[k] if k in labels else k.rpartition("/")[0] or None) for k in keys]
        self.shard_sizes = [len(self.samples)]
        self.description = f"{len(self.samples)} videos in memory"
        self._content = content or {}
        self.reads = 0

    def classes(self):
        return sorted({s.label for s in self.samples if s.label is not None})

    def prefetch(self, current, upcoming):
        pass

    def size(self, index):
        return len(self._content.get(self.samples[index].key, self.samples[index].key))

    def read(self, index):
        self.reads += 1
        key = self.samples[index].key
        return self._content.get(key, key.encode())


def plain(classes="abc", each=60):
    return [f"{c}/{i:04d}.mp4" for c in classes for i in range(each)]


def ucf(classes=("Archery", "Bowling"), groups=25, clips=4):
    return [f"{c}/v_{c}_g{g:02d}_c{k:02d}" for c in classes for g in range(1, groups + 1) for k in range(1, clips + 1)]


def ntu(performers=range(1, 41), actions=(1, 8, 9, 23, 30, 31), cameras=(1, 2, 3)):
    return [f"S001C{c:03d}P{p:03d}R001A{a:03d}_rgb" for p in performers for a in actions for c in cameras]


def keys(source):
    return [sample.key for sample in source.samples]


def parts_of(splits):
    return {key: part for part in PARTS for key in keys(getattr(splits, part))}


def check_whole(splits, wanted):
    """The parts hold each wanted video once, with its label among the classes, in the source's order."""
    together = [key for part in PARTS for key in keys(getattr(splits, part))]
    assert sorted(together) == sorted(wanted)
    for part in PARTS:
        source = getattr(splits, part)
        assert source.classes() == splits.classes
        assert all(sample.label in splits.classes for sample in source.samples)
        assert sum(source.shard_sizes) == len(source.samples)
        mine = set(keys(source))
        assert keys(source) == [key for key in wanted if key in mine]


def write_shards(folder, names, label):
    with ShardWriter(folder, folder.name) as writer:
        for name in names:
            writer.add(name, ".mp4", VIDEO, label=label(name))
