import json
import os

import pytest
import torch

from fastvid.data import LoaderState, open_source, subset
from fastvid.data.source import read_video
from fastvid.latents import LatentCache, LatentLoader, LatentManifest
from fastvid.latents.file import LatentFileWriter, empty_latents
from fastvid.latents.manifest import dataset_hash
from fastvid.video import Limits, ViewSpec
from tests.data.loading import train_loader
from tests.video.clips import encode

SPEC = ViewSpec(frames=4, size=16)
VIEW_SEED, VIEWS, TOKENS, DIM = 7, 2, 3, 5


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for k in range(12):
        (folder / f"{k:02d}.mp4").write_bytes(encode(12 + k))
    return open_source(folder)


def manifest(source, **changes) -> LatentManifest:
    facts = {
        "teacher": "t", "weights": "w", "layer": "last", "precision": "float32", "grid": (2, 2, 2),
        "views": SPEC.fingerprint, "view_seed": VIEW_SEED, "views_per_clip": VIEWS, "form": "int8",
        "projection": "none", "projection_hash": "", "dim": DIM, "tokens": TOKENS, "token_seed": 0,
        "dataset": dataset_hash("nowhere", source), "clips": 12, "shards": 2,
    }  # fmt: skip
    return LatentManifest(**(facts | changes))


def value(key: str, view: int) -> int:
    """What the test writes for a view of a clip."""
    return int(key[:2]) * VIEWS + view


def write(folder, source, made: LatentManifest | None = None) -> LatentManifest:
    """A cache in two files whose latents say which view they are of."""
    made = made or manifest(source)
    folder.mkdir(exist_ok=True)
    made.save(folder)
    for name, rows in (("a", range(5)), ("b", range(5, 12))):
        with LatentFileWriter(folder / f"{name}.safetensors", made) as writer:
            for row in reversed(rows):  # the order in a file means nothing
                key = source.samples[row].key
                latents = empty_latents(made, VIEWS)
                for view in range(VIEWS):
                    latents.values[view] = value(key, view)
                latents.scale[:] = 0.5
                latents.tokens[:] = torch.tensor([1, 4, 6])
                writer.add(key, hashes_of(source, row), latents)
            writer.commit()
    return made


def hashes_of(source, row: int) -> list[int]:
    key = source.samples[row].key
    _, info = read_video(source, row, Limits())
    return [SPEC.draw(key, VIEW_SEED, draw, info).hash for draw in range(VIEWS)]


def test_latents_are_found_by_key_and_hash(source, tmp_path):
    write(tmp_path / "c", source)
    cache = LatentCache(tmp_path / "c")
    assert len(cache) == 12
    assert cache.views == SPEC
    for row in (11, 0, 5):
        key = source.samples[row].key
        for view, view_hash in enumerate(hashes_of(source, row)):
            latents = cache.read([key], [view_hash])
            assert (latents.float() == value(key, view) / 2).all()
            assert latents.tokens.tolist() == [[1, 4, 6]]
    with pytest.raises(KeyError, match=r"new\.mp4 has no latents"):
        cache.read(["new.mp4"], [0])
    with pytest.raises(ValueError, match="the view about to be used has hash -1"):
        cache.read([source.samples[0].key], [-1])


def test_reading_writes_nothing(source, tmp_path):
    folder = tmp_path / "c"
    write(folder, source)
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()}
    for path in folder.iterdir():
        path.chmod(0o444)
    folder.chmod(0o555)
    try:
        cache = LatentCache(folder)
        cache.read([source.samples[3].key], [hashes_of(source, 3)[1]])
        assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in folder.iterdir()} == before
    finally:
        folder.chmod(0o755)


def test_any_flipped_bit_is_found_or_does_not_matter(source, tmp_path):
    write(tmp_path / "c", source)
    path = tmp_path / "c" / "a.safetensors"
    whole = path.read_bytes()
    clips = [(source.samples[row].key, view_hash) for row in range(5) for view_hash in hashes_of(source, row)]
    keys, hashes = zip(*clips, strict=True)
    right = LatentCache(tmp_path / "c").read(keys, hashes)
    end_of_header = len(whole[:4096].rstrip())
    refused = named = harmless = 0
    for position in [*range(0, end_of_header, 3), *range(4096, len(whole))]:
        path.write_bytes(whole[:position] + bytes([whole[position] ^ (1 << position % 8)]) + whole[position + 1 :])
        try:
            read = LatentCache(tmp_path / "c").read(keys, hashes)
        except ValueError as error:
            named += "a.safetensors" in str(error)
            refused += 1
        else:
            assert torch.equal(read.values, right.values), position
            assert torch.equal(read.scale, right.scale), position
            assert torch.equal(read.tokens, right.tokens), position
            harmless += 1
    assert named == refused > 20 * max(1, harmless)


def test_truncated_files_are_named(source, tmp_path):
    write(tmp_path / "c", source)
    path = tmp_path / "c" / "b.safetensors"
    whole = path.read_bytes()
    for length in (0, 7, 100, 4095, 4096, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"b\.safetensors is damaged"):
            LatentCache(tmp_path / "c")


def test_a_file_of_another_cache_is_refused(source, tmp_path):
    write(tmp_path / "c", source)
    write(tmp_path / "other", source, manifest(source, weights="others"))
    os.replace(tmp_path / "other" / "a.safetensors", tmp_path / "c" / "a.safetensors")
    with pytest.raises(ValueError, match=r"a\.safetensors belongs to another cache"):
        LatentCache(tmp_path / "c")


