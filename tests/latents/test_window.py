"""A sliding-window cache of latents, and the loader that slides it."""

import dataclasses
import logging
import socket

import pytest
import torch

from fastvid.data import Latents, LoaderState, open_source
from fastvid.latents import LatentLoader, LatentManifest, LatentWindow
from fastvid.latents.window import window_bytes
from fastvid.video import ViewSpec
from tests.data.loading import train_loader
from tests.data.test_sources import write_tar
from tests.video.clips import encode

SPEC = ViewSpec(frames=4, size=16, scale=(0.3, 0.9))
MANIFEST = LatentManifest(
    teacher="t", weights="w", layer="last", precision="float32", grid=(1, 2, 2), views={}, view_seed=0,
    views_per_clip=1, form="fp16", projection="none", projection_hash="", dim=3, tokens=4, token_seed=0,
    dataset="d", clips=24, shards=6,
)  # fmt: skip


def latents(hashes, form="fp16"):
    """What a teacher would say of views with these hashes."""
    values = torch.tensor(hashes).remainder(1000).double().view(-1, 1, 1).expand(-1, 4, 3)
    if form == "int8":
        return Latents(values.remainder(100).to(torch.int8), torch.ones(len(hashes), 4, dtype=torch.float16))
    return Latents(values.half().contiguous())


@pytest.fixture
def shards(tmp_path):
    """Six shards of four videos."""
    folder, video = tmp_path / "shards", encode(12)
    folder.mkdir()
    for shard in range(6):
        write_tar(folder / f"{shard}.tar", {f"{shard}{i}.mp4": video for i in range(4)})
    return open_source(folder)


@pytest.mark.parametrize("form", ["fp16", "int8"])
def test_what_was_added_is_read_by_key_and_view_also_by_others(tmp_path, form):
    manifest = dataclasses.replace(MANIFEST, form=form)
    window = LatentWindow(tmp_path / "w", manifest, 10**6)
    window.add(0, ["a", "b"], [11, 12], latents([11, 12], form))
    read, missing = window.find(["b", "c", "a", "a"], [12, 13, 11, 99])
    assert missing == [1, 3]
    assert torch.equal(read.float()[[0, 2]], latents([12, 11], form).float())
    other = LatentWindow(tmp_path / "w", manifest, 10**6)
    assert other.find(["a", "b"], [11, 12])[1] == []
    window.add(1, ["c"], [13], latents([13], form))
    window.flush()
    assert other.find(["c"], [13])[1] == []  # though it came after the other had opened
    window.evict_outside(1)
    assert window.find(["a", "c"], [11, 13])[1] == [0]
    assert other.find(["a", "c"], [11, 13])[1] == [0]
    window.close()
    other.close()


def test_latents_of_another_teacher_are_not_taken_for_these(tmp_path):
    window = LatentWindow(tmp_path, MANIFEST, 10**6)
    window.add(0, ["a"], [1], latents([1]))
    window.close()
    other = dataclasses.replace(MANIFEST, weights="others")
    assert LatentWindow(tmp_path, other, 10**6).find(["a"], [1])[1] == [0]
    assert not list(tmp_path.glob("*.safetensors"))
    assert LatentManifest.load(tmp_path).weights == "others"


def test_what_goes_beyond_the_budget_is_not_kept_and_said_once(tmp_path, caplog):
    window = LatentWindow(tmp_path, MANIFEST, 3 * (MANIFEST.view_bytes + 4608))
    with caplog.at_level(logging.WARNING):
        for i in range(8):
            window.add(0, [str(i)], [i], latents([i]))
            window.flush()
            assert window.bytes() <= 3 * (MANIFEST.view_bytes + 4608)
    missing = window.find([str(i) for i in range(8)], range(8))[1]
    assert missing
    assert missing == list(range(missing[0], 8))
    assert len(caplog.records) == 1
    assert "the teacher will be asked for them again" in caplog.text


def test_a_damaged_file_is_named_and_its_latents_are_missing(tmp_path, caplog):
    window = LatentWindow(tmp_path, MANIFEST, 10**6)
    window.add(0, ["a"], [1], latents([1]))
    window.flush()
    (path,) = tmp_path.glob("*.safetensors")
    data = bytearray(path.read_bytes())
    data[4100] ^= 1
    path.write_bytes(data)
    assert window.find(["a"], [1])[1] == [0]
    assert path.name in caplog.text
    assert "damaged" in caplog.text
    assert not path.exists()
    window.add(0, ["a"], [1], latents([1]))
    assert window.find(["a"], [1])[1] == []


def test_latents_that_cannot_be_stored_stop_the_run(tmp_path):
    window = LatentWindow(tmp_path, MANIFEST, 10**6)

    def check(latents):
        raise ValueError("no numbers")

    window.add(0, ["a"], [1], latents([1]), check)
    with pytest.raises(ValueError, match="no numbers"):
        window.flush()


