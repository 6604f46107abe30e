import itertools

import pytest
import torch

from fastvid.command import UserError
from fastvid.data import EpochOrder, LoaderState
from fastvid.latents import LatentLoader, LatentManifest, MemoryLatents
from fastvid.latents.file import empty_latents

KEYS = [f"{i:02d}" for i in range(11)]
LABELS = {key: "ab"[i % 2] for i, key in enumerate(KEYS)}


def manifest(form="fp16", views=2):
    return LatentManifest(
        teacher="t", weights="w", layer="encoder", precision="float32", grid=(1, 1, 3), views={}, view_seed=0,
        views_per_clip=views, form=form, projection="none", projection_hash="", dim=4, tokens=3, token_seed=0,
        dataset="d", clips=len(KEYS) + 1, shards=1,
    )  # fmt: skip


def store(form="fp16", views=2, bad=()):
    """Of clip i and view v, every value is 2 * i + v."""
    latents = MemoryLatents(manifest(form, views))
    for i, key in reversed(list(enumerate(KEYS))):
        made = empty_latents(latents.manifest, views)
        for view in range(views):
            made.values[view] = 1 if form == "int8" else 2 * i + view
            if made.scale is not None:
                made.scale[view] = 2 * i + view
        latents.add(key, [-1 if (key, v) in bad else 1000 + 2 * i + v for v in range(views)], made)
    latents.add("a stranger", list(range(views)), empty_latents(latents.manifest, views))
    return latents


def taken(loader, batches):
    with loader:
        return list(itertools.islice(loader, batches))


@pytest.mark.parametrize("form", ["fp16", "bf16", "int8"])
def test_each_epoch_has_every_clip_once_with_its_own_view_label_and_features(form):
    rows = []
    for batch in taken(LatentLoader.from_store(store(form), LABELS, batch=4, seed=3), 11):  # four epochs of eleven
        values = batch.latents.float()
        assert batch.labels == [LABELS[key] for key in batch.keys]
        rows += zip(batch.keys, batch.view_hashes.tolist(), values.flatten(1).tolist(), strict=True)
    for epoch in range(4):
        part = rows[epoch * 11 : (epoch + 1) * 11]
        assert [int(key) for key, _, _ in part] == EpochOrder(3, epoch, [11])[:]
        for key, view_hash, values in part:
            assert view_hash == 1000 + 2 * int(key) + epoch % 2
            assert set(values) == {2.0 * int(key) + epoch % 2}


def test_ranks_and_resumed_loaders_give_the_same_global_batches():
    whole = [batch.keys for batch in taken(LatentLoader.from_store(store(), LABELS, batch=4, seed=0), 6)]
    halves = [taken(LatentLoader.from_store(store(), LABELS, batch=4, seed=0, rank=r, world=2), 6) for r in (0, 1)]
    assert [[a[0], b[0], a[1], b[1]] for a, b in zip(*([x.keys for x in h] for h in halves), strict=True)] == whole
    loader = LatentLoader.from_store(store(), LABELS, batch=4, seed=0)
    taken(loader, 2)
    assert loader.state == LoaderState(0, 8)
    later = taken(LatentLoader.from_store(store(), LABELS, batch=4, seed=0, state=loader.state), 4)
    assert [batch.keys for batch in later] == whole[2:]


def test_a_clip_that_lacks_a_view_is_left_out_and_none_at_all_is_refused():
    loader = LatentLoader.from_store(store(bad={("03", 1)}), LABELS, batch=2, seed=0)
    assert len(loader.loader.rows) == 10
    assert "03" not in {key for batch in taken(loader, 10) for key in batch.keys}
    with pytest.raises(UserError, match="none of the 1 training videos"):
        LatentLoader.from_store(store(), {"nobody": "a"}, batch=2, seed=0)
    with pytest.raises(ValueError, match=r"3 clips .* 2"):
        LatentLoader.from_store(store(), LABELS, batch=3, seed=0, world=2)


def test_what_is_not_in_memory_is_an_error():
    with pytest.raises(KeyError):
        store().read(["00"], [17])
    assert torch.equal(store().read(["05"], [1011]).values, torch.full((1, 3, 4), 11.0, dtype=torch.float16))