def test_an_incomplete_or_missing_cache_is_refused(source, tmp_path):
    write(tmp_path / "c", source)
    (tmp_path / "c" / "a.safetensors").unlink()
    with pytest.raises(ValueError, match="1 of 2 shards"):
        LatentCache(tmp_path / "c")
    with pytest.raises(FileNotFoundError, match=r"it has no manifest\.json; `python -m fastvid\.cache` makes it"):
        LatentCache(tmp_path)


def test_the_first_manifest_stays(source, tmp_path):
    made = write(tmp_path / "c", source)
    manifest(source, weights="others").save(tmp_path / "c")
    assert LatentManifest.load(tmp_path / "c") == made


def test_a_fingerprint_has_the_fields_that_matter():
    for spec in (SPEC, ViewSpec(sampling="stride", stride=3), ViewSpec(sampling="fps", fps=2.5, flip=0.0)):
        facts = json.loads(json.dumps(spec.fingerprint))
        assert ViewSpec.from_fields(facts) == spec
        assert ("stride" in facts, "fps" in facts) == (spec.sampling == "stride", spec.sampling == "fps")


def test_the_dataset_hash_is_of_dataset_json_or_else_of_keys_and_sizes(source, tmp_path):
    from fastvid.data import Dataset
    from fastvid.data.shards.dataset_json import ShardInfo, save_dataset

    folder = tmp_path / "videos"
    first = dataset_hash(folder, source)
    assert first.startswith("keys and sizes ")
    (folder / "12.mp4").write_bytes(encode(5))
    assert dataset_hash(folder, open_source(folder)) != first
    (folder / "12.mp4").unlink()
    assert dataset_hash(folder, open_source(folder)) == first
    dataset = Dataset((ShardInfo("a.tar", 12, 1, "0" * 64, 1, "1" * 64),))
    save_dataset(folder, dataset)
    assert dataset_hash(folder, source) == f"dataset.json {dataset.hash}"


def test_a_loader_draws_the_views_of_a_cache(source):
    with train_loader(source, SPEC, batch=12, seed=0, view_seed=VIEW_SEED, views=VIEWS) as loader:
        for epoch in range(4):
            batch = next(loader)
            rows = [int(key[:2]) for key in batch.keys]
            assert batch.view_hashes.tolist() == [hashes_of(source, row)[epoch % VIEWS] for row in rows]


def batches(source, cache, count, **options):
    arguments = {"batch": 4, "seed": 0, "view_seed": VIEW_SEED, "views": VIEWS, **options}
    with LatentLoader(train_loader(source, SPEC, **arguments), cache) as loader:
        return [(next(loader), loader.state) for _ in range(count)]


def test_batches_come_with_their_latents(source, tmp_path):
    write(tmp_path / "c", source)
    cache = LatentCache(tmp_path / "c")
    plain = train_loader(source, SPEC, batch=4, seed=0, view_seed=VIEW_SEED, views=VIEWS)
    with plain:
        expected = [(next(plain), plain.state) for _ in range(9)]
    for (batch, state), (other, other_state) in zip(batches(source, cache, 9), expected, strict=True):
        assert (batch.keys, state) == (other.keys, other_state)
        assert torch.equal(batch.clips, other.clips)
        epoch = (state.epoch * 12 + state.sample - 4) // 12
        assert batch.latents.values[:, 0, 0].tolist() == [value(key, epoch % VIEWS) for key in batch.keys]


def test_a_part_of_the_videos_finds_its_latents(source, tmp_path):
    write(tmp_path / "c", source)
    cache = LatentCache(tmp_path / "c")
    part = subset(source, [k % 3 > 0 for k in range(12)])
    for batch, _ in batches(part, cache, 2):
        assert batch.latents.values[:, 0, 0].tolist() == [value(key, 0) for key in batch.keys]


def test_resuming_with_latents_is_two_numbers(source, tmp_path):
    write(tmp_path / "c", source)
    cache = LatentCache(tmp_path / "c")
    through = batches(source, cache, 7)
    for k in (1, 4):
        for (a, _), (b, _) in zip(through[k:], batches(source, cache, 7 - k, start=through[k - 1][1]), strict=True):
            assert a.keys == b.keys
            assert torch.equal(a.latents.values, b.latents.values)


def test_a_view_that_is_not_cached_stops_the_loader(source, tmp_path):
    write(tmp_path / "c", source)
    cache = LatentCache(tmp_path / "c")
    with LatentLoader(train_loader(source, SPEC, batch=4, seed=0), cache) as loader:
        assert loader.state == LoaderState()
        for _ in range(2):  # and it stays stopped
            with pytest.raises(ValueError, match="make the cache anew"):
                next(loader)
        assert loader.state == LoaderState()


def test_a_bad_video_is_replaced_and_its_substitute_has_the_right_latents(source, tmp_path):
    write(tmp_path / "c", source)
    (tmp_path / "videos" / "06.mp4").write_bytes(b"rubbish")
    for batch, _ in batches(open_source(tmp_path / "videos"), LatentCache(tmp_path / "c"), 3):
        assert batch.latents.values[:, 0, 0].tolist() == [value(key, 0) for key in batch.keys]
        assert "06.mp4" not in batch.keys


def test_memory_of_latents_is_counted(source, tmp_path):
    made = write(tmp_path / "c", source)
    loader = train_loader(source, SPEC, batch=4, seed=0)
    with LatentLoader(loader, LatentCache(tmp_path / "c")) as both:
        assert both.ram_bound() == loader.ram_bound() + 4 * (loader.clip_bytes + 3 * made.view_bytes)
        assert made.view_bytes == TOKENS * (DIM + 2 + 4)


def test_views_of_another_version_are_refused(source):
    views = {**SPEC.fingerprint, "shear": 0.5}
    with pytest.raises(ValueError, match="drawn by another version"):
        _ = manifest(source, views=views).view_spec