def test_what_a_killed_process_left_unfinished_is_removed(tmp_path):
    host = socket.gethostname()
    left, others = tmp_path / f".x.safetensors.{host}.4194304.part", tmp_path / ".x.safetensors.elsewhere.1.part"
    left.write_bytes(b"x")
    others.write_bytes(b"x")
    LatentWindow(tmp_path, MANIFEST, 10**6)
    assert not left.exists()
    assert others.exists()


def test_window_numbers_go_up_where_shards_are_empty(tmp_path):
    folder, video = tmp_path / "shards", encode(12)
    folder.mkdir()
    for shard in range(5):
        write_tar(folder / f"{shard}.tar", {f"{shard}.mp4": video} if shard % 2 else {})
    source = open_source(folder)
    loader = LatentLoader(
        train_loader(source, SPEC, batch=1, seed=0, window=2, echo=2), LatentWindow(tmp_path / "w", MANIFEST, 10**6)
    )
    with loader:
        numbers = [next(loader).windows[1] for _ in range(40)]
    assert numbers == sorted(numbers)


def test_what_a_run_with_other_windows_left_goes_at_the_start(shards, tmp_path):
    window = LatentWindow(tmp_path, MANIFEST, 10**6)
    for number in (0, 1, 7):
        window.add(number, [str(number)], [number], latents([number]))
    window.close()
    taught(shards, tmp_path, 1)
    assert not list(tmp_path.glob("000000007-*"))
    assert list(tmp_path.glob("000000001-*"))


def taught(source, folder, steps, *, echo=3, state=None, batch=3, **options):
    """Trains nothing: for each step its keys, latents and what was missing, and the window's bytes."""
    most = window_bytes(source.shard_sizes, 2, MANIFEST.view_bytes, batch)
    loader = train_loader(source, SPEC, batch=batch, seed=0, window=2, echo=echo, start=state, **options)
    out = []
    with LatentLoader(loader, LatentWindow(folder, MANIFEST, most)) as batches:
        for _ in range(steps):
            made = next(batches)
            shown = made.view_hashes.tolist()
            known, missing = batches.store.find(made.keys, shown)
            if missing:
                new = latents([shown[i] for i in missing])
                known.values[missing] = new.values
                keys, hashes = [made.keys[i] for i in missing], [shown[i] for i in missing]
                batches.store.add(made.windows[1], keys, hashes, new)
            asked = {(made.keys[i], shown[i]) for i in missing}
            out.append((made.keys, shown, known.values, len(asked), batches.state))
            assert batches.store.bytes() <= most
    return out


def test_the_teacher_is_asked_once_for_each_view_of_a_window(shards, tmp_path):
    steps = taught(shards, tmp_path / "w", 2 * 3 * 24 // 3)  # two epochs, each window three times
    shown = [(key, view) for keys, hashes, *_ in steps for key, view in zip(keys, hashes, strict=True)]
    assert len(shown) == 144
    assert len(set(shown)) == 48
    assert sum(missing for *_, missing, _ in steps) == 48
    for _, hashes, values, _, _ in steps:
        assert torch.equal(values, latents(hashes).values)
    assert steps[-1][-1] == LoaderState(2, 0)


def test_a_run_that_stops_anywhere_goes_on_with_what_it_had(shards, tmp_path):
    whole = taught(shards, tmp_path / "whole", 40)
    for stop in (1, 5, 11, 17, 30):
        folder = tmp_path / str(stop)
        before = taught(shards, folder, stop)
        after = taught(shards, folder, 40 - stop, state=before[-1][-1])
        asked = sum(missing for *_, missing, _ in before + after)
        assert asked == sum(missing for *_, missing, _ in whole)
        for a, b in zip(before + after, whole, strict=True):
            assert a[:2] == b[:2]
            assert torch.equal(a[2], b[2])


def test_two_processes_share_a_window(shards, tmp_path):
    def alternately(world):
        loaders = [
            LatentLoader(
                train_loader(shards, SPEC, batch=4, seed=0, window=2, echo=3, rank=rank, world=world),
                LatentWindow(tmp_path / str(world), MANIFEST, 10**6),
            )
            for rank in range(world)
        ]
        keys, asked = [], 0
        for _ in range(18):
            step = []
            for loader in loaders:
                batch = next(loader)
                shown = batch.view_hashes.tolist()
                _, missing = loader.store.find(batch.keys, shown)
                asked += len({batch.keys[i] for i in missing})
                names, hashes = [batch.keys[i] for i in missing], [shown[i] for i in missing]
                loader.store.add(batch.windows[1], names, hashes, latents(hashes))
                loader.store.flush()
                step += batch.keys
            keys.append(sorted(step))
        for loader in loaders:
            loader.close()
        return keys, asked

    one, two = alternately(1), alternately(2)
    assert one[0] == two[0]
    assert one[1] == two[1] == 24
